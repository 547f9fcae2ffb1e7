"""Scores of class probabilities: proper scoring rules, and binned calibration errors."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty._unchecked import at_labels

__all__ = ["Reliability", "accuracy", "brier", "classwise_ece", "ece", "nll", "reliability"]

_Mode = Literal["equal_width", "equal_mass"]


def nll(probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Negative log likelihood of each label, in nats.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.

    Returns:
      Array of shape `[...]`, one value per example; in float32 at least. It is infinite, as is
      its gradient, where the label's probability is 0. If probabilities underflow, use logarithms:
      "log_mean" of `mc.Categorical(log_mean=True)` with optax, as below, or `mc.CategoricalLogDensity`.
      A traced label out of range gives NaN.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    References:
      Good, "Rational decisions", 1952.

    Examples:
      >>> nll(jnp.array([[0.25, 0.75], [1.0, 0.0]]), jnp.array([1, 0]))
      Array([0.2876821, 0.       ], dtype=float32)
      >>> import optax
      >>> log_probs = jnp.array([[-400.0, 0.0]])  # a probability of 0 in float32
      >>> optax.softmax_cross_entropy_with_integer_labels(log_probs, jnp.array([0]))
      Array([400.], dtype=float32)
    """
    return 0 - jnp.log(at_labels(*_check(probs, labels)))


