"""Who is to be trusted: the risk of what is kept, and the telling of out from in.

All of it looks at the order of the uncertainties alone, and none of it at the order in which
examples with the same uncertainty come.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike


class RiskCoverage(NamedTuple):
    """A risk-coverage curve, from the most certain example alone to all of them.

    Attributes:
      coverage: The share of examples that is kept: 1 / B, 2 / B, ..., 1.
      risk: Their mean loss.
    """

    coverage: jax.Array
    risk: jax.Array


def risk_coverage(uncertainty: ArrayLike, loss: ArrayLike) -> RiskCoverage:
    """The mean loss of the most certain examples, for each number of them.

    Where the cut falls among examples of the same uncertainty, the risk is its mean over all
    orders of them: each counts with their mean loss.

    Args:
      uncertainty: Any measure of it, `[B]`, larger for less certain; may be infinite.
      loss: The loss of each example, `[B]`, such as `1 - accuracy(probs, labels)`.

    Returns:
      A `RiskCoverage` of arrays `[B]`, in float32 at least. It has a gradient in the losses, none
      in the uncertainties.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      El-Yaniv and Wiener, "On the foundations of noise-free selective classification", 2010.

    >>> risk_coverage(jnp.array([0.9, 0.1, 0.5, 0.2]), jnp.array([1.0, 0.0, 0.0, 3.0])).risk
    Array([0. , 1.5, 1. , 1. ], dtype=float32)
    """
    uncertainty, loss = _checks.check_vector(uncertainty, "uncertainty"), _checks.check_vector(loss, "loss")
    _checks.check_same_shape(loss, uncertainty, "loss", "uncertainty")
    order = jnp.argsort(uncertainty)
    ranked, loss = uncertainty[order], loss[order]
    count = jnp.arange(1, len(loss) + 1, dtype=loss.dtype)
    # Between the ends of a group of ties the sum of the losses runs along a line.
    first, stop = (jnp.searchsorted(ranked, ranked, side=side) for side in ("left", "right"))
    sums = jnp.cumsum(loss)
    before, after = jnp.where(first > 0, sums[first - 1], 0), sums[stop - 1]
    share = (count - first.astype(loss.dtype)) / (stop - first).astype(loss.dtype)
    rise = jnp.where(after == before, 0, after - before)
    return RiskCoverage(count / len(loss), (before + share * rise) / count)


def aurc(uncertainty: ArrayLike, loss: ArrayLike) -> jax.Array:
    """The area under the risk-coverage curve: the mean of its risks. Smaller is better.

    Args:
      uncertainty: Any measure of it, `[B]`, larger for less certain; may be infinite.
      loss: The loss of each example, `[B]`, such as `1 - accuracy(probs, labels)`.

    Returns:
      A scalar, in float32 at least: the mean over all orders of examples of the same uncertainty.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural
      classifiers", 2019.

    >>> aurc(jnp.array([0.9, 0.1, 0.5, 0.2]), jnp.array([1.0, 0.0, 0.0, 0.0]))
    Array(0.0625, dtype=float32)
    """
    return jnp.mean(risk_coverage(uncertainty, loss).risk)


def auroc(scores_in: ArrayLike, scores_out: ArrayLike) -> jax.Array:
    """The chance that one from outside scores higher than one from inside; a tie counts half.

    The area under the receiver operating characteristic. For the detection of wrong predictions,
    "in" are the right ones and "out" the wrong ones.

    Args:
      scores_in: Uncertainties of examples from the training distribution, `[N]`; may be infinite.
      scores_out: Those of examples from outside, `[M]`, which should be larger.

    Returns:
      A scalar in [0, 1], in float32 at least; 0.5 for scores that tell nothing. It has no gradient.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Mann and Whitney, "On a test of whether one of two random variables is stochastically larger
      than the other", 1947; of scores from outside: Hendrycks and Gimpel, "A baseline for
      detecting misclassified and out-of-distribution examples in neural networks", 2017.

    >>> auroc(jnp.array([0.1, 0.2, 0.3]), jnp.array([0.3, 0.4]))
    Array(0.9166667, dtype=float32)
    """
    scores_in, scores_out = _scores(scores_in, scores_out)
    ranked = jnp.sort(scores_in)
    below = jnp.searchsorted(ranked, scores_out, side="left").astype(ranked.dtype)
    not_above = jnp.searchsorted(ranked, scores_out, side="right").astype(ranked.dtype)
    return jnp.mean((below + not_above) / (2 * len(ranked)))


def fpr95(scores_in: ArrayLike, scores_out: ArrayLike) -> jax.Array:
    """The share of examples from outside that pass where at least 95 % from inside do.

    The threshold is the smallest of the scores from inside that at least 95 % of these do not
    exceed; who is at the threshold passes, from inside and from outside. Some papers count it the
    other way, the share from inside that is refused where 95 % from outside are: that is
    `fpr95(-scores_out, -scores_in)`.

    Args:
      scores_in: Uncertainties of examples from the training distribution, `[N]`; may be infinite.
      scores_out: Those of examples from outside, `[M]`, which should be larger.

    Returns:
      A scalar in [0, 1], in float32 at least. Smaller is better. It has no gradient.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Liang, Li and Srikant, "Enhancing the reliability of out-of-distribution image detection in
      neural networks", 2018.

    >>> fpr95(jnp.array([0.1, 0.2, 0.3]), jnp.array([0.3, 0.4]))
    Array(0.5, dtype=float32)
    """
    scores_in, scores_out = _scores(scores_in, scores_out)
    passing = -(-19 * len(scores_in) // 20)
    threshold = jnp.sort(scores_in)[passing - 1]
    return jnp.mean((scores_out <= threshold).astype(threshold.dtype))


def _scores(scores_in: ArrayLike, scores_out: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The two in one dtype: numbers that were equal before must be so after."""
    inside, outside = (
        _checks.check_vector(scores_in, "scores_in"),
        _checks.check_vector(scores_out, "scores_out"),
    )
    dtype = jnp.promote_types(inside.dtype, outside.dtype)
    return inside.astype(dtype), outside.astype(dtype)
