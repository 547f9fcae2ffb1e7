"""Penalties on activations."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdrop import _checks, _predictions, _sums
from jaxdrop._strengths import check_pair, check_strength
from jaxdrop._types import Numeric, PyTree

Pair = Numeric | tuple[Numeric, Numeric]
# Means of activations are clipped this far from 0 and 1, where the divergence is infinite.
_NEAREST = 1e-6


def activity(activations: PyTree, strength: Pair, *, batch_axis: int = 0) -> jax.Array:
    """Activity penalty: the batch mean of `a * sum(|h|) + b * sum(h**2)` for `strength = (a, b)`.

    Keras's `activity_regularizer`: summed over each example, averaged over the batch. AWD-LSTM's
    mean over all elements is `losses.activation_regularization`.

    Args:
      activations: Array `[B, ...]` or a tree of them, such as Linen's `intermediates`.
      strength: Finite, non-negative pair (l1, l2), or one scalar for both; may be traced.
      batch_axis: Axis of the batch: 1 for the intermediates of layers under `nn.scan` or `nn.vmap`,
        `[L, B, ...]`, which a tree must not mix with others.

    Returns:
      A scalar. The gradient at 0 is 0.

    Raises:
      TypeError: If an array is not floating-point.
      ValueError: If `strength` is neither a scalar nor a pair, a concrete strength is negative or
        not finite, an array has no such axis, or the arrays differ in the size of their batch.

    Examples:
      >>> activity(jnp.array([[1.0, -2.0], [3.0, 0.0]]), (0.1, 0.0))
      Array(0.3, dtype=float32)
    """
    a, b = map(check_strength, check_pair(strength))
    found = _batches(activations, batch_axis)
    return _sums.total((a * _sums.absolute(h) + b * _sums.squares(h)) / max(len(h), 1) for h in found)


def kl_sparsity(activations: PyTree, strength: Numeric, *, target: float, batch_axis: int = 0) -> jax.Array:
    """Sparsity penalty: keeps each unit's mean activation near a target, `strength * sum(KL(t || m))`.

    With t = `target` and m a unit's mean over the batch, the divergence is that of two Bernoulli
    distributions: `t * log(t / m) + (1 - t) * log((1 - t) / (1 - m))`. It needs activations in
    [0, 1], such as sigmoids, or `tanh` of a ReLU.

    Args:
      activations: Array `[B, ...]` with values in [0, 1], or a tree of them; all axes except
        that of the batch are units.
      strength: Finite, non-negative scalar; may be traced.
      target: Target of the mean activation, in (0, 1).
      batch_axis: Axis of the batch: 1 for the intermediates of layers under `nn.scan` or `nn.vmap`,
        `[L, B, ...]`, which a tree must not mix with others.

    Returns:
      A scalar, NaN if a mean of traced activations is outside [0, 1]. Means are clipped to
      [1e-6, 1 - 1e-6]; clipped means have no gradient.

    Raises:
      TypeError: If an array is not floating-point.
      ValueError: If a concrete strength is negative or not finite, the target is outside (0, 1),
        a mean of concrete activations is outside [0, 1], an array has no such axis, or the arrays
        differ in the size of their batch.

    References:
      Lee, Ekanadham and Ng, "Sparse deep belief net model for visual area V2", 2008; a baseline of
      Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Examples:
      >>> kl_sparsity(jnp.array([[0.0, 0.2], [1.0, 0.0]]), 1.0, target=0.1).round(4)
      Array(0.3681, dtype=float32)
    """
    t = _checks.check_number(target, "target")
    if not 0 < t < 1:
        raise ValueError(f"`target` must lie in (0, 1), got {t:g}.")

    def divergence(h: jax.Array) -> jax.Array:
        mean = _checks.check_rate(jnp.mean(h, 0), "activations")
        near = jnp.where((mean >= 0) & (mean <= 1), jnp.clip(mean, _NEAREST, 1 - _NEAREST), jnp.nan)
        return jnp.sum(t * jnp.log(t / near) + (1 - t) * jnp.log((1 - t) / (1 - near)))

    strength = check_strength(strength)
    return _sums.total(map(divergence, filter(len, _batches(activations, batch_axis)))) * strength


def _batches(activations: PyTree, batch_axis: int) -> Sequence[jax.Array]:
    """The arrays, their batch axis first."""
    found = [_predictions.as_wide(h, "activations") for h in jax.tree.leaves(activations)]
    for h in found:
        _checks.check_rank(h, 1, "[B, ...]", "activations")
    first = [jnp.moveaxis(h, _checks.check_axes((batch_axis,), h.ndim, "batch_axis"), (0,)) for h in found]
    if len(sizes := sorted({len(h) for h in first})) > 1:
        raise ValueError(
            "`activations` must share the size of their batch (layers under `nn.scan` have it at "
            f"`batch_axis=1`), got sizes {', '.join(map(str, sizes))} along axis {batch_axis}."
        )
    return first
