"""What is uncertain, and why: aleatoric, in the data, or epistemic, for want of data.

Samples of a predictive distribution have the axis of samples first: `[T, ..., K]` for the
probabilities of K classes. All entropies are in nats.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike


def entropy(probs: ArrayLike) -> jax.Array:
    """The entropy of categorical distributions: `-sum(p * log(p))`, in nats.

    A class of probability 0 has no part in it and no gradient, which is the limit of what comes
    back through a softmax.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.

    Returns:
      An array `[...]`, each value in [0, log K] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty, or concrete values are no probabilities: below 0, or with a sum
        that is off 1 by more than 1e-3 (2e-2 in half precision).

    References:
      Shannon, "A mathematical theory of communication", 1948.

    >>> entropy(jnp.array([[0.5, 0.5], [1.0, 0.0]]))
    Array([0.6931472, 0.       ], dtype=float32)
    """
    return raw_entropy(_checks.check_probabilities(probs, "[..., K]"))


def total_entropy(probs: ArrayLike) -> jax.Array:
    """The entropy of the mean of the samples: all the uncertainty there is of a label.

    It is `expected_entropy` and `mutual_information` together.

    Args:
      probs: Probabilities, `[T, ..., K]`, the samples first.

    Returns:
      An array `[...]`, in nats, each value in [0, log K] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty, or concrete values are no probabilities; see `entropy`.

    References:
      Depeweg et al., "Decomposition of uncertainty in Bayesian deep learning for efficient and
      risk-sensitive learning", 2018.

    >>> total_entropy(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    Array([0.6931472], dtype=float32)
    """
    return raw_entropy(jnp.mean(_samples(probs), axis=0))


def expected_entropy(probs: ArrayLike) -> jax.Array:
    """The mean entropy of the samples: the aleatoric part, which more data would not remove.

    Args:
      probs: Probabilities, `[T, ..., K]`, the samples first.

    Returns:
      An array `[...]`, in nats, each value in [0, log K] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty, or concrete values are no probabilities; see `entropy`.

    References:
      Depeweg et al., "Decomposition of uncertainty in Bayesian deep learning for efficient and
      risk-sensitive learning", 2018.

    >>> expected_entropy(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    Array([0.], dtype=float32)
    """
    return jnp.mean(raw_entropy(_samples(probs)), axis=0)


def mutual_information(probs: ArrayLike) -> jax.Array:
    """Between a label and the model's parameters: the epistemic part, how far samples disagree.

    The mean divergence of a sample from the mean of all. It is summed as such: the difference of
    two entropies would lose the digits of a small one.

    Args:
      probs: Probabilities, `[T, ..., K]`, the samples first.

    Returns:
      An array `[...]`, in nats, each value in [0, log min(K, T)] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty, or concrete values are no probabilities; see `entropy`.

    References:
      Houlsby et al., "Bayesian active learning for classification and preference learning", 2011.

    >>> mutual_information(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    Array([0.6931472], dtype=float32)
    """
    probs = _samples(probs)
    mean = jnp.mean(probs, axis=0, keepdims=True)
    gap = probs - mean
    near = probs > 0.5 * mean
    # Of a probability far below its mean two logs, for their ratio may be lost. The gaps have a mean of 0:
    # without them a term is of second order in its gap, and so are the digits that rounding costs it.
    close = probs * jnp.log1p(jnp.where(near, gap, 0) / jnp.where(near, mean, 1))
    terms = jnp.where(near, close, _xlogx(probs) - probs * _log(mean)) - gap
    information = jnp.mean(jnp.sum(terms, axis=-1), axis=0)
    return jnp.where(information > 0, information, 0)


def variation_ratio(probs: ArrayLike) -> jax.Array:
    """The share of samples whose likeliest class is not the one that most samples vote for.

    Args:
      probs: Probabilities, `[T, ..., K]`, the samples first. A sample with two likeliest classes
        votes for the first.

    Returns:
      An array `[...]`, each value in [0, 1 - 1 / K]; in float32 at least. It has no gradient.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty, or concrete values are no probabilities; see `entropy`.

    References:
      Freeman, "Elementary applied statistics", 1965; of dropout samples: Gal and Ghahramani,
      "Dropout as a Bayesian approximation", 2016.

    >>> variation_ratio(jnp.array([[[0.9, 0.1]], [[0.8, 0.2]], [[0.4, 0.6]], [[0.7, 0.3]]]))
    Array([0.25], dtype=float32)
    """
    probs = _samples(probs)
    votes = jax.nn.one_hot(jnp.argmax(probs, axis=-1), probs.shape[-1], dtype=probs.dtype)
    return 1 - jnp.max(jnp.mean(votes, axis=0), axis=-1)


class Variance(NamedTuple):
    """The two parts of a predictive variance, which sum to it.

    Attributes:
      aleatoric: The mean of the variances that the samples predict.
      epistemic: The variance of the means that they predict.
    """

    aleatoric: jax.Array
    epistemic: jax.Array


def decompose_variance(means: ArrayLike, variances: ArrayLike) -> Variance:
    """The law of total variance: the mean of the variances, and the variance of the means.

    Their sum is the variance of the mixture of the samples, each a distribution of its own.

    Args:
      means: Predicted means, `[T, ...]`, the samples first.
      variances: Predicted variances, at least 0, of the same shape or one that broadcasts to it:
        a scalar 1 / tau for Gal's model of constant noise.

    Returns:
      A `Variance` of arrays `[...]`, in float32 at least. The variance over samples is that of T
      equally likely values, with T and not T - 1 below, so it is 0 for one sample.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty, the shapes do not fit, or concrete values are NaN, or
        variances negative.

    References:
      Kendall and Gal, "What uncertainties do we need in Bayesian deep learning for computer
      vision?", 2017.

    >>> decompose_variance(jnp.array([[1.0], [3.0]]), jnp.array([[0.5], [1.5]]))
    Variance(aleatoric=Array([1.], dtype=float32), epistemic=Array([1.], dtype=float32))
    """
    means = _checks.check_rank(_checks.check_values(means, "means"), 1, "[T, ...]", "means")
    variances = _checks.check_values(variances, "variances")
    _checks.check_nonnegative(variances, "variances", finite=False)
    variances = _checks.check_broadcastable(variances, means.shape, "variances")
    return Variance(jnp.mean(jnp.broadcast_to(variances, means.shape), axis=0), jnp.var(means, axis=0))


def raw_entropy(probs: jax.Array) -> jax.Array:
    """The entropy, unchecked, for values that are probabilities by how they were made."""
    return jnp.sum(-_xlogx(probs), axis=-1)


def _samples(probs: ArrayLike) -> jax.Array:
    return _checks.check_probabilities(probs, "[T, ..., K]")


def _log(p: jax.Array) -> jax.Array:
    """The logarithm, with 0 for that of 0 and for its gradient."""
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), 0)


def _xlogx(p: jax.Array) -> jax.Array:
    return p * _log(p)
