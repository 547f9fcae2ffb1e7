"""Scores of regression: proper scoring rules, coverage of intervals, and sharpness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty import _ensembles

__all__ = ["coverage", "crps", "crps_gaussian", "gaussian_nll", "pinball", "sharpness"]


def gaussian_nll(
    mean: ArrayLike, variance: ArrayLike, y: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Gaussian negative log likelihood, including the constant, in nats.

    Args:
      mean: Predicted means, `[...]`.
      variance: Predicted variances, of the shape of `mean` or one that broadcasts to it. At least the
        smallest normal number, 1.2e-38 in float32, below which XLA takes numbers for 0. A traced
        variance below gives NaN.
      y: Targets, of the shape of `mean`.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of shape `[...]`, one value per target; in float32 at least. NaN where
      masked, so average with `jnp.mean(..., where=where)`.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        variances too small or infinite.

    Examples:
      >>> gaussian_nll(jnp.zeros(1), jnp.ones(1), jnp.ones(1))
      Array([1.4189385], dtype=float32)
    """
    off, variance, where = _ensembles.check_normal(mean, variance, y, where, "variance")
    _predictions.check_positive(variance, "variance")
    smallest = jnp.finfo(variance.dtype).tiny
    if _checks.is_concrete(variance):
        expected = f"be at least {smallest:g}, the smallest normal number of {variance.dtype}"
        _checks.check_all(variance, "variance", expected, lambda values: values >= smallest)
    variance = jnp.where(variance >= smallest, variance, jnp.nan)
    # Neither 2 pi times a large variance nor the square of a large distance overflows.
    z = off / jnp.sqrt(variance)
    return _predictions.filled(0.5 * (float(np.log(2 * np.pi)) + jnp.log(variance) + z**2), where, jnp.nan)


def crps(
    samples: ArrayLike, y: ArrayLike, *, fair: bool = False, where: ArrayLike | None = None
) -> jax.Array:
    """CRPS, the continuous ranked probability score of samples, exact in time T log T.

    It is `mean(|x - y|) - mean(|x - x'|) / 2` over the samples and over all their pairs, including each
    sample with itself: the score of the empirical distribution. It has the units of the target. For one
    sample it is the absolute error.

    Args:
      samples: Samples of each prediction, `[T, ...]`, with the axis of samples first.
      y: Targets, `[...]`.
      fair: Whether pairs of a sample with itself are left out: with independent samples the mean is then
        the score of their distribution, whatever T. Needs T of at least 2.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of shape `[...]`, one value of at least 0 per target; in float32 at least. NaN
      where masked, so average with `jnp.mean(..., where=where)`.

    Raises:
      TypeError: If an argument is not real, `fair` is not a bool, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, concrete values are NaN, or `fair` is
        true for one sample.

    References:
      Matheson and Winkler, "Scoring rules for continuous probability distributions", 1976; the
      sorted form: Laio and Tamea, "Verification tools for probabilistic forecasts of continuous
      hydrological variables", 2007; `fair`: Ferro, "Fair scores for ensemble forecasts", 2014.

    Examples:
      >>> crps(jnp.array([[0.0], [2.0]]), jnp.array([1.0]))
      Array([0.5], dtype=float32)
    """
    samples, y, where = _ensembles.check_ensemble(samples, y, where)
    count = len(samples)
    _ensembles.check_fair(fair, count)
    distance = _predictions.ascending(_ensembles.shifted(samples, y, where))
    level = np.arange(count) / (count - 1) if fair else (np.arange(count) + 0.5) / count
    level = jnp.asarray(level, distance.dtype).reshape(-1, *[1] * (distance.ndim - 1))
    # Twice the mean pinball loss of the order statistics: all terms are non-negative, so none cancel.
    weight = jnp.where(distance > 0, 1 - level, -level)
    score = 2 * jnp.mean(weight * jnp.where(weight == 0, 0, distance), axis=0)
    return _predictions.filled(score, where, jnp.nan)


