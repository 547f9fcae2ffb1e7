"""Conformal intervals of numbers, and boxes of several numbers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty import _ensembles
from jaxdrop.uncertainty.conformal import _thresholds
from jaxdrop.uncertainty.conformal._thresholds import Threshold

__all__ = ["CQR", "Residual", "fit_box", "fit_cqr", "fit_residual"]


class CQR(NamedTuple):
    """Conformalized intervals; a call on `(lower, upper)` widens both ends by the margin.

    Attributes:
      margin: The outward shift of each end, in the units of the target: `[...]`, a `GroupQuantile` or a
        `WeightedQuantile`. Negative if the intervals were too wide, infinite if there were too few
        examples.
      upper_margin: The shift of the upper ends, if `margin` is that of the lower ends only. None: `margin`.
    """

    margin: Threshold
    upper_margin: Threshold | None = None

    def __call__(
        self,
        lower: ArrayLike,
        upper: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """The new ends, rounded outward; an interval with `upper < lower` is empty.

        If the fit had groups or weights, those of the new examples must be given: one per example.
        """
        shape = _interval(lower, upper)[0].shape
        down = up = _thresholds.at(self.margin, groups, weights, shape, "margin")
        if self.upper_margin is not None:
            up = _thresholds.at(self.upper_margin, groups, weights, shape, "upper_margin")
        low, high = _predictions.exact(lower), _predictions.exact(upper)
        return _predictions.added(low, -down, -np.inf), _predictions.added(high, up, np.inf)


def fit_cqr(
    lower: ArrayLike,
    upper: ArrayLike,
    y: ArrayLike,
    *,
    level: Numeric,
    symmetric: bool = True,
    where: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
    weights: ArrayLike | None = None,
) -> CQR:
    """CQR, conformalized quantile regression: predicted intervals, widened to the given coverage.

    The score is the distance of a target from its interval, negative inside. Scores of concrete float64
    are formed before the cast; of others, offsets that are large beside the scores round them: subtract
    such an offset first. Guarantee: an interval contains its target with a probability of at least `level`.

    Args:
      lower: Predicted lower ends, `[N, ...]`, of held-out examples, such as the
        quantiles at `(1 - level) / 2`.
      upper: Predicted upper ends, of the shape of `lower`.
      y: Targets, of the shape of `lower`.
      level: The probability that an interval contains the target: a scalar in (0, 1); may be traced.
      symmetric: Whether both ends have one margin. If not, each tail has its own, and is missed with a
        probability of at most `(1 - level) / 2`: for skewed targets, at the cost of wider intervals.
      where: Boolean mask of the examples that count, which broadcasts to `y`. Others may hold anything.
        None: all.
      groups: Groups of the examples, `[N]`, integers in [0, `num_groups`): `level` then holds in each
        group, see `fit_group_quantile`. None: no groups.
      num_groups: The number of groups, given with `groups`.
      weights: Weights of the examples, `[N]`, against covariate shift, see `fit_weighted_quantile`.
        Not with `groups`. None: equal weights.

    Returns:
      A `CQR` with a margin per output, `[...]`.

    Raises:
      TypeError: If an argument is not real, `groups` are not integers, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes differ, or concrete values are non-finite, groups
        out of range, weights negative, or a level outside (0, 1).

    References:
      Romano, Patterson and Candès, "Conformalized quantile regression", 2019.

    Examples:
      >>> cqr = fit_cqr(jnp.zeros(4), jnp.ones(4), jnp.array([0.5, 1.25, 2.0, -0.5]), level=0.6)
      >>> cqr.margin, cqr(0.0, 1.0)
      (Array(0.5, dtype=float32), (Array(-0.5, dtype=float32), Array(1.5, dtype=float32)))
    """
    below, above = _distances(lower, upper, y, where)
    if symmetric:
        xp = np if isinstance(below, np.ndarray) else jnp
        scores = xp.maximum(below, above)
        return CQR(_thresholds.fit(scores, level, where, groups, num_groups, weights))
    level = jnp.asarray(_predictions.check_level(_checks.check_scalar(level, "level")))
    tail = (1 + _predictions.as_wide(level, "level")) / 2
    return CQR(*(_thresholds.fit(each, tail, where, groups, num_groups, weights) for each in (below, above)))


class Residual(NamedTuple):
    """Intervals around a mean; a call on the new means returns `(lower, upper)`.

    Attributes:
      margin: The half width of the intervals, in the units of the target: `[...]`, a `GroupQuantile` or a
        `WeightedQuantile`. Infinite if there were too few examples. None if the fit had deviations.
      factor: The half width in standard deviations, likewise. None if the fit had no deviations.
    """

    margin: Threshold | None = None
    factor: Threshold | None = None

    def __call__(
        self,
        mean: ArrayLike,
        *,
        stddev: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """The ends of the intervals, rounded outward, of the shape of `mean`.

        If the fit had deviations, groups or weights, those of the new examples must be given. Where a
        traced deviation is 0 the interval is infinite.
        """
        shape, center = _predictions.check_values(mean, "mean").shape, _predictions.exact(mean)
        threshold, name = (self.margin, "margin") if stddev is None else (self.factor, "factor")
        if threshold is None:
            raise _thresholds.not_as_fitted("stddev", stddev)
        half = _thresholds.at(threshold, groups, weights, shape, name)
        if stddev is not None:
            spread = _predictions.rounded_up(_deviations(stddev, shape))
            # Scores and this product are rounded: a few units in the last place lose no target.
            widened = half * spread * (1 + 4 * float(jnp.finfo(spread.dtype).eps))
            half = jnp.where(spread > 0, widened, jnp.inf)
        return _predictions.added(center, -half, -np.inf), _predictions.added(center, half, np.inf)


def fit_residual(
    mean: ArrayLike,
    y: ArrayLike,
    *,
    level: Numeric,
    stddev: ArrayLike | None = None,
    where: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
    weights: ArrayLike | None = None,
) -> Residual:
    """Split conformal intervals around a mean, of one width or as wide as the predicted deviation.

    The score is `|y - mean|`, or `|y - mean| / stddev`. The mean and the standard deviation of Monte-Carlo
    samples, as `mc.Moments` gives them, make intervals wide where the samples disagree. Guarantee: an
    interval contains its target with a probability of at least `level`, whatever the mean and deviation.

    Args:
      mean: Predicted means, `[N, ...]`, of held-out examples.
      y: Targets, of the shape of `mean`.
      level: The probability that an interval contains the target: a scalar in (0, 1); may be traced.
      stddev: Predicted deviations, above 0, which broadcast to `mean`; a traced 0 gives an infinite score.
        Add a constant where samples may agree. None: intervals of one width.
      where: Boolean mask of the examples that count, which broadcasts to `y`. Others may hold anything.
        None: all.
      groups: Groups of the examples, `[N]`, integers in [0, `num_groups`): `level` then holds in each
        group, see `fit_group_quantile`. None: no groups.
      num_groups: The number of groups, given with `groups`.
      weights: Weights of the examples, `[N]`, against covariate shift, see `fit_weighted_quantile`.
        Not with `groups`. None: equal weights.

    Returns:
      A `Residual` with a half width per output, `[...]`, each valid by itself; for all at once see `fit_box`.

    Raises:
      TypeError: If an argument is not real, `groups` are not integers, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes differ, or concrete values are non-finite, deviations
        not above 0, groups out of range, weights negative, or a level outside (0, 1).

    References:
      Lei et al., "Distribution-free predictive inference for regression", 2018; Papadopoulos et al.,
      "Inductive confidence machines for regression", 2002.

    Examples:
      >>> y = jnp.array([1.0, -2.0, 3.0, -4.0])
      >>> fit_residual(jnp.zeros(4), y, level=0.8)(5.0)
      (Array(1., dtype=float32), Array(9., dtype=float32))
      >>> fit_residual(jnp.zeros(4), y, level=0.8, stddev=jnp.abs(y)).factor
      Array(1., dtype=float32)
    """
    scores = _residuals(mean, y, stddev, where)
    found = _thresholds.fit(scores, level, where, groups, num_groups, weights)
    return Residual(margin=found) if stddev is None else Residual(factor=found)


def fit_box(
    mean: ArrayLike,
    y: ArrayLike,
    stddev: ArrayLike,
    *,
    level: Numeric,
    where: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
    weights: ArrayLike | None = None,
) -> Residual:
    """Conformal boxes: intervals of several outputs that hold for all of them at once.

    The score is the largest `|y - mean| / stddev` of the outputs of an example. Guarantee: all targets of
    an example are in its box with a probability of at least `level`, however they depend on each other.

    Args:
      mean: Predicted means, `[N, D]` or `[N, ...]`, of held-out examples.
      y: Targets, of the shape of `mean`.
      stddev: Predicted deviations, above 0, which broadcast to `mean`; a traced 0 gives an infinite score.
        They set the proportions of the box. A constant per output, `[D]`, must come from other examples.
      level: The probability that a box contains all targets: a scalar in (0, 1); may be traced.
      where: Boolean mask of the examples that count, `[N]`. Others may hold anything. None: all.
      groups: Groups of the examples, `[N]`, integers in [0, `num_groups`): `level` then holds in each
        group, see `fit_group_quantile`. None: no groups.
      num_groups: The number of groups, given with `groups`.
      weights: Weights of the examples, `[N]`, against covariate shift, see `fit_weighted_quantile`.
        Not with `groups`. None: equal weights.

    Returns:
      A `Residual` with one factor for all outputs, to be called on new means and deviations.

    Raises:
      TypeError: If an argument is not real, `groups` are not integers, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes differ, or concrete values are non-finite, deviations
        not above 0, groups out of range, weights negative, or a level outside (0, 1).

    References:
      Diquigiovanni, Fontana and Vantini, "Conformal prediction bands for multivariate functional
      data", 2022.

    Examples:
      >>> y = jnp.array([[1.0, 20.0], [-3.0, 0.0], [0.0, 10.0], [2.0, -40.0]])
      >>> fit_box(jnp.zeros((4, 2)), y, jnp.array([1.0, 10.0]), level=0.8).factor
      Array(4., dtype=float32)
    """
    where = _predictions.check_mask(where, np.shape(y)[:1])
    ones = [1] * (np.ndim(y) - 1)
    each = None if where is None else where.reshape(-1, *ones)
    scores = _residuals(mean, y, stddev, each)
    scores = scores.max(axis=tuple(range(1, scores.ndim)))
    if groups is not None or weights is not None:  # a factor per example, for all its outputs
        scores, where = scores.reshape(-1, *ones), each
    return Residual(factor=_thresholds.fit(scores, level, where, groups, num_groups, weights))


def _residuals(mean: ArrayLike, y: ArrayLike, stddev: ArrayLike | None, where: ArrayLike | None) -> ArrayLike:
    """Absolute residuals, in units of the deviations if there are some."""
    below, above = _distances(mean, mean, y, where, "mean", "mean")
    wide = isinstance(below, np.ndarray)
    scores = np.maximum(below, above) if wide else jnp.maximum(below, above)
    if stddev is None:
        return scores
    spread = _deviations(stddev, scores.shape, where)
    if wide and _predictions.is_visible(spread):
        with np.errstate(divide="ignore", invalid="ignore"):  # of examples that are masked
            return scores / np.asarray(spread, np.float64)
    spread = _predictions.widened(spread)
    return jnp.where(spread > 0, jnp.asarray(scores) / jnp.where(spread > 0, spread, 1), jnp.inf)


def _deviations(stddev: ArrayLike, shape: tuple[int, ...], where: ArrayLike | None = None) -> ArrayLike:
    """Deviations above 0 in the rank of the means, in their own dtype."""
    mask = _predictions.check_mask(where, shape)
    stddev = _ensembles.masked_as(stddev, mask, shape, "stddev")
    spread = _checks.check_broadcastable(_predictions.check_exact(stddev, "stddev", mask), shape, "stddev")
    if _predictions.is_visible(spread) and (mask is None or _predictions.is_visible(mask)):
        kept = np.asarray(spread) if mask is None else np.asarray(spread)[np.asarray(mask)]
        rule = "be finite and above 0 (add a constant where samples agree)"
        _checks.check_all(kept, "stddev", rule, lambda values: np.isfinite(values) & (values > 0))
    return spread


def _distances(
    low: ArrayLike,
    up: ArrayLike,
    targets: ArrayLike,
    where: ArrayLike | None,
    low_name: str = "lower",
    up_name: str = "upper",
) -> tuple[ArrayLike, ArrayLike]:
    """How far targets are below and above their intervals; of concrete NumPy numbers, in float64."""
    where = _predictions.check_mask(where, np.shape(targets))
    given = [_predictions.exact(value) for value in (low, up, targets)]
    lower, upper = _interval(low, up, where, low_name, up_name)
    y = _checks.check_same_shape(_predictions.check_values(targets, "y", where), lower, "y", low_name)
    lower, upper, y = (_predictions.filled(value, where, 0) for value in (lower, upper, y))
    for value, name in ((lower, low_name), (upper, up_name), (y, "y")):
        _predictions.check_finite(value, name)
    if any(map(_predictions.needs_float64, given)) and all(map(_predictions.is_visible, given)):
        wide_low, wide_up, target = (np.asarray(value, np.float64) for value in given)
        with np.errstate(invalid="ignore"):  # of examples that are masked
            return wide_low - target, target - wide_up
    # Rounded up, so that an interval contains the targets that its margin is the distance of.
    return _predictions.added(lower, -y, np.inf), _predictions.added(y, -upper, np.inf)


def _interval(
    low: ArrayLike,
    up: ArrayLike,
    where: ArrayLike | None = None,
    low_name: str = "lower",
    up_name: str = "upper",
) -> tuple[jax.Array, jax.Array]:
    lower = _predictions.check_values(low, low_name, where)
    upper = _predictions.check_values(up, up_name, where)
    return lower, _checks.check_same_shape(upper, lower, up_name, low_name)
