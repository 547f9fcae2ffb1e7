"""Scores of samples of several outputs at once, which see whether their dependence is right."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Numeric, PyTree
from jaxdrop.uncertainty import _ensembles

__all__ = ["energy_score", "variogram_score"]

_AXES = "[T, ..., D]"


def energy_score(
    samples: ArrayLike, y: ArrayLike, *, fair: bool = False, where: ArrayLike | None = None
) -> jax.Array:
    """Energy score: the CRPS of samples of D outputs, with Euclidean distances.

    It is `mean(||x - y||) - mean(||x - x'||) / 2` over the samples and over all their pairs, including each
    sample with itself. For one output it is the CRPS; for one sample, the distance. It takes time T^2, and
    memory that is linear in T. Outputs count by their units: standardize them if the units differ.

    Args:
      samples: Samples of each prediction, `[T, ..., D]`, with the axis of samples first.
      y: Targets, `[..., D]`.
      fair: Whether pairs of a sample with itself are left out: the mean is then the score of the
        distribution of the samples, whatever T, of independent samples. Needs T of at least 2.
      where: Boolean mask that broadcasts to the examples, `[...]`. Those that it leaves out may hold
        anything. None: all.

    Returns:
      Array of shape `[...]`, one value of at least 0 per example, but for rounding; in float32 at least.
      NaN where masked, so average with `jnp.mean(..., where=where)`.

    Raises:
      TypeError: If an argument is not real, `fair` is not a boolean, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, concrete values are non-finite, or
        `fair` is true for one sample.

    References:
      Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007.

    Examples:
      >>> energy_score(jnp.array([[[0.0, 0.0]], [[6.0, 8.0]]]), jnp.array([[3.0, 4.0]]))
      Array([2.5], dtype=float32)
    """
    samples, y, where = _ensembles.check_ensemble(samples, y, where, axes=_AXES, features=1)
    _ensembles.check_fair(fair, len(samples))
    off = _ensembles.shifted(samples, y, where, features=1)
    off = _predictions.check_finite(off, "samples - y")
    score = _meshes.on_automatic_axes(functools.partial(_energy, fair=fair), off, out=_examples(off))
    return _predictions.filled(score, where, jnp.nan)


def variogram_score(
    samples: ArrayLike,
    y: ArrayLike,
    *,
    order: Numeric = 0.5,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Variogram score: whether the differences between outputs are as large as predicted.

    It is the sum over all outputs i and j of `w[i, j] * (|y_i - y_j|^p - mean(|x_i - x_j|^p))^2`. It is
    proper, and sees wrong correlations that the energy score hardly sees; but not a shift of all outputs.

    Args:
      samples: Samples of each prediction, `[T, ..., D]`, with the axis of samples first.
      y: Targets, `[..., D]`, of at least 2 outputs.
      order: The exponent p, above 0: a scalar; may be traced. Usual are 0.5 and 1.
      weights: Weight of each pair, `[D, D]`, at least 0. None: all 1.
      where: Boolean mask that broadcasts to the examples, `[...]`. Those that it leaves out may hold
        anything. None: all.

    Returns:
      Array of shape `[...]`, one value of at least 0 per example; in float32 at least. NaN where masked,
      so average with `jnp.mean(..., where=where)`. Where two outputs are equal its gradient is 0.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, there is one output, or concrete values
        are non-finite, the order not above 0 or weights negative.

    References:
      Scheuerer and Hamill, "Variogram-based proper scoring rules for probabilistic forecasts of
      multivariate quantities", 2015.

    Examples:
      >>> variogram_score(jnp.array([[[0.0, 1.0]], [[0.0, 9.0]]]), jnp.array([[0.0, 4.0]]), order=1)
      Array([2.], dtype=float32)
    """
    samples, y, where = _ensembles.check_ensemble(samples, y, where, axes=_AXES, features=1)
    count = np.shape(y)[-1]
    if count < 2:
        raise ValueError(f"`y` must have at least 2 outputs along the last axis, got shape {np.shape(y)}.")
    order = _predictions.check_positive(_checks.check_scalar(order, "order"), "order")
    _predictions.check_finite(jnp.asarray(order), "order")
    weights = np.ones((count, count), np.float32) if weights is None else weights
    weights = _predictions.check_values(weights, "weights")
    if weights.shape != (count, count):
        raise ValueError(f"`weights` must be of shape [D, D], {(count, count)}, got {weights.shape}.")
    _checks.check_nonnegative(weights, "weights")
    # An offset of all outputs does not count, but would cost digits.
    first = y[..., :1]
    target = _predictions.check_finite(_ensembles.shifted(y[None], first, where, features=1), "y")
    x = _predictions.check_finite(_ensembles.shifted(samples, first, where, features=1), "samples")
    score = _meshes.on_automatic_axes(_variogram, x, target, order, weights, out=_examples(x))
    return _predictions.filled(score, where, jnp.nan)


@functools.partial(jax.jit, static_argnames="fair")
def _energy(off: jax.Array, fair: bool) -> jax.Array:
    scale = _ensembles.scale_of(off, axes=(0, -1))
    off = off / scale

    def distance(x: jax.Array, other: jax.Array | float = 0.0) -> jax.Array:
        return _ensembles.safe_sqrt(jnp.sum((x - other) ** 2, axis=-1))

    count = len(off)
    spread = _ensembles.sum_over_pairs(distance, off) / (count * max(count - fair, 1))
    return (jnp.mean(distance(off), axis=0) - spread) * scale[0, ..., 0]


@jax.jit
def _variogram(x: jax.Array, y: jax.Array, order: Numeric, weights: jax.Array) -> jax.Array:
    order = jnp.asarray(order).astype(x.dtype)
    order = jnp.where(order > 0, order, jnp.nan)
    scale = _ensembles.scale_of(x, y, axes=(0, -1))
    x, y = (jnp.moveaxis(array / scale, -1, 0) for array in (x, y))

    def power(difference: jax.Array) -> jax.Array:
        size = jnp.abs(difference)
        return jnp.where(size == 0, 0, jnp.where(size == 0, 1, size) ** order)

    def distance(one: PyTree, other: PyTree) -> jax.Array:
        (i, x, y), (j, others, target) = one, other
        off = power(y - target)[:, 0] - jnp.mean(power(x - others), axis=1)
        both = (weights[i, j] + weights[j, i]).astype(off.dtype)
        return both.reshape(-1, *[1] * (off.ndim - 1)) * off**2

    index = jnp.arange(len(x), dtype=jnp.int32)
    return _ensembles.sum_over_pairs(distance, (index, x, y)) * scale[0, ..., 0] ** (2 * order)


def _examples(x: jax.Array) -> jax.sharding.PartitionSpec:
    """How the examples of samples `[T, ..., D]` are sharded."""
    return jax.sharding.PartitionSpec(*_meshes.partition(x)[1:-1])
