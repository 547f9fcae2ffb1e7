"""Monte-Carlo batch normalization of a Linen model: the statistics of random training minibatches."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax

from jaxdrop._types import PyTree
from jaxdrop.linen._control import with_fields
from jaxdrop.mc import _calls, _minibatches, _sites
from jaxdrop.mc._minibatches import MinibatchPredictor

__all__ = ["mc_batch_norm"]

# A separate context: a module under `nn.jit` must not take the trace of another pass.
_LEARNING = _sites.Answer(forced=frozenset({("statistics of a minibatch", True)}))


def mc_batch_norm(
    model: nn.Module, variables: PyTree, data: PyTree, *, batch_size: int, **kwargs: PyTree
) -> MinibatchPredictor:
    """Monte-Carlo batch normalization: each sample has the BatchNorm statistics of a drawn minibatch.

    A sample draws `batch_size` different training examples by its key, passes them through the model with
    BatchNorm as in training, and then predicts x with these means and variances. All else is at rest. The
    samples are independent, so standard errors are those of any predictor. A sample costs a pass of the
    minibatch, too.

    Args:
      model: A Linen module with `flax.linen.BatchNorm`.
      variables: Variables of the model, with the collection "batch_stats".
      data: Training inputs, `[N, ...]`, of which x could be a batch. They are kept on the device.
      batch_size: The size of a minibatch as in training, at least 2.
      **kwargs: Arguments of the call as in evaluation (`train=False`); no arrays or keys.

    Returns:
      A predictor `predict(key, x)`, which is a pytree. Predictors of one model object share compiled
      programs.

    Raises:
      TypeError: If `model` is not a Linen module, or an argument holds an array.
      ValueError: If the model calls no BatchNorm, or `batch_size` is not in [2, N].

    References:
      Teye, Azizpour and Smith, "Bayesian uncertainty estimation for batch normalized deep networks", 2018.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxdrop import mc
      >>> net = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=True)])
      >>> data = jax.random.normal(jax.random.key(0), (100, 3))
      >>> variables = net.init(jax.random.key(1), data)
      >>> predict = mc_batch_norm(net, variables, data, batch_size=32)
      >>> mc.sample(predict, jax.random.key(2), data[:5], num_samples=10).shape
      (10, 5, 4)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a Linen module, got {type(model).__name__}.")
    static = _minibatches.static_arguments(kwargs)
    batch = _minibatches.check_data(data, batch_size)
    call = _Call(_Same(model), static)
    found: list[str] = []
    jax.eval_shape(partial(call.with_statistics, found=found), variables, batch)
    if not found:
        raise ValueError("`model` must call `flax.linen.BatchNorm`, got no call of it.")
    return MinibatchPredictor(variables, data, call, batch_size)


class _Same:
    """A model, compared by identity: a module need not be hashable."""

    def __init__(self, model: nn.Module):
        self.model = model

    def __eq__(self, other: object) -> bool:
        return self.model is other.model if isinstance(other, _Same) else NotImplemented

    def __hash__(self) -> int:
        return id(self.model)


@dataclass(frozen=True)
class _Call:
    """Two passes of a model: one for statistics, and one with them."""

    of: _Same
    kwargs: tuple[_calls.Static, ...]

    def __call__(self, variables: PyTree, batch: PyTree, x: PyTree) -> PyTree:
        """The outputs for x, with the statistics of the batch."""
        named = {one.name: one.value for one in self.kwargs}
        return self.of.model.apply(self.with_statistics(variables, batch, []), x, **named)

    def with_statistics(self, variables: PyTree, batch: PyTree, found: list[str]) -> PyTree:
        """The variables with the statistics of a batch; notes the modules that have some."""
        named = {one.name: one.value for one in self.kwargs}
        with _sites.answer(_LEARNING), nn.intercept_methods(partial(_learn, found)):
            _, written = self.of.model.apply(variables, batch, mutable=["batch_stats"], **named)
        return {**variables, **written}


def _learn(
    found: list[str],
    call: Callable[..., PyTree],
    args: tuple[PyTree, ...],
    kwargs: dict[str, PyTree],
    context: nn.module.InterceptorContext,
) -> PyTree:
    """Lets BatchNorm normalize by its batch, and store just that batch's statistics."""
    module = context.module
    if not isinstance(module, nn.BatchNorm) or context.method_name != "__call__":
        return call(*args, **kwargs)
    found.append("/".join(module.path))
    # Flax wants the mode in one place.
    kwargs = {name: value for name, value in kwargs.items() if name != "use_running_average"}
    # A minibatch is not split over devices, as batches of training may be.
    with with_fields(module, {"use_running_average": False, "momentum": 0.0, "axis_name": None}):
        return call(*args[:1], **kwargs)
