"""Calibration of predicted distributions: PIT, reliability of quantiles, and of standard deviations."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Key
from jaxdrop.uncertainty import _bins, _ensembles

__all__ = ["QuantileReliability", "ence", "pit", "pit_gaussian", "quantile_reliability"]


class QuantileReliability(NamedTuple):
    """Reliability of quantiles: how often targets are below them.

    Attributes:
      level: The levels of the quantiles, `[Q]`.
      share: The share of targets that are at most their quantile, `[Q]`.
      total: The number of targets, a scalar.
      error: Miscalibration: the mean over the levels of `|share - level|`, a scalar.
    """

    level: jax.Array
    share: jax.Array
    total: jax.Array
    error: jax.Array


def pit(
    samples: ArrayLike, y: ArrayLike, *, key: Key | None = None, where: ArrayLike | None = None
) -> jax.Array:
    """PIT, the probability integral transform of samples: the relative rank of the target among them.

    With `b` samples below the target and `e` equal to it, the value lies between `b / (T + 1)` and
    `(b + e + 1) / (T + 1)`: uniformly with a key, in the middle without. With a key it is uniform on
    [0, 1] if the target is one more sample, whatever T, also for counts and other values with ties.

    Args:
      samples: Samples of each prediction, `[T, ...]`, with the axis of samples first; only their order
        counts, and that of concrete float64 numbers is found before they are cast.
      y: Targets, `[...]`.
      key: A PRNG key, used once. None: the middle of the interval.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of shape `[...]`, one value in [0, 1] per target; in float32 at least. NaN where masked, or
      where a traced value is NaN. It has no gradient.

    Raises:
      TypeError: If an argument is not real, `key` is not a PRNG key, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN.

    References:
      Hamill, "Interpretation of rank histograms for verifying ensemble forecasts", 2001; Czado, Gneiting
      and Held, "Predictive model assessment for count data", 2009.

    Examples:
      >>> pit(jnp.array([[1.0], [2.0], [4.0]]), jnp.array([3.0]))
      Array([0.625], dtype=float32)
    """
    samples, y, where = _ensembles.check_ensemble(samples, y, where)
    key = None if key is None else _checks.check_key(key)
    dtype = _checks.widest(_predictions.widened(samples), _predictions.widened(y))
    known = ~(jnp.isnan(jnp.asarray(samples)).any(0) | jnp.isnan(jnp.asarray(y)))
    samples, y = _predictions.ranked(samples, y)
    count = len(samples) + 1
    below = jnp.sum(samples < y[None], axis=0, dtype=jnp.int32).astype(dtype)
    width = jnp.sum(samples == y[None], axis=0, dtype=jnp.int32).astype(dtype) + 1
    share = 0.5 if key is None else _uniform(key, y, dtype)
    return _predictions.filled(jnp.where(known, (below + share * width) / count, jnp.nan), where, jnp.nan)


def pit_gaussian(
    mean: ArrayLike, stddev: ArrayLike, y: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """PIT, the probability integral transform of a normal distribution: the probability up to the target.

    It is uniform on [0, 1] if the predictions are right.

    Args:
      mean: Predicted means, `[...]`.
      stddev: Predicted standard deviations, at least 0, of the shape of `mean` or one that broadcasts to
        it. Where it is 0 and the mean is the target, the value is 0.5.
      y: Targets, of the shape of `mean`.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of shape `[...]`, one value in [0, 1] per target; in float32 at least. NaN where masked.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        deviations negative or infinite.

    References:
      Dawid, "Statistical theory: the prequential approach", 1984.

    Examples:
      >>> pit_gaussian(jnp.zeros(2), jnp.ones(2), jnp.array([0.0, 9.0]))
      Array([0.5, 1. ], dtype=float32)
    """
    off, stddev, where = _ensembles.check_normal(mean, stddev, y, where)
    _checks.check_nonnegative(stddev, "stddev")
    return _predictions.filled(_ensembles.normal_cdf(off, stddev), where, jnp.nan)


def quantile_reliability(
    quantiles: ArrayLike, y: ArrayLike, level: ArrayLike, *, where: ArrayLike | None = None
) -> QuantileReliability:
    """Reliability of quantiles: the share of targets that are at most their predicted quantile, per level.

    Args:
      quantiles: Predicted quantiles, `[Q, ...]`, with the axis of levels first.
      y: Targets, `[...]`.
      level: The levels of the quantiles, in (0, 1): an array `[Q]`; may be traced.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out do not count, and may hold
        anything. None: all.

    Returns:
      A `QuantileReliability`; its shares and its error are NaN if no target is selected, and where a
      traced value is NaN. Concrete float64 numbers are compared before they are cast.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        levels outside (0, 1).

    References:
      Kuleshov, Fenner and Ermon, "Accurate uncertainties for deep learning using calibrated
      regression", 2018; the mean absolute gap: Chung et al., "Uncertainty toolbox", 2021.

    Examples:
      >>> reliability = quantile_reliability(jnp.ones((1, 4)), jnp.arange(4.0), jnp.array([0.75]))
      >>> reliability.share, reliability.error
      (Array([0.5], dtype=float32), Array(0.25, dtype=float32))
    """
    quantiles, y, where = _ensembles.check_ensemble(quantiles, y, where, name="quantiles", axes="[Q, ...]")
    level = _predictions.check_values(_predictions.check_level(_predictions.exact(level)), "level")
    if level.shape != np.shape(quantiles)[:1]:
        expected = f"the length of `quantiles`, {np.shape(quantiles)[:1]}"
        raise ValueError(f"`level` must have one axis, of {expected}, got {level.shape}.")
    unknown = jnp.isnan(jnp.asarray(quantiles)) | jnp.isnan(jnp.asarray(y))[None]
    quantiles, y = _predictions.ranked(quantiles, y)
    used = jnp.ones(y.shape, bool) if where is None else jnp.asarray(where)
    axes = tuple(range(1, quantiles.ndim))
    total = jnp.sum(used, dtype=jnp.int32)
    below = jnp.sum((y[None] <= quantiles) & used[None], axis=axes, dtype=jnp.int32).astype(level.dtype)
    lost = jnp.any(unknown & used[None], axis=axes) | (total == 0)
    share = jnp.where(lost, jnp.nan, below / jnp.maximum(total, 1).astype(level.dtype))
    return QuantileReliability(level, share, total, jnp.mean(jnp.abs(share - level)))


def ence(
    mean: ArrayLike,
    stddev: ArrayLike,
    y: ArrayLike,
    *,
    bins: int = 15,
    where: ArrayLike | None = None,
) -> jax.Array:
    """ENCE, the expected normalized calibration error of standard deviations.

    Targets are put into bins of equally many, by their predicted deviation. The error of a bin is
    `|RMV - RMSE| / RMV`, with the root mean predicted variance RMV, and the root mean squared error RMSE.
    It is 0 for a large data set if the deviations are right, and grows with the noise of a bin's RMSE:
    to about `0.56 * sqrt(bins / N)` for N normal errors.

    Args:
      mean: Predicted means, `[...]`.
      stddev: Predicted standard deviations, above 0, of the shape of `mean` or one that broadcasts to it.
      y: Targets, of the shape of `mean`.
      bins: The number of bins, at least 1. Equal deviations share a bin, and empty bins do not count.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out do not count, and may hold
        anything. None: all.

    Returns:
      Scalar, the mean over the bins, at least 0; in float32 at least. NaN if no target is selected, or if
      traced values are NaN or deviations not above 0.

    Raises:
      TypeError: If an argument is not real, `bins` is not an integer, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, `bins` is below 1, or concrete values
        are non-finite or deviations not above 0.

    References:
      Levi et al., "Evaluating and calibrating uncertainty prediction in regression tasks", 2022.

    Examples:
      >>> ence(jnp.zeros(4), jnp.array([1.0, 1.0, 2.0, 2.0]), jnp.array([1.0, -1.0, 1.0, 1.0]), bins=2)
      Array(0.25, dtype=float32)
    """
    _checks.check_count(bins, "bins")
    off, stddev, where = _ensembles.check_normal(mean, stddev, y, where)
    _predictions.check_finite(off, "y - mean")
    _predictions.check_finite(_predictions.check_positive(stddev, "stddev"), "stddev")
    stddev = jnp.broadcast_to(stddev, off.shape)
    used = jnp.ones(off.shape, bool) if where is None else jnp.asarray(where)
    of_bins = functools.partial(_ence, bins=bins)
    return _meshes.on_automatic_axes(of_bins, off.reshape(-1), stddev.reshape(-1), used.reshape(-1))


def _uniform(key: Key, y: jax.Array, dtype: np.dtype) -> jax.Array:
    """Uniform numbers in [0, 1), of the shape and sharding of the targets."""

    def drawn(key: Key) -> jax.Array:
        return jax.random.uniform(key, y.shape, dtype)

    return _meshes.on_automatic_axes(drawn, key, out=_meshes.partition(y))


@functools.partial(jax.jit, static_argnames="bins")
def _ence(off: jax.Array, stddev: jax.Array, used: jax.Array, bins: int) -> jax.Array:
    fixed = jax.lax.stop_gradient(stddev)
    index = jnp.where(used, _bins.equal_mass(fixed, used, bins), bins)  # beyond the bins, where it is dropped
    # In units of the bin's largest deviation no square overflows, or is lost.
    largest = jnp.zeros(bins, off.dtype).at[index].max(fixed, mode="drop")
    count = jnp.zeros(bins, jnp.int32).at[index].add(1, mode="drop")
    unit = jnp.where(count > 0, largest, 1)[jnp.minimum(index, bins - 1)]
    variance = _bins.sums_of((stddev / unit) ** 2, index, bins)
    square = _bins.sums_of((off / unit) ** 2, index, bins)
    ratio = _ensembles.safe_sqrt(jnp.where(count > 0, square / jnp.where(count > 0, variance, 1), 1))
    error = jnp.sum(jnp.abs(1 - ratio)) / jnp.sum(count > 0).astype(off.dtype)
    known = ~jnp.any(used & ~(stddev > 0)) & (count > 0).any()
    return jnp.where(known, error, jnp.nan)
