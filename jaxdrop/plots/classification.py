"""Plots of class probabilities: the reliability diagram."""

import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.plots import _arrays, _axes
from jaxdrop.plots._axes import Axes
from jaxdrop.uncertainty import (
    Reliability,
    Score,
    _tallied,
    binary_reliability,
    ece_with_error,
    reliability,
)
from jaxdrop.uncertainty._examples import check_binary

__all__ = ["reliability_diagram"]

_IDEAL = "calibrated"


def reliability_diagram(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 10,
    cls: int | None = None,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plots the accuracy against the confidence, in bins of equal width, with standard errors.

    A point is the accuracy and the mean confidence of a bin, above the diagonal if the model is too little
    confident. Its bar is Wilson's interval of one standard error: it has a width also where all examples
    of a bin are right, unlike the accuracy plus or minus its standard error. The filled steps are the
    share of the examples in each bin. The legend gives the expected calibration error.

    Errors are those of independent examples. Pixels of an image are not: their errors are too small.

    Args:
      probs: Probabilities: `[..., K]`, whose likeliest class is meant, or binary, `[...]`, of label 1.
      labels: Integers in [0, K), or 0 and 1, `[...]`.
      bins: The number of bins, at least 1.
      cls: A class, for its probability and its frequency in place of those of the likeliest class.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If `probs` is not floating-point, `labels`, `bins` or `cls` are not integers, or a value is
        traced.
      ValueError: If the shapes do not match, `probs` is empty, values are not valid probabilities or labels
        out of range, `bins` is below 1, or `cls` is not a class.

    References:
      Bröcker and Smith, "Increasing the reliability of reliability diagrams", 2007; Guo et al., "On
      calibration of modern neural networks", 2017; Wilson, "Probable inference, the law of succession, and
      statistical inference", 1927.

    Examples:
      >>> probs = np.array([[0.25, 0.75], [0.25, 0.75], [0.875, 0.125], [0.125, 0.875]])
      >>> ax = reliability_diagram(probs, np.array([1, 0, 0, 1]))
      >>> ax.get_xlabel()
      'confidence'
    """
    probs = _predictions.exact(_arrays.check_known(probs, "probs"))
    labels = _predictions.exact(_arrays.check_known(labels, "labels"))
    _checks.check_count(bins, "bins")
    binary = np.ndim(probs) == np.ndim(labels)
    if binary and cls is not None:
        raise ValueError(f"`cls` must be None for binary probabilities, got {cls}.")
    if cls is not None:
        _predictions.check_examples(probs, labels, None)
        cls = _checks.check_choice(_checks.check_integer(cls, "cls"), range(np.shape(probs)[-1]), "cls")
        probs, labels = probs[..., cls], np.asarray(labels) == cls
    found, score = (
        _binary(probs, labels, bins) if binary or cls is not None else _of_classes(probs, labels, bins)
    )
    ax = _axes.axes(ax, _axes.SQUARE)
    _draw(ax, found, _axes.with_label(label, f"ECE {_axes.told(score)}"), bins)
    of_class = "the positive class" if binary else f"class {cls}"
    likeliest = not binary and cls is None
    ax.set_xlabel("confidence" if likeliest else f"probability of {of_class}")
    kind = "accuracy" if likeliest else f"frequency of {of_class}"
    ax.set_ylabel(f"{kind} ± standard error\nsteps: share of the examples")
    return ax


def _of_classes(probs: ArrayLike, labels: ArrayLike, bins: int) -> tuple[Reliability, Score]:
    return reliability(probs, labels, bins=bins), ece_with_error(probs, labels, bins=bins)


def _binary(probs: ArrayLike, labels: ArrayLike, bins: int) -> tuple[Reliability, Score]:
    found = binary_reliability(probs, labels, bins=bins)
    wide, hits, _ = check_binary(probs, labels, None)
    sums = _tallied.sums_of_gaps(wide, hits.astype(jnp.float32).astype(wide.dtype), None, bins)
    score = _tallied.FINISHED["ece"](sums)
    return found, Score(score.value, score.standard_error)


def _draw(ax: Axes, found: Reliability, label: str, bins: int) -> None:
    confidence, accuracy, count = (np.asarray(values, np.float64) for values in found)
    style = _axes.look(ax)
    if _axes.is_new(ax, _IDEAL):
        ax.plot([0, 1], [0, 1], color=_axes.GRAY, ls=":", label=_IDEAL)
    edges = np.linspace(0, 1, bins + 1)
    ax.stairs(count / count.sum(), edges, fill=True, color=style.color, alpha=_axes.FILL, lw=0)
    held = count > 0
    ends = _axes.wilson(accuracy[held], count[held])
    look = {"color": style.color, "marker": style.marker, "ls": style.line, "ms": 5, "lw": 1.2}
    ax.errorbar(confidence[held], accuracy[held], _axes.bars(accuracy[held], ends), **look, label=label)
    _axes.show_shares(ax)
    _axes.show_legend(ax, loc="upper left")
