"""How good predicted probabilities of classes are: proper scores, and calibration in bins."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike

Mode = Literal["equal_width", "equal_mass"]


def nll(probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """The negative log likelihood of each label, in nats.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.

    Returns:
      An array `[...]`, one value for each example; in float32 at least. It is infinite, as is its
      gradient, where the label's probability is 0; for Monte-Carlo samples that float32 cannot
      tell from 0, average in the logarithm: `mc.CategoricalLogDensity`. A traced label out of
      range gives NaN.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not fit, `probs` is empty, or concrete values are no
        probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    References:
      Good, "Rational decisions", 1952.

    >>> nll(jnp.array([[0.25, 0.75], [1.0, 0.0]]), jnp.array([1, 0]))
    Array([0.2876821, 0.       ], dtype=float32)
    """
    return 0 - jnp.log(at_labels(*_check(probs, labels)))


def brier(probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Brier's score: the squared distance of the probabilities from the label's.

    It is summed over all classes, as Brier had it: twice what some report of two classes.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.

    Returns:
      An array `[...]`, one value in [0, 2] for each example; in float32 at least. A traced label
      out of range gives NaN.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not fit, `probs` is empty, or concrete values are no
        probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    References:
      Brier, "Verification of forecasts expressed in terms of probability", 1950.

    >>> brier(jnp.array([[0.5, 0.5], [1.0, 0.0]]), jnp.array([1, 0]))
    Array([0.5, 0. ], dtype=float32)
    """
    probs, labels = _check(probs, labels)
    inside = (labels >= 0) & (labels < probs.shape[-1])
    distance = jnp.sum((probs - jax.nn.one_hot(labels, probs.shape[-1], dtype=probs.dtype)) ** 2, axis=-1)
    return jnp.where(inside, distance, jnp.nan)


