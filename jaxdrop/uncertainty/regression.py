"""Scores of regression: proper scoring rules, coverage of intervals, and sharpness."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike, Numeric

__all__ = ["coverage", "crps", "crps_gaussian", "gaussian_nll", "pinball", "sharpness"]


def gaussian_nll(mean: ArrayLike, variance: ArrayLike, y: ArrayLike) -> jax.Array:
    """Gaussian negative log likelihood, including the constant, in nats.

    Args:
      mean: Predicted means, `[...]`.
      variance: Predicted variances, above 0, of the shape of `mean` or one that broadcasts to it. A
        traced variance of 0 or below gives NaN.
      y: Targets, of the shape of `mean`.

    Returns:
      Array of shape `[...]`, one value per target; in float32 at least.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        variances not above 0.

    Examples:
      >>> gaussian_nll(jnp.zeros(1), jnp.ones(1), jnp.ones(1))
      Array([1.4189385], dtype=float32)
    """
    mean, y = _pair(mean, y, "mean")
    variance = _fitting(variance, mean, "variance", "mean")
    _predictions.check_positive(variance, "variance")
    return 0.5 * (jnp.log(2 * np.pi * variance) + (y - mean) ** 2 / variance)


def crps(samples: ArrayLike, y: ArrayLike) -> jax.Array:
    """CRPS, the continuous ranked probability score of samples, exact in time T log T.

    It is `mean(|x - y|) - mean(|x - x'|) / 2` over the samples and over all their pairs, including each
    sample with itself: the score of the empirical distribution. It has the units of the target. For one
    sample it is the absolute error.

    Args:
      samples: Samples of each prediction, `[T, ...]`, with the axis of samples first.
      y: Targets, `[...]`.

    Returns:
      Array of shape `[...]`, one value of at least 0 per target; in float32 at least.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN.

    References:
      Matheson and Winkler, "Scoring rules for continuous probability distributions", 1976; the
      sorted form: Laio and Tamea, "Verification tools for probabilistic forecasts of continuous
      hydrological variables", 2007.

    Examples:
      >>> crps(jnp.array([[0.0], [2.0]]), jnp.array([1.0]))
      Array([0.5], dtype=float32)
    """
    samples = _checks.check_rank(_predictions.check_values(samples, "samples"), 1, "[T, ...]", "samples")
    y = _predictions.check_values(y, "y")
    if y.shape != samples.shape[1:]:
        expected = f"the shape of `samples` without its first axis, {samples.shape[1:]}"
        raise ValueError(f"`y` must have {expected}, got {y.shape}.")
    distance = jnp.sort(samples, axis=0) - y[None]
    level = (np.arange(len(samples)) + 0.5) / len(samples)
    level = jnp.asarray(level, distance.dtype).reshape(-1, *[1] * y.ndim)
    # Twice the mean pinball loss of the order statistics: all terms are non-negative, so none cancel.
    return 2 * jnp.mean(jnp.where(distance > 0, 1 - level, -level) * distance, axis=0)


def crps_gaussian(mean: ArrayLike, stddev: ArrayLike, y: ArrayLike) -> jax.Array:
    """CRPS, the continuous ranked probability score of a normal distribution, in closed form.

    Args:
      mean: Predicted means, `[...]`.
      stddev: Predicted standard deviations, at least 0, of the shape of `mean` or one that
        broadcasts to it. Where it is 0 the score is its limit, the absolute error.
      y: Targets, of the shape of `mean`.

    Returns:
      Array of shape `[...]`, one value of at least 0 per target; in float32 at least.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        deviations negative.

    References:
      Gneiting et al., "Calibrated probabilistic forecasting using ensemble model output statistics
      and minimum CRPS estimation", 2005.

    Examples:
      >>> crps_gaussian(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.ones(2)).round(4)
      Array([0.6024, 1.    ], dtype=float32)
    """
    mean, y = _pair(mean, y, "mean")
    stddev = _fitting(stddev, mean, "stddev", "mean")
    _checks.check_nonnegative(stddev, "stddev")
    off = y - mean
    # Beyond 20 standard deviations all the mass is on one side, and the division needs no gradient.
    far = jnp.abs(off) > 20 * stddev
    z = jnp.where(far, 20 * jnp.sign(off), off / jnp.where(far | (stddev == 0), 1, stddev))
    return off * jax.lax.erf(z / 2**0.5) + stddev * (2 * jax.scipy.stats.norm.pdf(z) - np.pi**-0.5)


def pinball(quantiles: ArrayLike, y: ArrayLike, level: Numeric) -> jax.Array:
    """Pinball loss of predicted quantiles, which the true quantile minimizes.

    It is `level * (y - q)` if the target is above the quantile, and `(1 - level) * (q - y)` if below.

    Args:
      quantiles: Predicted quantiles: of the shape of `y`, or `[Q, ...]` with a leading axis of levels.
      y: Targets, `[...]`.
      level: The level of the quantiles, in (0, 1): a scalar, or an array `[Q]`; may be traced.

    Returns:
      Array of the shape of `quantiles`, each value at least 0; in float32 at least.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        levels outside (0, 1).

    References:
      Koenker and Bassett, "Regression quantiles", 1978.

    Examples:
      >>> pinball(jnp.array([[0.0], [3.0]]), jnp.array([2.0]), jnp.array([0.25, 0.75]))
      Array([[0.5 ],
             [0.25]], dtype=float32)
    """
    quantiles, y = (
        _predictions.check_values(quantiles, "quantiles"),
        _predictions.check_values(y, "y"),
    )
    level = _predictions.check_values(_predictions.check_level(level), "level")
    if level.ndim > 1 or quantiles.shape != level.shape + y.shape:
        raise ValueError(
            "`quantiles` must have the shape of `level`, () or (Q,), followed by that of `y`, "
            f"{level.shape} and {y.shape}, got {quantiles.shape}."
        )
    above = y.reshape((1,) * level.ndim + y.shape) - quantiles
    level = level.astype(quantiles.dtype).reshape(level.shape + (1,) * y.ndim)
    return jnp.where(above >= 0, level, level - 1) * above


def coverage(lower: ArrayLike, upper: ArrayLike, y: ArrayLike) -> jax.Array:
    """Coverage: the share of targets within their intervals, ends included.

    Args:
      lower: Lower ends, of the shape of `y`; may be infinite.
      upper: Upper ends, of the shape of `y`; an interval with `upper < lower` is empty.
      y: Targets, `[...]`.

    Returns:
      Scalar in [0, 1], in float32 at least. It has no gradient.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty, the shapes differ, or concrete values are NaN.

    Examples:
      >>> coverage(jnp.zeros(4), jnp.ones(4), jnp.array([0.5, 1.0, 1.5, 0.0]))
      Array(0.75, dtype=float32)
    """
    lower, y = _pair(lower, y, "lower")
    upper, _ = _pair(upper, y, "upper")
    return jnp.mean(((lower <= y) & (y <= upper)).astype(y.dtype))


def sharpness(stddev: ArrayLike) -> jax.Array:
    """Sharpness: the root mean predicted variance, in the units of the target.

    Smaller is sharper. It is meaningful only together with a score or a coverage.

    Args:
      stddev: Predicted standard deviations, at least 0, of any shape.

    Returns:
      Scalar, in float32 at least. Its gradient is 0 where all are 0.

    Raises:
      TypeError: If `stddev` is not real.
      ValueError: If it is empty, or concrete values are negative, infinite or NaN.

    References:
      Gneiting, Balabdaoui and Raftery, "Probabilistic forecasts, calibration and sharpness", 2007;
      as a root mean square: Tran et al., "Methods for comparing uncertainty quantifications for
      material property predictions", 2020.

    Examples:
      >>> sharpness(jnp.array([3.0, 4.0]))
      Array(3.535534, dtype=float32)
    """
    stddev = _predictions.check_values(stddev, "stddev")
    _checks.check_nonnegative(stddev, "stddev")
    mean = jnp.mean(stddev**2)
    return jnp.where(mean > 0, jnp.sqrt(jnp.where(mean > 0, mean, 1)), 0)


def _pair(prediction: ArrayLike, y: ArrayLike, name: str) -> tuple[jax.Array, jax.Array]:
    y = _predictions.check_values(y, "y")
    return _checks.check_same_shape(_predictions.check_values(prediction, name), y, name, "y"), y


def _fitting(value: ArrayLike, like: jax.Array, name: str, of: str) -> jax.Array:
    return _checks.check_broadcastable(_predictions.check_values(value, name), like.shape, name)
