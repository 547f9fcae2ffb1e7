"""Scores of class probabilities: proper scoring rules, and binned calibration errors."""

import jax
import jax.numpy as jnp

from jaxdrop import _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty._bins import Mode, Reliability, binned, check_bins, confidences, gap_of
from jaxdrop.uncertainty._unchecked import at_labels

__all__ = ["Reliability", "accuracy", "brier", "classwise_ece", "ece", "nll", "reliability"]


def nll(probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Negative log likelihood of each label, in nats.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out may hold anything, such
        as a label of 255 or -100. None: all.

    Returns:
      Array of shape `[...]`, one value per example; in float32 at least. It is infinite, as is
      its gradient, where the label's probability is 0. If probabilities underflow, use logarithms:
      "log_mean" of `mc.Categorical(log_mean=True)` with optax, as below, or `mc.CategoricalLogDensity`.
      NaN where masked, so average with `jnp.mean(..., where=where)`, and for a traced label out of range.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, or `where` is not boolean.
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
    probs, labels, where = _predictions.check_examples(probs, labels, where)
    picked = _predictions.filled(at_labels(probs, labels), where, 1)
    return _predictions.filled(0 - jnp.log(picked), where, jnp.nan)


def brier(probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Brier score: the squared distance of the probabilities from the one-hot label.

    It is summed over all classes, as by Brier; some define half of it for two classes.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out may hold anything, such
        as a label of 255 or -100. None: all.

    Returns:
      Array of shape `[...]`, one value in [0, 2] per example; in float32 at least. NaN where masked,
      so average with `jnp.mean(..., where=where)`, and for a traced label out of range.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, or `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    References:
      Brier, "Verification of forecasts expressed in terms of probability", 1950.

    Examples:
      >>> brier(jnp.array([[0.5, 0.5], [1.0, 0.0]]), jnp.array([1, 0]))
      Array([0.5, 0. ], dtype=float32)
    """
    probs, labels, where = _predictions.check_examples(probs, labels, where)
    return _predictions.filled(_known(_distance(probs, labels), labels, probs), where, jnp.nan)


@jax.jit
def _distance(probs: jax.Array, labels: jax.Array) -> jax.Array:
    """The squared distance to the corner of the label."""
    return jnp.sum((probs - jax.nn.one_hot(labels, probs.shape[-1], dtype=probs.dtype)) ** 2, axis=-1)


def accuracy(probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Accuracy: whether each example's likeliest class is its label.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1. Of two likeliest classes the first counts; concrete
        float64 values are compared before they are cast.
      labels: Integers in [0, K), `[...]`.
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out may hold anything, such
        as a label of 255 or -100. None: all.

    Returns:
      Array of shape `[...]`, 1.0 or 0.0 per example, to be averaged; in float32 at least. NaN where
      masked, so average with `jnp.mean(..., where=where)`, and for a traced label out of range.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, or `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    Examples:
      >>> accuracy(jnp.array([[0.25, 0.75], [0.9, 0.1]]), jnp.array([1, 1]))
      Array([1., 0.], dtype=float32)
    """
    given = probs
    probs, labels, where = _predictions.check_examples(probs, labels, where)
    return _predictions.filled(_hits(given, probs, labels), where, jnp.nan)


def reliability(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    mode: Mode = "equal_width",
    where: ArrayLike | None = None,
) -> Reliability:
    """Reliability diagram: accuracy against confidence, in bins of the likeliest class's probability.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: The number of bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many examples, except that examples of the same confidence share a bin.
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out do not count, and may
        hold anything, such as a label of 255 or -100. None: all.

    Returns:
      A `Reliability` of arrays `[bins]`. The accuracy is NaN in a bin with a traced label out of range.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `bins` are not integers, or `where` is not
        boolean.
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
    check_bins(bins, mode)
    given = probs
    probs, labels, where = _predictions.check_examples(probs, labels, where)
    confidence, order = confidences(given, probs)
    return binned(confidence, order, _hits(given, probs, labels), where, bins, mode)


def ece(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    mode: Mode = "equal_width",
    where: ArrayLike | None = None,
) -> jax.Array:
    """Expected calibration error: the mean gap between confidence and accuracy over the bins.

    It is biased upwards, the more the fewer examples a bin has.

    Args:
      probs: Probabilities, `[..., K]`, that sum to 1.
      labels: Integers in [0, K), `[...]`.
      bins: The number of bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many examples, often called adaptive.
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out do not count, and may
        hold anything, such as a label of 255 or -100. None: all.

    Returns:
      Scalar in [0, 1], in float32 at least. NaN if a traced label is out of range, or no example is
      selected.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `bins` are not integers, or `where` is not
        boolean.
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
    return gap_of(reliability(probs, labels, bins=bins, mode=mode, where=where))


def classwise_ece(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    mode: Mode = "equal_width",
    where: ArrayLike | None = None,
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
      where: Boolean mask that broadcasts to `labels`. Examples that it leaves out do not count, and may
        hold anything, such as a label of 255 or -100. None: all.

    Returns:
      Scalar in [0, 1], in float32 at least. NaN if a traced label is out of range, or no example is
      selected.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` or `bins` are not integers, or `where` is not
        boolean.
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
    check_bins(bins, mode)
    given = probs
    probs, labels, where = _predictions.check_examples(probs, labels, where)
    (order,) = _predictions.ranked(given) if _predictions.is_wide(given) else (probs,)
    hits = _known(jax.nn.one_hot(labels, probs.shape[-1], dtype=probs.dtype), labels[..., None], probs)

    def error(probs: jax.Array, order: jax.Array, hits: jax.Array) -> jax.Array:
        return gap_of(binned(probs, order, hits, where, bins, mode))

    return jnp.mean(jax.vmap(error, in_axes=-1)(probs, order, hits))


def _hits(given: ArrayLike, probs: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the likeliest class is the label, else 0; NaN for a label out of range."""
    hits = _predictions.likeliest(given).astype(labels.dtype) == labels
    return _known(hits.astype(probs.dtype), labels, probs)


def _known(values: jax.Array, labels: jax.Array, probs: jax.Array) -> jax.Array:
    """The values, NaN for a label out of range."""
    return jnp.where((labels >= 0) & (labels < probs.shape[-1]), values, jnp.nan)