def crps_gaussian(
    mean: ArrayLike, stddev: ArrayLike, y: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """CRPS, the continuous ranked probability score of a normal distribution, in closed form.

    Args:
      mean: Predicted means, `[...]`.
      stddev: Predicted standard deviations, at least 0, of the shape of `mean` or one that
        broadcasts to it. Where it is 0 the score is its limit, the absolute error.
      y: Targets, of the shape of `mean`.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of shape `[...]`, one value of at least 0 per target; in float32 at least. NaN
      where masked, so average with `jnp.mean(..., where=where)`.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        deviations negative.

    References:
      Gneiting et al., "Calibrated probabilistic forecasting using ensemble model output statistics
      and minimum CRPS estimation", 2005.

    Examples:
      >>> crps_gaussian(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.ones(2)).round(4)
      Array([0.6024, 1.    ], dtype=float32)
    """
    off, stddev, where = _ensembles.check_normal(mean, stddev, y, where)
    _checks.check_nonnegative(stddev, "stddev")
    score = _ensembles.mean_absolute(off, stddev) - np.pi**-0.5 * stddev
    return _predictions.filled(score, where, jnp.nan)


def pinball(
    quantiles: ArrayLike, y: ArrayLike, level: Numeric, *, where: ArrayLike | None = None
) -> jax.Array:
    """Pinball loss of predicted quantiles, which the true quantile minimizes.

    It is `level * (y - q)` if the target is above the quantile, and `(1 - level) * (q - y)` if below.

    Args:
      quantiles: Predicted quantiles: of the shape of `y`, or `[Q, ...]` with a leading axis of levels.
      y: Targets, `[...]`.
      level: The level of the quantiles, in (0, 1): a scalar, or an array `[Q]`; may be traced.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of the shape of `quantiles`, each value at least 0; in float32 at least. NaN where
      masked, so average with `jnp.mean(..., where=where)`.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        levels outside (0, 1).

    References:
      Koenker and Bassett, "Regression quantiles", 1978.

    Examples:
      >>> pinball(jnp.array([[0.0], [3.0]]), jnp.array([2.0]), jnp.array([0.25, 0.75]))
      Array([[0.5 ],
             [0.25]], dtype=float32)
    """
    where = _predictions.check_mask(where, np.shape(y))
    each = None if where is None else _predictions.check_mask(where, np.shape(quantiles))
    quantiles = _predictions.check_exact(quantiles, "quantiles", each)
    y = _predictions.check_exact(y, "y", where)
    level = _predictions.check_values(_predictions.check_level(level), "level")
    if level.ndim > 1 or quantiles.shape != level.shape + y.shape:
        raise ValueError(
            "`quantiles` must have the shape of `level`, () or (Q,), followed by that of `y`, "
            f"{level.shape} and {y.shape}, got {quantiles.shape}."
        )
    above = _predictions.shifted(y.reshape((1,) * level.ndim + y.shape), quantiles)
    above = _predictions.filled(above, each, 0)
    level = level.astype(above.dtype).reshape(level.shape + (1,) * y.ndim)
    return _predictions.filled(jnp.where(above >= 0, level, level - 1) * above, each, jnp.nan)


def coverage(
    lower: ArrayLike, upper: ArrayLike, y: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Coverage: the share of targets within their intervals, ends included.

    Args:
      lower: Lower ends, of the shape of `y`; may be infinite.
      upper: Upper ends, of the shape of `y`; an interval with `upper < lower` is empty.
      y: Targets, `[...]`.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Scalar in [0, 1], in float32 at least; NaN if no target is selected. It has no gradient. Concrete
      float64 numbers are compared before they are cast.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes differ, or concrete values are NaN.

    Examples:
      >>> coverage(jnp.zeros(4), jnp.ones(4), jnp.array([0.5, 1.0, 1.5, 0.0]))
      Array(0.75, dtype=float32)
    """
    where = _predictions.check_mask(where, np.shape(y))
    y = _predictions.check_exact(y, "y", where)
    ends = []
    for end, name in ((lower, "lower"), (upper, "upper")):
        end = _predictions.check_exact(end, name, where if np.shape(end) == np.shape(y) else None)
        _ensembles.check_shape_of(end, y, name, "y")
        ends.append(end)
    given = [_predictions.widened(value) for value in (*ends, y)]
    low, high, targets = _predictions.ranked(*ends, y)
    inside = ((low <= targets) & (targets <= high)).astype(_checks.widest(*given))
    # A comparison with a NaN is a miss, which it is not.
    known = ~functools.reduce(jnp.logical_or, map(jnp.isnan, given))
    return jnp.mean(jnp.where(known, inside, jnp.nan), where=_device(where))


def sharpness(stddev: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Sharpness: the root mean predicted variance, in the units of the target.

    Smaller is sharper. It is meaningful only together with a score or a coverage.

    Args:
      stddev: Predicted standard deviations, at least 0, of any shape.
      where: Boolean mask of those that count, which broadcasts to `stddev`. None: all.

    Returns:
      Scalar, in float32 at least; NaN if none is selected. Its gradient is 0 where all are 0.

    Raises:
      TypeError: If `stddev` is not real, or `where` is not boolean.
      ValueError: If it is empty, or concrete values are negative, infinite or NaN.

    References:
      Gneiting, Balabdaoui and Raftery, "Probabilistic forecasts, calibration and sharpness", 2007;
      as a root mean square: Tran et al., "Methods for comparing uncertainty quantifications for
      material property predictions", 2020.

    Examples:
      >>> sharpness(jnp.array([3.0, 4.0]))
      Array(3.535534, dtype=float32)
    """
    where = _predictions.check_mask(where, np.shape(stddev))
    stddev = _predictions.filled(_predictions.check_values(stddev, "stddev", where), where, 0)
    _checks.check_nonnegative(stddev, "stddev")
    unit = _ensembles.scale_of(stddev, axes=tuple(range(stddev.ndim)))
    mean = jnp.mean((stddev / unit) ** 2, where=_device(where))
    return unit.reshape(()) * _ensembles.safe_sqrt(mean)


def _device(where: ArrayLike | None) -> jax.Array | None:
    return None if where is None else jnp.asarray(where)
