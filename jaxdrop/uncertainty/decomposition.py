"""Decomposition of uncertainty: aleatoric (in the data) and epistemic (from a lack of data).

Samples of a predictive distribution have the axis of samples first: `[T, ..., K]` for the
probabilities of K classes. All entropies are in nats.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty import _unchecked

__all__ = [
    "Variance",
    "decompose_variance",
    "entropy",
    "expected_entropy",
    "mutual_information",
    "total_entropy",
    "variation_ratio",
]


def entropy(probs: ArrayLike) -> jax.Array:
    """Entropy of categorical distributions: `-sum(p * log(p))`, in nats.

    A class of probability 0 contributes neither to the value nor to the gradient, which is the limit of
    the gradient through a softmax.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.

    Returns:
      Array of shape `[...]`, each value in [0, log K] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty or of one class, or concrete values are not valid probabilities: below
        0, or with a sum that differs from 1 by more than 1e-3 (2e-2 in half precision).

    References:
      Shannon, "A mathematical theory of communication", 1948.

    Examples:
      >>> entropy(jnp.array([[0.5, 0.5], [1.0, 0.0]]))
      Array([0.6931472, 0.       ], dtype=float32)
    """
    return _unchecked.entropy_of(_predictions.check_probabilities(probs, "[..., K]"))


def total_entropy(probs: ArrayLike) -> jax.Array:
    """Total entropy: the entropy of the mean prediction, the total uncertainty of a label.

    It is the sum of `expected_entropy` and `mutual_information`.

    Args:
      probs: Probabilities, `[T, ..., K]`, with the axis of samples first.

    Returns:
      Array of shape `[...]`, in nats, each value in [0, log K] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty or of one class, or concrete values are not valid probabilities (to
        within 1e-3, or 2e-2 in half precision).

    References:
      Depeweg et al., "Decomposition of uncertainty in Bayesian deep learning for efficient and
      risk-sensitive learning", 2018.

    Examples:
      >>> total_entropy(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
      Array([0.6931472], dtype=float32)
    """
    return _unchecked.entropy_of(jnp.mean(_samples(probs), axis=0))


def expected_entropy(probs: ArrayLike) -> jax.Array:
    """Expected entropy: the mean entropy of the samples, the aleatoric part of the uncertainty.

    More data would not remove it.

    Args:
      probs: Probabilities, `[T, ..., K]`, with the axis of samples first.

    Returns:
      Array of shape `[...]`, in nats, each value in [0, log K] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty or of one class, or concrete values are not valid probabilities (to
        within 1e-3, or 2e-2 in half precision).

    References:
      Depeweg et al., "Decomposition of uncertainty in Bayesian deep learning for efficient and
      risk-sensitive learning", 2018.

    Examples:
      >>> expected_entropy(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
      Array([0.], dtype=float32)
    """
    return jnp.mean(_unchecked.entropy_of(_samples(probs)), axis=0)


def mutual_information(probs: ArrayLike) -> jax.Array:
    """Mutual information of a label and the parameters: the epistemic part, the samples' disagreement.

    It is computed as the mean divergence of a sample from the mean prediction. The difference of two
    entropies would lose the digits of a small value.

    Args:
      probs: Probabilities, `[T, ..., K]`, with the axis of samples first.

    Returns:
      Array of shape `[...]`, in nats, each value in [0, log min(K, T)] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty or of one class, or concrete values are not valid probabilities (to
        within 1e-3, or 2e-2 in half precision).

    References:
      Houlsby et al., "Bayesian active learning for classification and preference learning", 2011.

    Examples:
      >>> mutual_information(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
      Array([0.6931472], dtype=float32)
    """
    return _information(_samples(probs))


@jax.jit
def _information(probs: jax.Array) -> jax.Array:
    mean = jnp.mean(probs, axis=0, keepdims=True)
    gap = probs - mean
    near = probs > 0.5 * mean
    # Far below the mean, p / mean underflows: use log p - log mean. The gaps have a mean of 0. With the
    # gap subtracted, a term is of second order in it, and so is its rounding error.
    close = probs * jnp.log1p(jnp.where(near, gap, 0) / jnp.where(near, mean, 1))
    terms = jnp.where(near, close, _unchecked.xlogx(probs) - probs * _unchecked.safe_log(mean)) - gap
    information = jnp.mean(jnp.sum(terms, axis=-1), axis=0)
    return jnp.where(information > 0, information, 0)


def variation_ratio(probs: ArrayLike) -> jax.Array:
    """Variation ratio: the share of samples whose likeliest class is not the most common one.

    Args:
      probs: Probabilities, `[T, ..., K]`, with the axis of samples first. Of two likeliest
        classes of a sample the first counts.

    Returns:
      Array of shape `[...]`, each value in [0, 1 - 1 / K]; in float32 at least. It has no gradient.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty or of one class, or concrete values are not valid probabilities (to
        within 1e-3, or 2e-2 in half precision).

    References:
      Freeman, "Elementary applied statistics", 1965; of dropout samples: Gal and Ghahramani,
      "Dropout as a Bayesian approximation", 2016.

    Examples:
      >>> variation_ratio(jnp.array([[[0.9, 0.1]], [[0.8, 0.2]], [[0.4, 0.6]], [[0.7, 0.3]]]))
      Array([0.25], dtype=float32)
    """
    likeliest = _predictions.likeliest(probs)
    probs = _samples(probs)
    votes = jax.nn.one_hot(likeliest, probs.shape[-1], dtype=probs.dtype)
    return 1 - jnp.max(jnp.mean(votes, axis=0), axis=-1)


class Variance(NamedTuple):
    """The two parts of a predictive variance; their sum is the variance.

    Attributes:
      aleatoric: The mean of the predicted variances.
      epistemic: The variance of the predicted means.
    """

    aleatoric: jax.Array
    epistemic: jax.Array


def decompose_variance(means: ArrayLike, variances: ArrayLike) -> Variance:
    """Law of total variance: the mean of the variances, and the variance of the means.

    Their sum is the variance of the mixture of the samples' distributions.

    Args:
      means: Predicted means, `[T, ...]`, with the axis of samples first.
      variances: Predicted variances, at least 0, of the shape of `means` or one that broadcasts
        to it: a scalar 1 / tau for Gal's model of constant noise.

    Returns:
      A `Variance` of arrays `[...]`, in float32 at least. The variance over samples has
      the denominator T, not T - 1, so it is 0 for one sample.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are NaN, or
        variances negative.

    References:
      Kendall and Gal, "What uncertainties do we need in Bayesian deep learning for computer
      vision?", 2017.

    Examples:
      >>> decompose_variance(jnp.array([[1.0], [3.0]]), jnp.array([[0.5], [1.5]]))
      Variance(aleatoric=Array([1.], dtype=float32), epistemic=Array([1.], dtype=float32))
    """
    means = _checks.check_rank(_predictions.check_values(means, "means"), 1, "[T, ...]", "means")
    variances = _predictions.check_values(variances, "variances")
    _checks.check_nonnegative(variances, "variances", finite=False)
    variances = _checks.check_broadcastable(variances, means.shape, "variances")
    return Variance(jnp.mean(jnp.broadcast_to(variances, means.shape), axis=0), jnp.var(means, axis=0))


def _samples(probs: ArrayLike) -> jax.Array:
    return _predictions.check_probabilities(probs, "[T, ..., K]")
