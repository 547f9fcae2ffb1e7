"""An NNX model as parameters, a state and a loss, for `jaxdrop.training`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdrop import _selection
from jaxdrop._types import Key, PyTree
from jaxdrop.nnx import _forwarding, _streams
from jaxdrop.training import StatefulLossFn, TrainState, _loss_fn

__all__ = ["Filter", "ModelLossFn", "Trainable", "trainable"]

# `loss_fn(model, key, batch) -> (loss, aux)`; the user's own types of models and batches.
ModelLossFn = Callable[[PyTree, Key, PyTree], tuple[jax.Array, PyTree]]
# A type of variables, or another filter of NNX.
Filter = nnx.filterlib.Filter
# Modules that overwrite the parameters of their layer with what they compute from them.
_REPARAMETRIZING = (nnx.SpectralNorm, nnx.WeightNorm)
_RETURNS = "`loss_fn` must return `(loss, aux)`"


class _Static(NamedTuple):
    """What is the same in all steps and runs; hashable.

    Attributes:
      graphdef: The model without its variables.
      wrt: Which variables are parameters.
      streams: The structure of the state of the streams.
      shapes: The shapes of its leaves.
    """

    graphdef: nnx.GraphDef[nnx.Module]
    wrt: Filter
    streams: PyTree
    shapes: tuple[tuple[int, ...], ...]

    def model(self, params: PyTree, model_state: PyTree, key: Key) -> tuple[nnx.Module, Key]:
        """The model, its streams begun anew, and a further key."""
        # The values are replaced.
        streams = self.streams.unflatten([jnp.zeros(shape, jnp.uint32) for shape in self.shapes])
        model = nnx.merge(self.graphdef, streams, params, model_state, copy=True)
        (own,) = _streams.restart(_streams_of(model), key, 1)
        return model, own


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params", "model_state"], meta_fields=["static"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class Trainable:
    """A model that was split for training; a pytree of its variables.

    Attributes:
      params: The parameters, an `nnx.State`.
      model_state: All other variables and arrays but the streams of keys, an `nnx.State`.
      static: The model without its variables.
    """

    params: PyTree
    model_state: PyTree
    static: _Static

    def loss_fn(self, loss_fn: ModelLossFn) -> StatefulLossFn:
        """Makes the loss that `training.trainer` takes.

        Args:
          loss_fn: `loss_fn(model, key, batch) -> (loss, aux)`. It may write the model's state, such as
            batch statistics, but no parameters, and leaves the model's structure as it was. The
            streams of the model begin anew in each step, from other keys than `key`. Weights that
            `nnx.SpectralNorm` and `nnx.WeightNorm` normalize in place count as not written: the
            optimizer updates them as they were before, as in Linen.

        Returns:
          `loss_fn(params, model_state, key, batch) -> (loss, (aux, model_state))`. It raises a
          ValueError if a parameter is written, or the model changes otherwise than in its state.
        """
        static = self.static

        def of_state(
            params: PyTree, model_state: PyTree, key: Key, batch: PyTree
        ) -> tuple[jax.Array, tuple[PyTree, PyTree]]:
            def evaluate(
                params: PyTree, model_state: PyTree, key: Key, batch: PyTree
            ) -> tuple[nnx.Module, PyTree]:
                model, own = static.model(params, model_state, key)
                _loss_fn.check_takes(loss_fn, (model, own, batch), "`(model, key, batch)`")
                return model, loss_fn(model, own, batch)

            def written(params: PyTree, *others: PyTree) -> PyTree:
                return nnx.split(evaluate(params, *others)[0], nnx.RngState, static.wrt, ...)[2]

            model, found = evaluate(params, model_state, key, batch)
            if not _loss_fn.is_pair(found):
                raise TypeError(f"{_RETURNS}, got {_loss_fn.told(found)}.")
            graphdef, _, after, new = nnx.split(model, nnx.RngState, static.wrt, ...)
            _loss_fn.check_like(new, model_state, "model_state", "; take what is sown out by `nnx.pop`")
            if graphdef != static.graphdef:
                raise ValueError(
                    "`loss_fn` must leave the modules of the model, their modes and their other settings as "
                    "they were, got a model that differs; change it before `trainable`."
                )
            same = [
                one is old for one, old in zip(jax.tree.leaves(after), jax.tree.leaves(params), strict=True)
            ]
            if not all(same):
                # `nnx.remat` and `nnx.jit` hand parameters back as other arrays.
                same = _forwarding.is_forwarded(written, params, model_state, key, batch)
            _check_not_written(model, params, same)
            loss, aux = found
            return loss, (aux, new)

        return of_state

    def merge(self, state: TrainState) -> nnx.Module:
        """Puts parameters and model state back into a model.

        Args:
          state: The state of one run; of a sweep, `jax.tree.map(lambda leaf: leaf[i], states)`.

        Returns:
          A new model, whose streams begin as in the next step of the run.

        Raises:
          ValueError: If the state is that of a sweep.
        """
        if np.ndim(state.step):
            raise ValueError(
                "`state` must be that of one run, such as `jax.tree.map(lambda leaf: leaf[0], states)`, got "
                f"states of {np.shape(state.step)[0]} runs."
            )
        key = jax.random.fold_in(state.key, state.step)
        model, _ = self.static.model(state.params, state.model_state, key)
        return model


def trainable(model: nnx.Module, *, wrt: Filter = nnx.Param) -> Trainable:
    """Splits a model once, for `jaxdrop.training`: parameters, state, and a loss of the model.

    The model is taken in the mode in which it is: call `model.train()` before. It is not changed. In
    each step all of its streams begin anew from the step's key, so a resumed run continues exactly:
    n streams and the loss get `jax.random.split(key, n + 1)`, in the order of `nnx.iter_graph`, the
    loss the last. A loss of a model without streams gets the key itself.

    For a sweep make it under `jax.vmap` from the key of each run.

    Args:
      model: An NNX module.
      wrt: The variables to train: a type of variables, or another filter of NNX. All others are state.

    Returns:
      A `Trainable`.

    Raises:
      TypeError: If the model is not an `nnx.Module`.
      ValueError: If no variable is to be trained, or a key is not in a stream.

    Examples:
      >>> from jaxdrop import training
      >>> import optax
      >>> class Net(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.norm, self.dense = nnx.BatchNorm(3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)
      ...         self.dropout = nnx.Dropout(0.5, rngs=rngs)
      ...     def __call__(self, x):
      ...         return self.dense(self.dropout(self.norm(x)))
      >>> parts = trainable(Net(nnx.Rngs(0)))
      >>> loss_fn = parts.loss_fn(lambda model, key, x: (jnp.mean((model(x) - 1) ** 2), {}))
      >>> init, step = training.trainer(loss_fn, optax.adam(1e-2))
      >>> state = init(jax.random.key(0), parts.params, parts.model_state)
      >>> state, (loss, aux) = step(state, jnp.ones((8, 3)))
      >>> model = parts.merge(state)
      >>> model.norm.mean[...]
      Array([0.01, 0.01, 0.01], dtype=float32)

      A sweep of two seeds:

      >>> keys = jax.random.split(jax.random.key(0))
      >>> parts = jax.vmap(lambda key: trainable(Net(nnx.Rngs(key))))(keys)
      >>> init, step = training.sweep(lambda rate: (loss_fn, optax.sgd(rate)))
      >>> states = init(keys, parts.params, jnp.array([0.1, 0.2]), parts.model_state)
      >>> states, (losses, aux) = step(states, jnp.ones((8, 3)))
      >>> model = parts.merge(jax.tree.map(lambda leaf: leaf[0], states))
    """
    if not isinstance(model, nnx.Module):
        kind = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(f"`model` must be an instance of nnx.Module, got {kind}.")
    wrt = tuple(wrt) if isinstance(wrt, list) else wrt
    graphdef, streams, params, model_state = nnx.split(model, nnx.RngState, wrt, ...)
    if not jax.tree.leaves(params):
        names = ", ".join(_selection.paths(model_state)) or "no variables"
        raise ValueError(f"`wrt` must select variables of the model to train, got none of {names}.")
    leaves, structure = jax.tree.flatten(streams)
    if len(leaves) != 2 * len(_streams_of(model)):
        raise ValueError("`model` must hold its random state in streams, got other `nnx.RngState`s.")
    static = _Static(graphdef, wrt, structure, tuple(map(np.shape, leaves)))
    return Trainable(params, model_state, static)


def _streams_of(model: nnx.Module) -> list[nnx.RngStream]:
    return [node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.RngStream)]


def _check_not_written(model: nnx.Module, params: PyTree, same: list[bool]) -> None:
    owners = [parts for parts, node in nnx.iter_graph(model) if isinstance(node, _REPARAMETRIZING)]
    below = tuple("/".join(map(str, (*parts, "layer_instance", ""))) for parts in owners)
    leaves = zip(_selection.paths(params), same, strict=True)
    paths = [path for path, kept in leaves if not kept and not path.startswith(below)]
    if paths:
        raise ValueError(
            f"`loss_fn` must not write parameters, which the optimizer updates, got new values of "
            f"{_loss_fn.listed(paths)}; what the model writes is another kind of variable than `wrt`."
        )
