"""Selective prediction and out-of-distribution detection.

All scores depend on the order of the uncertainties only. The order of examples with equal
uncertainties makes no difference. Concrete float64 numbers and large integers are ranked before
anything is cast. Traced ones are float32 (unless x64 is enabled), which makes ties of numbers that
differ by less than 6e-8 of their size: near a confidence of 1, use `-log(1 - p)` or an entropy instead.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty import _ranks

__all__ = ["RiskCoverage", "aupr", "aurc", "auroc", "fpr95", "risk_coverage"]


class RiskCoverage(NamedTuple):
    """A risk-coverage curve, from the most certain example to all of them.

    Attributes:
      coverage: The share of examples kept, `[B]`: 1 / B, 2 / B, ..., 1. With a mask, of the n examples
        that it selects: 1 / n, ..., 1, and 1 for the rest.
      risk: The mean loss of the examples kept, `[B]`.
    """

    coverage: jax.Array
    risk: jax.Array


def risk_coverage(uncertainty: ArrayLike, loss: ArrayLike, *, where: ArrayLike | None = None) -> RiskCoverage:
    """Risk-coverage curve: the mean loss of the most certain examples, for each number of them.

    If the cut falls among examples of equal uncertainty, the risk is averaged over all their orders:
    each counts with their mean loss.

    Args:
      uncertainty: An uncertainty score, `[B]`, larger for less certain examples; may be infinite.
      loss: The loss of each example, `[B]`, such as `1 - accuracy(probs, labels)`.
      where: Boolean mask that broadcasts to `uncertainty`. Examples that it leaves out do not count, and
        may hold anything. None: all.

    Returns:
      A `RiskCoverage` of arrays `[B]`, in float32 at least. It has a gradient with respect to
      the losses only. NaN if a traced uncertainty is NaN, or no example is selected.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      El-Yaniv and Wiener, "On the foundations of noise-free selective classification", 2010.

    Examples:
      >>> risk_coverage(jnp.array([0.9, 0.1, 0.5, 0.2]), jnp.array([1.0, 0.0, 0.0, 3.0])).risk
      Array([0. , 1.5, 1. , 1. ], dtype=float32)
    """
    return _curve(uncertainty, loss, where)[0]


def aurc(uncertainty: ArrayLike, loss: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """AURC, the area under the risk-coverage curve: the mean of its risks. Smaller is better.

    Args:
      uncertainty: An uncertainty score, `[B]`, larger for less certain examples; may be infinite.
      loss: The loss of each example, `[B]`, such as `1 - accuracy(probs, labels)`.
      where: Boolean mask that broadcasts to `uncertainty`. Examples that it leaves out do not count, and
        may hold anything. None: all.

    Returns:
      Scalar, in float32 at least, averaged over all orders of examples of equal uncertainty. NaN if a
      traced uncertainty is NaN, or no example is selected.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural
      classifiers", 2019.

    Examples:
      >>> aurc(jnp.array([0.9, 0.1, 0.5, 0.2]), jnp.array([1.0, 0.0, 0.0, 0.0]))
      Array(0.0625, dtype=float32)
    """
    curve, used, count = _curve(uncertainty, loss, where)
    return jnp.sum(curve.risk, where=used) / count


def auroc(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    *,
    where_in: ArrayLike | None = None,
    where_out: ArrayLike | None = None,
) -> jax.Array:
    """AUROC, the area under the receiver operating characteristic, for out-of-distribution detection.

    It is the probability that an out-of-distribution example scores higher than an in-distribution
    one; a tie counts half. To detect wrong predictions, "in" are the correct ones and "out" the wrong
    ones.

    Args:
      scores_in: Uncertainties of in-distribution examples, `[N]`; may be infinite.
      scores_out: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; may be
        infinite.
      where_in: Boolean mask of the examples of `scores_in` that count. None: all.
      where_out: Boolean mask of the examples of `scores_out` that count. None: all.

    Returns:
      Scalar in [0, 1], in float32 at least; 0.5 for uninformative scores. It has no gradient. NaN if a
      traced score is NaN, or a mask selects none.

    Raises:
      TypeError: If a score is not real, or a mask is not boolean.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Mann and Whitney, "On a test of whether one of two random variables is stochastically larger
      than the other", 1947; for out-of-distribution detection: Hendrycks and Gimpel, "A baseline for
      detecting misclassified and out-of-distribution examples in neural networks", 2017.

    Examples:
      >>> auroc(jnp.array([0.1, 0.2, 0.3]), jnp.array([0.3, 0.4]))
      Array(0.9166667, dtype=float32)
    """
    inside, outside = _ranks.both(scores_in, scores_out, where_in, where_out)
    pairs = _ranks.below(outside.scores, inside) + _ranks.not_above(outside.scores, inside)
    pairs = pairs.astype(float)
    wins = jnp.sum(pairs / (2 * inside.count.astype(float)), where=outside.used)
    return jnp.where(inside.valid & outside.valid, wins / outside.count.astype(float), jnp.nan)


def aupr(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    *,
    where_in: ArrayLike | None = None,
    where_out: ArrayLike | None = None,
) -> jax.Array:
    """AUPR, the area under the precision-recall curve, for out-of-distribution detection.

    It is the average precision: the mean over the out-of-distribution examples of the share of
    out-of-distribution examples among those that score at least as high. It depends on M / N. With the
    in-distribution examples as the positive ones it is `aupr(-scores_out, -scores_in)`.

    Args:
      scores_in: Uncertainties of in-distribution examples, `[N]`; may be infinite.
      scores_out: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; may be
        infinite.
      where_in: Boolean mask of the examples of `scores_in` that count. None: all.
      where_out: Boolean mask of the examples of `scores_out` that count. None: all.

    Returns:
      Scalar in (0, 1], in float32 at least; about M / (M + N) for uninformative scores. Larger is better.
      It has no gradient. NaN if a traced score is NaN, or a mask selects none.

    Raises:
      TypeError: If a score is not real, or a mask is not boolean.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Davis and Goadrich, "The relationship between precision-recall and ROC curves", 2006.

    Examples:
      >>> aupr(jnp.array([0.1, 0.2, 0.3]), jnp.array([0.3, 0.4]))
      Array(0.8333334, dtype=float32)
    """
    inside, outside = _ranks.both(scores_in, scores_out, where_in, where_out)
    hits = outside.count - _ranks.below(outside.scores, outside)
    alarms = inside.count - _ranks.below(outside.scores, inside)
    precision = hits.astype(float) / (hits + alarms).astype(float)
    area = jnp.sum(precision, where=outside.used) / outside.count.astype(float)
    return jnp.where(inside.valid & outside.valid, area, jnp.nan)


def fpr95(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    *,
    where_in: ArrayLike | None = None,
    where_out: ArrayLike | None = None,
) -> jax.Array:
    """False-positive rate at 95 % true positives, for out-of-distribution detection.

    It is the share of out-of-distribution examples accepted by the threshold that accepts at least 95 %
    of the in-distribution ones: the smallest in-distribution score that at least 95 % of them do not
    exceed. Scores equal to the threshold are accepted. Some papers define it the other way, as the
    share of in-distribution examples rejected where 95 % of the others are: that is
    `fpr95(-scores_out, -scores_in)`.

    Args:
      scores_in: Uncertainties of in-distribution examples, `[N]`; may be infinite.
      scores_out: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; may be
        infinite.
      where_in: Boolean mask of the examples of `scores_in` that count. None: all.
      where_out: Boolean mask of the examples of `scores_out` that count. None: all.

    Returns:
      Scalar in [0, 1], in float32 at least. Smaller is better. It has no gradient. NaN if a traced score
      is NaN, or a mask selects none.

    Raises:
      TypeError: If a score is not real, or a mask is not boolean.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Liang, Li and Srikant, "Enhancing the reliability of out-of-distribution image detection in
      neural networks", 2018.

    Examples:
      >>> fpr95(jnp.array([0.1, 0.2, 0.3]), jnp.array([0.3, 0.4]))
      Array(0.5, dtype=float32)
    """
    inside, outside = _ranks.both(scores_in, scores_out, where_in, where_out)
    whole, rest = jnp.divmod(inside.count, 20)
    passing = 19 * whole - -19 * rest // 20
    threshold = inside.scores[passing - 1]
    accepted = jnp.sum(outside.scores <= threshold, where=outside.used, dtype=jnp.int32)
    share = accepted.astype(float) / outside.count.astype(float)
    return jnp.where(inside.valid & outside.valid, share, jnp.nan)


def _curve(
    uncertainty: ArrayLike, loss: ArrayLike, where: ArrayLike | None
) -> tuple[RiskCoverage, jax.Array, jax.Array]:
    """The curve, the points of it that count, and their number."""
    where = _predictions.check_mask(where, np.shape(uncertainty))
    (uncertainty,) = _predictions.ranked(_predictions.check_vector(uncertainty, "uncertainty", where))
    loss = _predictions.widened(_predictions.check_vector(loss, "loss", where))
    _checks.check_same_shape(loss, uncertainty, "loss", "uncertainty")
    return _meshes.on_automatic_axes(_points, uncertainty, loss, where)


def _points(
    uncertainty: jax.Array, loss: jax.Array, where: ArrayLike | None
) -> tuple[RiskCoverage, jax.Array, jax.Array]:
    return _risks(loss, _ranks.ascending(uncertainty, where))


@jax.jit
def _risks(loss: jax.Array, certain: _ranks.Ranked) -> tuple[RiskCoverage, jax.Array, jax.Array]:
    loss, total = jnp.where(certain.used, loss[certain.order], 0), jnp.maximum(certain.count, 1)
    count = jnp.minimum(jnp.arange(1, len(loss) + 1, dtype=jnp.int32), total)
    # Within a group of ties the sum of the losses is linear.
    first, stop = _ranks.ties(certain.scores)
    stop = jnp.minimum(stop, total)
    sums = jnp.cumsum(loss)
    before, after = jnp.where(first > 0, sums[first - 1], 0), sums[stop - 1]
    share = (count - first).astype(loss.dtype) / (stop - first).astype(loss.dtype)
    rise = jnp.where(after == before, 0, after - before)
    count, total = count.astype(loss.dtype), total.astype(loss.dtype)
    risk = jnp.where(certain.valid, (before + share * rise) / count, jnp.nan)
    return RiskCoverage(count / total, risk), certain.used, total
