"""Proper scores of prediction intervals."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _predictions
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty._ensembles import check_shape_of

__all__ = ["interval_score", "weighted_interval_score"]


def interval_score(
    lower: ArrayLike, upper: ArrayLike, y: ArrayLike, level: Numeric, *, where: ArrayLike | None = None
) -> jax.Array:
    """Interval score, or Winkler score: the width, plus a penalty for a target outside.

    It is `upper - lower`, plus `2 / (1 - level)` times the distance of the target from the interval. The
    quantiles at `(1 - level) / 2` and `(1 + level) / 2` minimize its mean. It is in the units of the target.

    Args:
      lower: Lower ends: of the shape of `y`, or `[K, ...]` with a leading axis of levels; may be infinite.
      upper: Upper ends, of the shape of `lower`. Ends in the wrong order count as crossed quantiles: the
        score is that of their pinball losses, and at least 0.
      y: Targets, `[...]`.
      level: The coverage that the intervals are meant to have, in (0, 1): a scalar, or an array `[K]`; may
        be traced. That of concrete float64 is not rounded, which matters near 1.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of the shape of `lower`, each value at least 0; in float32 at least. NaN where masked, so
      average with `jnp.mean(..., where=where)`.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        levels outside (0, 1).

    References:
      Winkler, "A decision-theoretic approach to interval estimation", 1972; Gneiting and Raftery,
      "Strictly proper scoring rules, prediction, and estimation", 2007.

    Examples:
      >>> interval_score(jnp.zeros(3), jnp.ones(3), jnp.array([0.5, 1.0, 1.5]), 0.75)
      Array([1., 1., 5.], dtype=float32)
    """
    ends, half, _, each = _ends(lower, upper, y, level, where)
    below, above = (jnp.where(end >= 0, end, (1 - 1 / half) * end) for end in ends)
    return _predictions.filled(below + above, each, jnp.nan)


def weighted_interval_score(
    median: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    y: ArrayLike,
    level: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Weighted interval score (WIS) of a median and K intervals, which approximates the CRPS.

    It is `(|y - median| / 2 + sum(alpha / 2 * interval_score)) / (K + 1 / 2)` with alpha = 1 - level: twice
    the mean pinball loss of the 2 K + 1 quantiles. It is in the units of the target.

    Args:
      median: Predicted medians, of the shape of `y`.
      lower: Lower ends, `[K, ...]`.
      upper: Upper ends, `[K, ...]`. Ends in the wrong order count as crossed quantiles.
      y: Targets, `[...]`.
      level: The coverage that each interval is meant to have, in (0, 1): an array `[K]`; may be traced.
        The score approximates the CRPS if the quantiles are evenly spaced: K of 9 and levels 0.1 to 0.9.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of shape `[...]`, one value of at least 0 per target; in float32 at least. NaN where masked, so
      average with `jnp.mean(..., where=where)`.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN or
        levels outside (0, 1).

    References:
      Bracher et al., "Evaluating epidemic forecasts in an interval format", 2021.

    Examples:
      >>> y, ends = jnp.array([3.0]), jnp.array([[1.0]])
      >>> weighted_interval_score(jnp.array([1.0]), 0 * ends, 2 * ends, y, jnp.array([0.5]))
      Array([1.6666666], dtype=float32)
    """
    ends, half, where, _ = _ends(lower, upper, y, level, where)
    if np.ndim(level) != 1:
        raise ValueError(f"`level` must have one axis, got shape {np.shape(level)}.")
    y = _predictions.exact(y)
    median = _predictions.check_exact(median, "median", where if np.shape(median) == np.shape(y) else None)
    check_shape_of(median, y, "median", "y")
    off = _predictions.filled(_predictions.shifted(median, y), where, 0)
    below, above = (jnp.sum(jnp.where(end >= 0, half, half - 1) * end, axis=0) for end in ends)
    score = (jnp.abs(off) / 2 + below + above) / (len(half) + 0.5)
    return _predictions.filled(score, where, jnp.nan)


def _ends(
    lower: ArrayLike, upper: ArrayLike, y: ArrayLike, level: Numeric, where: ArrayLike | None
) -> tuple[tuple[jax.Array, jax.Array], jax.Array, ArrayLike | None, ArrayLike | None]:
    """How far the target is within each end, half of 1 - level, and the masks of targets and of ends."""
    where = _predictions.check_mask(where, np.shape(y))
    each = None if where is None else _predictions.check_mask(where, np.shape(lower))
    y = _predictions.check_exact(y, "y", where)
    lower = _predictions.check_exact(lower, "lower", each)
    upper = _predictions.check_exact(upper, "upper", each if np.shape(upper) == lower.shape else None)
    check_shape_of(upper, lower, "upper", "lower")
    level = _predictions.check_level(_predictions.exact(level))
    _predictions.check_not_empty(np.shape(level), "level")
    if np.ndim(level) > 1 or lower.shape != np.shape(level) + y.shape:
        raise ValueError(
            "`lower` must have the shape of `level`, () or (K,), followed by that of `y`, "
            f"{np.shape(level)} and {y.shape}, got {lower.shape}."
        )
    # In float64 if it is concrete: a level near 1 would be rounded.
    half = (1 - np.asarray(level, np.float64)) / 2 if _predictions.is_visible(level) else (1 - level) / 2
    target = y.reshape((1,) * np.ndim(level) + y.shape)
    below = _predictions.filled(_predictions.shifted(target, lower), each, 0)
    above = _predictions.filled(_predictions.shifted(upper, target), each, 0)
    half = jnp.asarray(half).astype(below.dtype).reshape(np.shape(level) + (1,) * y.ndim)
    return (below, above), half, where, each
