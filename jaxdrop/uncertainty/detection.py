"""Standard errors of scores of out-of-distribution detection, in the time of a sort.

In-distribution and out-of-distribution examples are taken to be independent draws of fixed numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty import _ranks, selective
from jaxdrop.uncertainty._unchecked import variance_of_mean
from jaxdrop.uncertainty.errors import Score

__all__ = ["aupr_with_error", "auroc_difference", "auroc_with_error", "fpr95_with_error"]


def auroc_with_error(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    *,
    where_in: ArrayLike | None = None,
    where_out: ArrayLike | None = None,
) -> Score:
    """AUROC with DeLong's standard error, in the time of a sort.

    Args:
      scores_in: Uncertainties of in-distribution examples, `[N]`; may be infinite.
      scores_out: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; may be
        infinite.
      where_in: Boolean mask of the examples of `scores_in` that count. None: all.
      where_out: Boolean mask of the examples of `scores_out` that count. None: all.

    Returns:
      A `Score` of scalars, in float32 at least; the value is that of `auroc`. The standard error is 0
      for sets that do not overlap, and NaN for fewer than two examples of a set.

    Raises:
      TypeError: If a score is not real, or a mask is not boolean.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
      operating characteristic curves: a nonparametric approach", 1988; by ranks: Sun and Xu, "Fast
      implementation of DeLong's algorithm for comparing the areas under correlated receiver operating
      characteristic curves", 2014.

    Examples:
      >>> auroc_with_error(jnp.array([0.1, 0.2, 0.3]), jnp.array([0.25, 0.4])).standard_error.round(4)
      Array(0.2357, dtype=float32)
    """
    inside, outside = _ranks.both(scores_in, scores_out, where_in, where_out)
    return _of_sets(*_shares(inside, outside), inside, outside)


def auroc_difference(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    *,
    where_in: ArrayLike | None = None,
    where_out: ArrayLike | None = None,
) -> Score:
    """Difference of two AUROCs of the same examples, with DeLong's standard error.

    It is smaller than that of two independent AUROCs, as far as both scores find the same examples hard.

    Args:
      first: The in-distribution and the out-of-distribution scores, `[N]` and `[M]`, of one method.
      second: The scores of the same examples in the same order, `[N]` and `[M]`, of another method.
      where_in: Boolean mask of the in-distribution examples that count. None: all.
      where_out: Boolean mask of the out-of-distribution examples that count. None: all.

    Returns:
      A `Score` of scalars, in float32 at least: the first AUROC minus the second. The standard error is
      NaN for fewer than two examples of a set.

    Raises:
      TypeError: If a score is not real, or a mask is not boolean.
      ValueError: If an argument is empty or not of one axis, concrete values are NaN, or the shapes of
        both methods differ.

    References:
      DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
      operating characteristic curves: a nonparametric approach", 1988.

    Examples:
      >>> inside, outside = jnp.array([0.1, 0.2, 0.3]), jnp.array([0.25, 0.4])
      >>> auroc_difference((inside, outside), (-inside, outside)).value.round(2)
      Array(-0.17, dtype=float32)
    """
    for one, other, name in zip(first, second, ("in", "out"), strict=True):
        if np.shape(one) != np.shape(other):
            expected = f"the shapes of `first`, {np.shape(one)} for scores_{name}"
            raise ValueError(f"`second` must have {expected}, got {np.shape(other)}.")
    sets = [_ranks.both(*scores, where_in, where_out) for scores in (first, second)]
    one, other = (_shares(*both) for both in sets)
    return _of_sets(one[0] - other[0], one[1] - other[1], *sets[0])


def aupr_with_error(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    *,
    where_in: ArrayLike | None = None,
    where_out: ArrayLike | None = None,
) -> Score:
    """AUPR with the standard error of its influence function, in the time of a sort.

    Args:
      scores_in: Uncertainties of in-distribution examples, `[N]`; may be infinite.
      scores_out: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; may be
        infinite.
      where_in: Boolean mask of the examples of `scores_in` that count. None: all.
      where_out: Boolean mask of the examples of `scores_out` that count. None: all.

    Returns:
      A `Score` of scalars, in float32 at least; the value is that of `aupr`. The standard error is that
      for fixed N and M, and NaN for fewer than two examples of a set.

    Raises:
      TypeError: If a score is not real, or a mask is not boolean.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Efron, "The jackknife, the bootstrap and other resampling plans", 1982, of influence functions.

    Examples:
      >>> key_in, key_out = jax.random.split(jax.random.key(0))
      >>> inside, outside = jax.random.normal(key_in, (400,)), jax.random.normal(key_out, (400,)) + 1
      >>> aupr_with_error(inside, outside).standard_error.round(3)
      Array(0.019, dtype=float32)
    """
    inside, outside = _ranks.both(scores_in, scores_out, where_in, where_out)
    return _aupr(inside, outside)


def fpr95_with_error(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    *,
    where_in: ArrayLike | None = None,
    where_out: ArrayLike | None = None,
) -> Score:
    """FPR95 with its standard error, in the time of a sort.

    The variance has two parts: that of a share of M examples, and that of the threshold, which is a
    quantile of N. The second is read from thresholds one standard error below and above 95 %.

    Args:
      scores_in: Uncertainties of in-distribution examples, `[N]`; may be infinite. The error needs about
        100 of them.
      scores_out: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; may be
        infinite.
      where_in: Boolean mask of the examples of `scores_in` that count. None: all.
      where_out: Boolean mask of the examples of `scores_out` that count. None: all.

    Returns:
      A `Score` of scalars, in float32 at least; the value is that of `fpr95`. The standard error is rough
      where many scores are equal to the threshold.

    Raises:
      TypeError: If a score is not real, or a mask is not boolean.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Woodruff, "Confidence intervals for medians and other position measures", 1952, for the threshold.

    Examples:
      >>> fpr95_with_error(jnp.arange(1000.0), jnp.arange(500.0, 1500.0)).standard_error.round(3)
      Array(0.017, dtype=float32)
    """
    value = selective.fpr95(scores_in, scores_out, where_in=where_in, where_out=where_out)
    inside, outside = _ranks.both(scores_in, scores_out, where_in, where_out)
    return Score(value, _fpr95_error(value, inside, outside))


@jax.jit
def _shares(inside: _ranks.Ranked, outside: _ranks.Ranked) -> tuple[jax.Array, jax.Array]:
    """Of each out-of-distribution example the share of the others below it, and the reverse.

    Ties count half. Both are in the order of the examples before they were ranked.
    """

    def below(of: _ranks.Ranked, other: _ranks.Ranked) -> jax.Array:
        pairs = _ranks.below(of.scores, other) + _ranks.not_above(of.scores, other)
        share = pairs.astype(float) / (2 * jnp.maximum(other.count, 1).astype(float))
        return jnp.zeros_like(share).at[of.order].set(jnp.where(of.valid & other.valid, share, jnp.nan))

    return below(outside, inside), 1 - below(inside, outside)


@jax.jit
def _of_sets(
    of_outside: jax.Array, of_inside: jax.Array, inside: _ranks.Ranked, outside: _ranks.Ranked
) -> Score:
    """The mean of values of the out-of-distribution examples, and the error of both sets together."""

    def unsorted(of: _ranks.Ranked) -> jax.Array:
        return jnp.zeros_like(of.used).at[of.order].set(of.used)

    used_in, used_out = unsorted(inside), unsorted(outside)
    error = jnp.sqrt(variance_of_mean(of_outside, used_out) + variance_of_mean(of_inside, used_in))
    return Score(jnp.mean(of_outside, where=used_out), error)


@jax.jit
def _aupr(inside: _ranks.Ranked, outside: _ranks.Ranked) -> Score:
    hits = (outside.count - _ranks.below(outside.scores, outside)).astype(float)
    alarms = (inside.count - _ranks.below(outside.scores, inside)).astype(float)
    kept = hits + alarms
    valid = inside.valid & outside.valid
    precision = jnp.where(valid, hits / kept, jnp.nan)

    def summed(weights: jax.Array, to: _ranks.Ranked) -> jax.Array:
        """The sum of weights of the out-of-distribution examples up to each of `to`."""
        sums = jnp.append(jnp.zeros_like(weights[:1]), jnp.cumsum(jnp.where(outside.used, weights, 0)))
        return sums[_ranks.not_above(to.scores, outside)]

    # How much the precisions change with another example at each score.
    of_outside = precision + summed(alarms / kept**2, outside)
    ratio = inside.count.astype(float) / jnp.maximum(outside.count, 1).astype(float)
    of_inside = ratio * summed(hits / kept**2, inside)
    variance = variance_of_mean(of_outside, outside.used) + variance_of_mean(of_inside, inside.used)
    return Score(jnp.mean(precision, where=outside.used), jnp.sqrt(variance))


@jax.jit
def _fpr95_error(value: jax.Array, inside: _ranks.Ranked, outside: _ranks.Ranked) -> jax.Array:
    count, others = inside.count.astype(value.dtype), outside.count.astype(value.dtype)
    step = jnp.sqrt(0.95 * 0.05 / count)
    shares = []
    for level in (0.95 - step, 0.95 + step):
        rank = jnp.clip(jnp.ceil(level * count).astype(jnp.int32), 1, inside.count)
        accepted = _ranks.not_above(inside.scores[rank - 1][None], outside)[0]
        shares.append(accepted.astype(value.dtype) / others)
    # Half an example more on both sides, so that a share of 0 or 1 has an error.
    share = (value * others + 0.5) / (others + 1)
    return jnp.sqrt(share * (1 - share) / others + ((shares[1] - shares[0]) / 2) ** 2)