def accuracy(probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Whether each example's likeliest class is its label.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1. Of two likeliest classes the first counts.
      labels: Integers in [0, K), `[...]`.

    Returns:
      An array `[...]`, 1.0 or 0.0 for each example, to take the mean of; in float32 at least. A
      traced label out of range is a miss.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not fit, `probs` is empty, or concrete values are no
        probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    >>> accuracy(jnp.array([[0.25, 0.75], [0.9, 0.1]]), jnp.array([1, 1]))
    Array([1., 0.], dtype=float32)
    """
    probs, labels = _check(probs, labels)
    return (jnp.argmax(probs, axis=-1) == labels).astype(probs.dtype)


class Reliability(NamedTuple):
    """What a reliability diagram shows: for each bin, from the least confident to the most.

    Attributes:
      confidence: The mean confidence of the examples in the bin; 0 where it is empty.
      accuracy: The share of them that are right; 0 where the bin is empty.
      count: How many there are.
    """

    confidence: jax.Array
    accuracy: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]


def reliability(
    probs: ArrayLike, labels: ArrayLike, *, bins: int = 15, mode: Mode = "equal_width"
) -> Reliability:
    """Confidence against accuracy, in bins of the likeliest class's probability.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: How many bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many examples, but for those of the same confidence, which stay together.

    Returns:
      A `Reliability` of arrays `[bins]`.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` or `bins` are not integers.
      ValueError: If the shapes do not fit, `probs` is empty, concrete values are no probabilities
        (to within 1e-3, or 2e-2 in half precision) or labels out of range, `bins` is below 1, or
        `mode` is another.

    References:
      Guo et al., "On calibration of modern neural networks", 2017; of equal mass: Nguyen and
      O'Connor, "Posterior calibration and exploratory analysis for natural language processing
      models", 2015.

    >>> reliability(jnp.array([[0.25, 0.75], [0.75, 0.25]]), jnp.array([1, 1]), bins=2)
    Reliability(confidence=Array([0.  , 0.75], dtype=float32),
      accuracy=Array([0. , 0.5], dtype=float32), count=Array([0, 2], dtype=int32))
    """
    probs, labels = _check(probs, labels)
    _check_bins(bins, mode)
    hits = jnp.argmax(probs, axis=-1) == labels
    return _binned(jnp.max(probs, axis=-1).reshape(-1), hits.reshape(-1), bins, mode)


def ece(probs: ArrayLike, labels: ArrayLike, *, bins: int = 15, mode: Mode = "equal_width") -> jax.Array:
    """The expected calibration error: the mean gap of confidence and accuracy over `reliability`.

    It is biased upwards, the more so the fewer examples there are in a bin.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: How many bins, at least 1.
      mode: "equal_width" or "equal_mass", see `reliability`; the second is often called adaptive.

    Returns:
      A scalar in [0, 1], in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` or `bins` are not integers.
      ValueError: If the shapes do not fit, `probs` is empty, concrete values are no probabilities
        (to within 1e-3, or 2e-2 in half precision) or labels out of range, `bins` is below 1, or
        `mode` is another.

    References:
      Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
      binning", 2015.

    >>> ece(jnp.array([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]]), jnp.array([1, 0, 0]))
    Array(0.4, dtype=float32)
    """
    return _gap(reliability(probs, labels, bins=bins, mode=mode))


def classwise_ece(
    probs: ArrayLike, labels: ArrayLike, *, bins: int = 15, mode: Mode = "equal_width"
) -> jax.Array:
    """The calibration error of every class's probability, not of the likeliest alone.

    For each class the gap of its mean probability and its frequency, over bins of its probability;
    then the mean over classes.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: How many bins, at least 1.
      mode: "equal_width" or "equal_mass", see `reliability`.

    Returns:
      A scalar in [0, 1], in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` or `bins` are not integers.
      ValueError: If the shapes do not fit, `probs` is empty, concrete values are no probabilities
        (to within 1e-3, or 2e-2 in half precision) or labels out of range, `bins` is below 1, or
        `mode` is another.

    References:
      Kull et al., "Beyond temperature scaling: obtaining well-calibrated multiclass probabilities
      with Dirichlet calibration", 2019.

    >>> classwise_ece(jnp.array([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]]), jnp.array([1, 0, 0]))
    Array(0.4, dtype=float32)
    """
    probs, labels = _check(probs, labels)
    _check_bins(bins, mode)
    classes = probs.shape[-1]
    hits = labels.reshape(1, -1) == jnp.arange(classes)[:, None]
    binned = jax.vmap(functools.partial(_binned, bins=bins, mode=mode))
    return jnp.mean(jax.vmap(_gap)(binned(probs.reshape(-1, classes).T, hits)))


def at_labels(probs: jax.Array, labels: jax.Array) -> jax.Array:
    """What each example's label has of `[..., K]`; NaN where a label is out of range."""
    inside = (labels >= 0) & (labels < probs.shape[-1])
    found = jnp.take_along_axis(probs, jnp.where(inside, labels, 0)[..., None], axis=-1)
    return jnp.where(inside, found[..., 0], jnp.nan)


def _check(probs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    probs = _checks.check_probabilities(probs, "[..., K]")
    return probs, _checks.check_labels(labels, probs)


def _check_bins(bins: int, mode: str) -> None:
    _checks.check_count(bins, "bins")
    _checks.check_choice(mode, ("equal_width", "equal_mass"), "mode")


@functools.partial(jax.jit, static_argnames=("bins", "mode"))
def _binned(confidence: jax.Array, hits: jax.Array, bins: int, mode: str) -> Reliability:
    index = _equal_width(confidence, bins) if mode == "equal_width" else _equal_mass(confidence, bins)
    count = jnp.zeros(bins, jnp.int32).at[index].add(1)
    right = jnp.zeros(bins, jnp.int32).at[index].add(hits.astype(jnp.int32))
    share = 1 / jnp.maximum(count, 1).astype(confidence.dtype)
    # One float32 sum of a million values is off in the third digit, so first by the hundreds.
    group = jnp.arange(len(index)) // 256
    sums = jnp.zeros((-(-len(index) // 256), bins), confidence.dtype).at[group, index].add(confidence)
    return Reliability(sums.sum(0) * share, right * share, count)


def _equal_width(confidence: jax.Array, bins: int) -> jax.Array:
    edges = (np.arange(1, bins) / bins).astype(confidence.dtype)
    return jnp.searchsorted(jnp.asarray(edges), confidence, side="left")


def _equal_mass(confidence: jax.Array, bins: int) -> jax.Array:
    """By rank; the same confidence has the same rank, that of its first."""
    rank = jnp.searchsorted(jnp.sort(confidence), confidence, side="left")
    firsts = -(-np.arange(1, bins) * len(confidence) // bins)
    return jnp.searchsorted(jnp.asarray(firsts), rank, side="right")


def _gap(of: Reliability) -> jax.Array:
    return jnp.sum(jnp.abs(of.confidence - of.accuracy) * of.count) / jnp.sum(of.count)