def brier(probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Brier score: the squared distance of the probabilities from the one-hot label.

    It is summed over all classes, as by Brier; some define half of it for two classes.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.

    Returns:
      Array of shape `[...]`, one value in [0, 2] per example; in float32 at least. A traced label
      out of range gives NaN.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    References:
      Brier, "Verification of forecasts expressed in terms of probability", 1950.

    Examples:
      >>> brier(jnp.array([[0.5, 0.5], [1.0, 0.0]]), jnp.array([1, 0]))
      Array([0.5, 0. ], dtype=float32)
    """
    probs, labels = _check(probs, labels)
    inside = (labels >= 0) & (labels < probs.shape[-1])
    distance = jnp.sum((probs - jax.nn.one_hot(labels, probs.shape[-1], dtype=probs.dtype)) ** 2, axis=-1)
    return jnp.where(inside, distance, jnp.nan)


def accuracy(probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Accuracy: whether each example's likeliest class is its label.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1. Of two likeliest classes the first counts.
      labels: Integers in [0, K), `[...]`.

    Returns:
      Array of shape `[...]`, 1.0 or 0.0 per example, to be averaged; in float32 at least. A
      traced label out of range is a miss.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    Examples:
      >>> accuracy(jnp.array([[0.25, 0.75], [0.9, 0.1]]), jnp.array([1, 1]))
      Array([1., 0.], dtype=float32)
    """
    probs, labels = _check(probs, labels)
    return _is_hit(probs, labels).astype(probs.dtype)


class Reliability(NamedTuple):
    """A reliability diagram, with bins from the least to the most confident.

    Attributes:
      confidence: The mean confidence in each bin, `[bins]`; 0 for an empty bin.
      accuracy: The share of correct predictions in each bin, `[bins]`; 0 for an empty bin.
      count: The number of examples in each bin, `[bins]`.
    """

    confidence: jax.Array
    accuracy: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  # hides `tuple.count`


def reliability(
    probs: ArrayLike, labels: ArrayLike, *, bins: int = 15, mode: _Mode = "equal_width"
) -> Reliability:
    """Reliability diagram: accuracy against confidence, in bins of the likeliest class's probability.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: The number of bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many examples, except that examples of the same confidence share a bin.

    Returns:
      A `Reliability` of arrays `[bins]`.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` or `bins` are not integers.
      ValueError: If the shapes do not match, `probs` is empty or of one class, concrete values are not
        valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range, `bins` is
        below 1, or `mode` is not one of the two.

    References:
      Guo et al., "On calibration of modern neural networks", 2017; of equal mass: Nguyen and
      O'Connor, "Posterior calibration and exploratory analysis for natural language processing
      models", 2015.

    Examples:
      >>> reliability(jnp.array([[0.25, 0.75], [0.75, 0.25]]), jnp.array([1, 1]), bins=2)
      Reliability(confidence=Array([0.  , 0.75], dtype=float32),
        accuracy=Array([0. , 0.5], dtype=float32), count=Array([0, 2], dtype=int32))
    """
    probs, labels = _check(probs, labels)
    _check_bins(bins, mode)
    hits = _is_hit(probs, labels).reshape(-1)
    binned = functools.partial(_binned, bins=bins, mode=mode)
    return _meshes.on_automatic_axes(binned, jnp.max(probs, axis=-1).reshape(-1), hits)


def ece(probs: ArrayLike, labels: ArrayLike, *, bins: int = 15, mode: _Mode = "equal_width") -> jax.Array:
    """Expected calibration error: the mean gap between confidence and accuracy over the bins.

    It is biased upwards, the more the fewer examples a bin has.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: The number of bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many examples, often called adaptive.

    Returns:
      Scalar in [0, 1], in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` or `bins` are not integers.
      ValueError: If the shapes do not match, `probs` is empty or of one class, concrete values are not
        valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range, `bins` is
        below 1, or `mode` is not one of the two.

    References:
      Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
      binning", 2015.

    Examples:
      >>> ece(jnp.array([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]]), jnp.array([1, 0, 0]))
      Array(0.4, dtype=float32)
    """
    return _gap(reliability(probs, labels, bins=bins, mode=mode))


def classwise_ece(
    probs: ArrayLike, labels: ArrayLike, *, bins: int = 15, mode: _Mode = "equal_width"
) -> jax.Array:
    """Classwise expected calibration error, over all classes and not only the likeliest.

    For each class it is the mean gap between probability and frequency over bins of its probability.
    The result is the mean over classes.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: The number of bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many examples.

    Returns:
      Scalar in [0, 1], in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` or `bins` are not integers.
      ValueError: If the shapes do not match, `probs` is empty or of one class, concrete values are not
        valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range, `bins` is
        below 1, or `mode` is not one of the two.

    References:
      Kull et al., "Beyond temperature scaling: obtaining well-calibrated multiclass probabilities
      with Dirichlet calibration", 2019.

    Examples:
      >>> classwise_ece(jnp.array([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]]), jnp.array([1, 0, 0]))
      Array(0.4, dtype=float32)
    """
    probs, labels = _check(probs, labels)
    _check_bins(bins, mode)
    classes = probs.shape[-1]
    hits = labels.reshape(1, -1) == jnp.arange(classes, dtype=labels.dtype)[:, None]
    binned = jax.vmap(functools.partial(_binned, bins=bins, mode=mode))
    per_class = _meshes.on_automatic_axes(binned, probs.reshape(-1, classes).T, hits)
    return jnp.mean(jax.vmap(_gap)(per_class))


def _check(probs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    probs = _predictions.check_probabilities(probs, "[..., K]")
    return probs, _predictions.check_labels(labels, probs)


def _is_hit(probs: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.argmax(probs, axis=-1).astype(labels.dtype) == labels


def _check_bins(bins: int, mode: _Mode) -> None:
    _checks.check_count(bins, "bins")
    _checks.check_choice(mode, ("equal_width", "equal_mass"), "mode")


@functools.partial(jax.jit, static_argnames=("bins", "mode"))
def _binned(confidence: jax.Array, hits: jax.Array, bins: int, mode: _Mode) -> Reliability:
    index = _equal_width(confidence, bins) if mode == "equal_width" else _equal_mass(confidence, bins)
    count = jnp.zeros(bins, jnp.int32).at[index].add(1)
    right = jnp.zeros(bins, jnp.int32).at[index].add(hits.astype(jnp.int32))
    share = 1 / jnp.maximum(count, 1).astype(confidence.dtype)
    # A float32 sum of a million values is wrong in the third digit, so blocks of 256 are summed first.
    group = jnp.arange(len(index)) // 256
    sums = jnp.zeros((-(-len(index) // 256), bins), confidence.dtype).at[group, index].add(confidence)
    return Reliability(sums.sum(0) * share, right.astype(share.dtype) * share, count)


def _equal_width(confidence: jax.Array, bins: int) -> jax.Array:
    edges = (np.arange(1, bins) / bins).astype(confidence.dtype)
    return jnp.searchsorted(jnp.asarray(edges), confidence, side="left")


def _equal_mass(confidence: jax.Array, bins: int) -> jax.Array:
    """Bins by rank; equal confidences have the rank of the first of them."""
    rank = jnp.searchsorted(jnp.sort(confidence), confidence, side="left")
    firsts = -(-np.arange(1, bins) * len(confidence) // bins)
    return jnp.searchsorted(jnp.asarray(firsts, rank.dtype), rank, side="right")


def _gap(of: Reliability) -> jax.Array:
    count = of.count.astype(of.confidence.dtype)
    total = jnp.sum(of.count).astype(count.dtype)
    return jnp.sum(jnp.abs(of.confidence - of.accuracy) * count) / total
