"""Selective prediction and out-of-distribution detection.

All scores depend on the order of the uncertainties only. The order of examples with equal
uncertainties makes no difference.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike

__all__ = ["RiskCoverage", "aurc", "auroc", "fpr95", "risk_coverage"]


class RiskCoverage(NamedTuple):
    """A risk-coverage curve, from the most certain example to all of them.

    Attributes:
      coverage: The share of examples kept, `[B]`: 1 / B, 2 / B, ..., 1.
      risk: The mean loss of the examples kept, `[B]`.
    """

    coverage: jax.Array
    risk: jax.Array


def risk_coverage(uncertainty: ArrayLike, loss: ArrayLike) -> RiskCoverage:
    """Risk-coverage curve: the mean loss of the most certain examples, for each number of them.

    If the cut falls among examples of equal uncertainty, the risk is averaged over all their orders:
    each counts with their mean loss.

    Args:
      uncertainty: An uncertainty score, `[B]`, larger for less certain examples; may be infinite.
      loss: The loss of each example, `[B]`, such as `1 - accuracy(probs, labels)`.

    Returns:
      A `RiskCoverage` of arrays `[B]`, in float32 at least. It has a gradient with respect to
      the losses only.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      El-Yaniv and Wiener, "On the foundations of noise-free selective classification", 2010.

    Examples:
      >>> risk_coverage(jnp.array([0.9, 0.1, 0.5, 0.2]), jnp.array([1.0, 0.0, 0.0, 3.0])).risk
      Array([0. , 1.5, 1. , 1. ], dtype=float32)
    """
    uncertainty, loss = (
        _predictions.check_vector(uncertainty, "uncertainty"),
        _predictions.check_vector(loss, "loss"),
    )
    _checks.check_same_shape(loss, uncertainty, "loss", "uncertainty")
    return _meshes.on_automatic_axes(_risk_coverage, uncertainty, loss)


def _risk_coverage(uncertainty: jax.Array, loss: jax.Array) -> RiskCoverage:
    order = jnp.argsort(uncertainty)
    ranked, loss = uncertainty[order], loss[order]
    count = jnp.arange(1, len(loss) + 1, dtype=loss.dtype)
    # Within a group of ties the sum of the losses is linear.
    first, stop = (jnp.searchsorted(ranked, ranked, side=side) for side in ("left", "right"))
    sums = jnp.cumsum(loss)
    before, after = jnp.where(first > 0, sums[first - 1], 0), sums[stop - 1]
    share = (count - first.astype(loss.dtype)) / (stop - first).astype(loss.dtype)
    rise = jnp.where(after == before, 0, after - before)
    return RiskCoverage(count / len(loss), (before + share * rise) / count)


def aurc(uncertainty: ArrayLike, loss: ArrayLike) -> jax.Array:
    """AURC, the area under the risk-coverage curve: the mean of its risks. Smaller is better.

    Args:
      uncertainty: An uncertainty score, `[B]`, larger for less certain examples; may be infinite.
      loss: The loss of each example, `[B]`, such as `1 - accuracy(probs, labels)`.

    Returns:
      Scalar, in float32 at least, averaged over all orders of examples of equal uncertainty.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural
      classifiers", 2019.

    Examples:
      >>> aurc(jnp.array([0.9, 0.1, 0.5, 0.2]), jnp.array([1.0, 0.0, 0.0, 0.0]))
      Array(0.0625, dtype=float32)
    """
    return jnp.mean(risk_coverage(uncertainty, loss).risk)


def auroc(scores_in: ArrayLike, scores_out: ArrayLike) -> jax.Array:
    """AUROC, the area under the receiver operating characteristic, for out-of-distribution detection.

    It is the probability that an out-of-distribution example scores higher than an in-distribution
    one; a tie counts half. To detect wrong predictions, "in" are the correct ones and "out" the wrong
    ones.

    Args:
      scores_in: Uncertainties of in-distribution examples, `[N]`; may be infinite.
      scores_out: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; may be
        infinite.

    Returns:
      Scalar in [0, 1], in float32 at least; 0.5 for uninformative scores. It has no gradient.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Mann and Whitney, "On a test of whether one of two random variables is stochastically larger
      than the other", 1947; for out-of-distribution detection: Hendrycks and Gimpel, "A baseline for
      detecting misclassified and out-of-distribution examples in neural networks", 2017.

    Examples:
      >>> auroc(jnp.array([0.1, 0.2, 0.3]), jnp.array([0.3, 0.4]))
      Array(0.9166667, dtype=float32)
    """
    return _meshes.on_automatic_axes(_auroc, *_scores(scores_in, scores_out))


def _auroc(scores_in: jax.Array, scores_out: jax.Array) -> jax.Array:
    ranked = jnp.sort(scores_in)
    below = jnp.searchsorted(ranked, scores_out, side="left").astype(ranked.dtype)
    not_above = jnp.searchsorted(ranked, scores_out, side="right").astype(ranked.dtype)
    return jnp.mean((below + not_above) / (2 * len(ranked)))


def fpr95(scores_in: ArrayLike, scores_out: ArrayLike) -> jax.Array:
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

    Returns:
      Scalar in [0, 1], in float32 at least. Smaller is better. It has no gradient.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, or concrete values are NaN.

    References:
      Liang, Li and Srikant, "Enhancing the reliability of out-of-distribution image detection in
      neural networks", 2018.

    Examples:
      >>> fpr95(jnp.array([0.1, 0.2, 0.3]), jnp.array([0.3, 0.4]))
      Array(0.5, dtype=float32)
    """
    return _meshes.on_automatic_axes(_fpr95, *_scores(scores_in, scores_out))


def _fpr95(scores_in: jax.Array, scores_out: jax.Array) -> jax.Array:
    passing = -(-19 * len(scores_in) // 20)
    threshold = jnp.sort(scores_in)[passing - 1]
    return jnp.mean((scores_out <= threshold).astype(threshold.dtype))


def _scores(scores_in: ArrayLike, scores_out: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both in one dtype: equal numbers must stay equal."""
    inside, outside = (
        _predictions.check_vector(scores_in, "scores_in"),
        _predictions.check_vector(scores_out, "scores_out"),
    )
    dtype = jnp.promote_types(inside.dtype, outside.dtype)
    return inside.astype(dtype), outside.astype(dtype)
