"""Predictors that draw a minibatch of training examples by their key."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass

from jaxdrop import _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _calls, _devices, _program


@partial(register_dataclass, data_fields=["variables", "data"], meta_fields=["call", "batch_size"])
@dataclass(frozen=True, eq=False)
class MinibatchPredictor:
    """`predict(key, x)`, a pytree whose leaves are the model's variables and the training inputs.

    Attributes:
      variables: Variables of the model.
      data: Training inputs, `[N, ...]`.
      call: `call(variables, minibatch, x)`, hashable.
      batch_size: The number of examples of a minibatch.
    """

    variables: PyTree
    data: PyTree
    call: Callable[[PyTree, PyTree, PyTree], PyTree]
    batch_size: int

    def __call__(self, key: Key, x: PyTree) -> PyTree:
        """Draws one sample: the outputs of the model, normalized by the statistics of a drawn minibatch.

        Args:
          key: A PRNG key, used once.
          x: Inputs of the model.

        Returns:
          Outputs of the model.
        """
        rows = np.shape(jax.tree.leaves(self.data)[0])[0]
        chosen = jax.random.choice(key, rows, (self.batch_size,), replace=False)
        batch = _devices.on_automatic_axes(_take, self.data, chosen)
        return self.call(self.variables, batch, x)


def _take(data: PyTree, chosen: jax.Array) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], data)


def check_data(data: PyTree, batch_size: int) -> PyTree:
    """Checks training inputs and the size of a minibatch; returns the types of one."""
    _calls.check_inputs(data)
    rows = _program.check_batch(data, "data")
    if _checks.check_count(batch_size, "batch_size", 2) > rows:
        raise ValueError(f"`batch_size` must be at most {rows}, the number of examples, got {batch_size}.")
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((batch_size, *leaf.shape[1:]), leaf.dtype), data)


def static_arguments(kwargs: dict[str, PyTree]) -> tuple[_calls.Static, ...]:
    """The other arguments of a call, which must not be arrays."""
    arrays, static = _calls.split_static(kwargs)
    if arrays:
        raise TypeError(
            f"`{next(iter(arrays))}` must not hold arrays; wrap a model that needs some in another."
        )
    return static
