"""Scores of binary probabilities: one per label, of an example or of each label of a multi-label one.

Probabilities and labels have one shape: `[N]` for binary labels, `[..., L]` for multi-label examples.
To score a class k of many, use `probs[..., k]` and `labels == k`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty._bins import Mode, Reliability, binned, check_bins, gap_of
from jaxdrop.uncertainty._examples import check_binary

__all__ = ["binary_brier", "binary_ece", "binary_nll", "binary_reliability"]


def binary_nll(probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Negative log likelihood of each binary label, in nats; also called binary cross-entropy.

    Args:
      probs: Probabilities of label 1, `[...]`, in [0, 1].
      labels: Integers 0 and 1, or booleans, of the shape of `probs`.
      where: Boolean mask that broadcasts to `labels`. Those that it leaves out may hold anything, such as
        a label of 255 or -100. None: all.

    Returns:
      Array of shape `[...]`, one value per label; in float32 at least. It is infinite where the label's
      probability is 0; concrete float64 is not cast before the logarithm. NaN where masked, so average
      with `jnp.mean(..., where=where)`, and for a traced label that is neither 0 nor 1.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers or booleans, or `where` is not
        boolean.
      ValueError: If the shapes differ, `probs` is empty, or concrete probabilities are outside [0, 1] or
        labels not 0 or 1.

    References:
      Good, "Rational decisions", 1952.

    Examples:
      >>> binary_nll(jnp.array([0.75, 0.0]), jnp.array([1, 0]))
      Array([0.2876821, 0.       ], dtype=float32)
    """
    given = _predictions.exact(probs)
    probs, labels, where = check_binary(probs, labels, where)
    if _predictions.is_wide(given):
        # Before the cast, which would round a probability near 1 to 1.
        with np.errstate(divide="ignore", invalid="ignore"):
            ones, zeros = -np.log(given), -np.log1p(-given)
        nll = jnp.where(labels == 1, _predictions.widened(ones), _predictions.widened(zeros))
        return _known(nll + 0, labels, where)
    # Each logarithm sees only its labels, so that the other's gradient is no NaN.
    positive = labels == 1
    nll = 0 - jnp.log(jnp.where(positive, probs, 1)) - jnp.log1p(-jnp.where(positive, 0, probs))
    return _known(nll, labels, where)


def binary_brier(probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Brier score of each binary label: the squared distance of its probability.

    It is half of `brier` of the two classes, as binary scores usually are.

    Args:
      probs: Probabilities of label 1, `[...]`, in [0, 1].
      labels: Integers 0 and 1, or booleans, of the shape of `probs`.
      where: Boolean mask that broadcasts to `labels`. Those that it leaves out may hold anything, such as
        a label of 255 or -100. None: all.

    Returns:
      Array of shape `[...]`, one value in [0, 1] per label; in float32 at least. NaN where masked, so
      average with `jnp.mean(..., where=where)`, and for a traced label that is neither 0 nor 1.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers or booleans, or `where` is not
        boolean.
      ValueError: If the shapes differ, `probs` is empty, or concrete probabilities are outside [0, 1] or
        labels not 0 or 1.

    References:
      Brier, "Verification of forecasts expressed in terms of probability", 1950.

    Examples:
      >>> binary_brier(jnp.array([0.75, 0.0]), jnp.array([1, 0]))
      Array([0.0625, 0.    ], dtype=float32)
    """
    probs, labels, where = check_binary(probs, labels, where)
    return _known((probs - labels.astype(probs.dtype)) ** 2, labels, where)


def binary_reliability(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    mode: Mode = "equal_width",
    where: ArrayLike | None = None,
) -> Reliability:
    """Reliability diagram of binary probabilities: the share of positives against the probability.

    Args:
      probs: Probabilities of label 1, `[...]`, in [0, 1].
      labels: Integers 0 and 1, or booleans, of the shape of `probs`.
      bins: The number of bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many labels, except that equal probabilities share a bin.
      where: Boolean mask that broadcasts to `labels`. Those that it leaves out do not count, and may hold
        anything, such as a label of 255 or -100. None: all.

    Returns:
      A `Reliability` of arrays `[bins]`: "confidence" is the mean probability, "accuracy" the share of
      positive labels, NaN in a bin with a traced label that is neither 0 nor 1.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers or booleans, `bins` is not an
        integer, or `where` is not boolean.
      ValueError: If the shapes differ, `probs` is empty, concrete probabilities are outside [0, 1] or
        labels not 0 or 1, `bins` is below 1, or `mode` is not one of the two.

    References:
      Niculescu-Mizil and Caruana, "Predicting good probabilities with supervised learning", 2005.

    Examples:
      >>> binary_reliability(jnp.array([0.25, 0.75, 0.75]), jnp.array([0, 1, 0]), bins=2)
      Reliability(confidence=Array([0.25, 0.75], dtype=float32),
        accuracy=Array([0. , 0.5], dtype=float32), count=Array([1, 2], dtype=int32))
    """
    check_bins(bins, mode)
    given = _predictions.exact(probs)
    probs, labels, where = check_binary(probs, labels, where)
    (order,) = _predictions.ranked(given) if _predictions.is_wide(given) else (probs,)
    return binned(probs, order, _known(labels.astype(probs.dtype), labels, None), where, bins, mode)


def binary_ece(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    mode: Mode = "equal_width",
    where: ArrayLike | None = None,
) -> jax.Array:
    """Expected calibration error of binary probabilities: the mean gap to the share of positives.

    It differs from `ece` of the two classes, whose bins are of the likelier class's probability. For
    labels that differ in kind take one per label: `jax.vmap(binary_ece, in_axes=-1)`.

    Args:
      probs: Probabilities of label 1, `[...]`, in [0, 1].
      labels: Integers 0 and 1, or booleans, of the shape of `probs`.
      bins: The number of bins, at least 1.
      mode: "equal_width" for bins `(i / bins, (i + 1) / bins]`; "equal_mass" for bins of equally
        many labels, except that equal probabilities share a bin.
      where: Boolean mask that broadcasts to `labels`. Those that it leaves out do not count, and may hold
        anything, such as a label of 255 or -100. None: all.

    Returns:
      Scalar in [0, 1], in float32 at least. NaN if a traced label is neither 0 nor 1, or none is selected.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers or booleans, `bins` is not an
        integer, or `where` is not boolean.
      ValueError: If the shapes differ, `probs` is empty, concrete probabilities are outside [0, 1] or
        labels not 0 or 1, `bins` is below 1, or `mode` is not one of the two.

    References:
      Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
      binning", 2015.

    Examples:
      >>> binary_ece(jnp.array([0.25, 0.75, 0.75]), jnp.array([0, 1, 0]), bins=2)
      Array(0.25, dtype=float32)
    """
    return gap_of(binary_reliability(probs, labels, bins=bins, mode=mode, where=where))


def _known(values: jax.Array, labels: jax.Array, where: ArrayLike | None) -> jax.Array:
    """The values, NaN where masked and for a label that is neither 0 nor 1."""
    return _predictions.filled(jnp.where((labels == 0) | (labels == 1), values, jnp.nan), where, jnp.nan)
