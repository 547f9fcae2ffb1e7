"""Monte-Carlo batch normalization of an NNX model: the statistics of random training minibatches."""

from collections.abc import Iterator
from dataclasses import dataclass

from flax import nnx

from jaxdrop._types import PyTree
from jaxdrop.mc import _calls, _minibatches
from jaxdrop.mc._minibatches import MinibatchPredictor

__all__ = ["mc_batch_norm"]


def mc_batch_norm(
    model: nnx.Module, data: PyTree, *, batch_size: int, **kwargs: PyTree
) -> MinibatchPredictor:
    """Monte-Carlo batch normalization: each sample has the BatchNorm statistics of a drawn minibatch.

    A sample draws `batch_size` different training examples by its key, passes them through the model with
    BatchNorm as in training, and then predicts x with these means and variances. All else is at rest, as by
    `model.eval()`, and the model stays as it is. The samples are independent, so standard errors are those
    of any predictor. A sample costs a pass of the minibatch, too. A model that gives its BatchNorm
    `use_running_average` in the call cannot be used so.

    Args:
      model: An NNX module with `flax.nnx.BatchNorm`.
      data: Training inputs, `[N, ...]`, of which x could be a batch. They are kept on the device.
      batch_size: The size of a minibatch as in training, at least 2.
      **kwargs: Arguments of the call as in evaluation; no arrays or keys.

    Returns:
      A predictor `predict(key, x)`, which is a pytree. Predictors of models of one structure share compiled
      programs.

    Raises:
      TypeError: If `model` is not an NNX module, or an argument holds an array.
      ValueError: If the model has no BatchNorm, or `batch_size` is not in [2, N].

    References:
      Teye, Azizpour and Smith, "Bayesian uncertainty estimation for batch normalized deep networks", 2018.

    Examples:
      >>> import jax
      >>> from jaxdrop import mc
      >>> rngs = nnx.Rngs(0)
      >>> net = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs))
      >>> data = jax.random.normal(jax.random.key(0), (100, 3))
      >>> predict = mc_batch_norm(net, data, batch_size=32)
      >>> mc.sample(predict, jax.random.key(2), data[:5], num_samples=10).shape
      (10, 5, 4)
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(f"`model` must be an nnx.Module, got {type(model).__name__}.")
    if not list(_norms(model)):
        raise ValueError("`model` must have an `nnx.BatchNorm`, got none.")
    static = _minibatches.static_arguments(kwargs)
    _minibatches.check_data(data, batch_size)
    graphdef, state = nnx.split(model)
    return MinibatchPredictor(state, data, _Call(graphdef, static), batch_size)


def _norms(model: nnx.Module) -> Iterator[nnx.BatchNorm]:
    return (node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.BatchNorm))


@dataclass(frozen=True)
class _Call:
    """Two passes of a model: one for statistics, and one with them."""

    graphdef: nnx.GraphDef[nnx.Module]
    kwargs: tuple[_calls.Static, ...]

    def __call__(self, variables: PyTree, batch: PyTree, x: PyTree) -> PyTree:
        """The outputs for x, with the statistics of the batch."""
        model: PyTree = nnx.merge(self.graphdef, variables, copy=True)
        named = {one.name: one.value for one in self.kwargs}
        model.eval()
        for norm in _norms(model):
            # Just the statistics of this batch are stored, which is not split over devices.
            norm.use_running_average, norm.momentum, norm.axis_name = False, 0.0, None
        model(batch, **named)
        for norm in _norms(model):
            norm.use_running_average = True
        return model(x, **named)
