"""Plots of selective prediction and out-of-distribution detection."""

from collections.abc import Mapping

import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike
from jaxdrop.plots import _arrays, _axes
from jaxdrop.plots._axes import Axes
from jaxdrop.uncertainty import aurc_with_error, auroc_with_error

__all__ = ["risk_coverage_curve", "roc_curve", "score_histograms"]

_CHANCE = "chance"
# The curve of risk and coverage starts where so many examples are kept, and this share of them.
_FIRST, _FIRST_SHARE = 20, 50
# The axis starts where the risk is this share of that of all examples, and at this coverage at most.
_RISEN, _LATEST = 0.05, 0.9


def risk_coverage_curve(
    errors: ArrayLike, uncertainty: ArrayLike, *, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Plots the risk-coverage curve: the mean error of the most certain examples, for each share of them.

    The band is one standard error of the risk at a fixed coverage. It has two parts: the error of a mean of
    the examples that are kept, and that of the threshold, which is estimated too. Of errors that are 0 or 1
    the first is Wilson's interval, which has a width also where no kept example is wrong. The legend gives
    the area under the whole curve. Errors are those of independent examples.

    The curve starts where 20 examples and 2 % are kept, as it is noise before. The axis starts where a risk
    is a twentieth of that of all examples, at a coverage of 90 % at most.

    Args:
      errors: The error of each example, `[B]`: whether its prediction is wrong, or any loss.
      uncertainty: An uncertainty score, `[B]`, larger for less certain examples; may be infinite.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If an argument is not real, or traced.
      ValueError: If an argument is empty or not of one axis, the shapes differ, values are NaN, or errors
        infinite.

    References:
      El-Yaniv and Wiener, "On the foundations of noise-free selective classification", 2010; Wilson,
      "Probable inference, the law of succession, and statistical inference", 1927.

    Examples:
      >>> ax = risk_coverage_curve(np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.5, 0.2]))
      >>> ax.lines[0].get_ydata()
      array([0.  , 0.  , 0.  , 0.25])
    """
    loss = _arrays.vector(errors, "errors", finite=True)
    _arrays.check_alike(_arrays.vector(uncertainty, "uncertainty"), loss, "uncertainty", "errors")
    # About its middle a loss with a large offset keeps its digits in float32.
    middle = 0.0 if _is_binary(loss) else (loss.min() + loss.max()) / 2
    score = _arrays.scored(lambda off: aurc_with_error(uncertainty, off), loss - middle)
    score = score._replace(value=middle + score.value)
    coverage, risk, below, above = _risks(loss, np.asarray(uncertainty))
    ax = _axes.axes(ax)
    style = _axes.look(ax)
    left = min(_start(coverage, risk), ax.get_xlim()[0] if ax.lines else 1)
    text = _axes.with_label(label, f"AURC {_axes.told(score)}")
    ax.plot(coverage, risk, color=style.color, ls=style.line, label=text)
    ax.fill_between(coverage, below, above, color=style.color, alpha=_axes.BAND, lw=0)
    ax.set_xlim(left, 1)
    if (loss >= 0).all():
        _axes.from_zero(ax)
    ax.set_xlabel("coverage: share of the examples kept, most certain first")
    kind = "error rate" if _is_binary(loss) else "mean error"
    ax.set_ylabel(f"{kind} of the examples kept, ± standard error")
    _axes.show_legend(ax)
    return ax


def score_histograms(
    in_scores: ArrayLike,
    out_scores: ArrayLike | Mapping[str, ArrayLike],
    *,
    bins: int = 30,
    name: str = "score",
    ax: Axes | None = None,
) -> Axes:
    """Plots histograms of a score in and out of distribution, with standard errors.

    The steps are the share of each set in each bin, and the band around them is Wilson's interval of one
    standard error. In distribution they are filled. The legend gives the AUROC of each set out of
    distribution, with DeLong's standard error.

    Args:
      in_scores: Uncertainties of in-distribution examples, `[N]`.
      out_scores: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; or several
        such sets by name.
      bins: The number of bins, at least 1, from the least to the largest score of all.
      name: What the scores are, with their unit, such as "entropy (nats)".
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If a score is not real, or traced, or `bins` is not an integer.
      ValueError: If an argument is empty or not of one axis, values are not finite, or `bins` is below 1.

    References:
      Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples in
      neural networks", 2017; DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more
      correlated receiver operating characteristic curves: a nonparametric approach", 1988.

    Examples:
      >>> ax = score_histograms(np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0]), bins=3)
      >>> ax.patches[0].get_data().values.round(2)
      array([0.33, 0.33, 0.33])
    """
    _checks.check_count(bins, "bins")
    outside = out_scores if isinstance(out_scores, Mapping) else {"out of distribution": out_scores}
    if not outside:
        raise ValueError("`out_scores` must hold at least one set, got none.")
    inside = _arrays.vector(in_scores, "in_scores", finite=True)
    sets = {key: _arrays.vector(scores, "out_scores", finite=True) for key, scores in outside.items()}
    labels = {key: f"{key}: AUROC {_axes.told(auroc_with_error(inside, of))}" for key, of in sets.items()}
    edges = np.histogram_bin_edges(np.concatenate([inside, *sets.values()]), bins)
    ax = _axes.axes(ax)
    _steps(ax, inside, edges, "in distribution", fill=True)
    for key, scores in sets.items():
        _steps(ax, scores, edges, labels[key], fill=False)
    ax.set_ylim(bottom=0, auto=None)
    ax.set_xlabel(name)
    ax.set_ylabel("share of each set, ± standard error")
    _axes.show_legend(ax)
    return ax


def roc_curve(
    in_scores: ArrayLike, out_scores: ArrayLike, *, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Plots the receiver operating characteristic of out-of-distribution detection.

    For each threshold it shows the share of out-of-distribution examples above it against that of
    in-distribution examples. The legend gives the area with DeLong's standard error. To detect wrong
    predictions, "in" are the correct ones and "out" the wrong ones.

    Args:
      in_scores: Uncertainties of in-distribution examples, `[N]`; may be infinite.
      out_scores: Uncertainties of out-of-distribution examples, `[M]`, which should be larger; may be
        infinite.
      label: The name in the legend. Each call on the same axes has another color.
      ax: The axes to draw in; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: If a score is not real, or traced.
      ValueError: If an argument is empty or not of one axis, or values are NaN.

    References:
      DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
      operating characteristic curves: a nonparametric approach", 1988.

    Examples:
      >>> ax = roc_curve(np.array([0.1, 0.2, 0.3]), np.array([0.3, 0.4]))
      >>> ax.lines[1].get_xydata().round(2).tolist()
      [[0.0, 0.0], [0.0, 0.5], [0.33, 1.0], [0.67, 1.0], [1.0, 1.0]]
    """
    inside, outside = _arrays.vector(in_scores, "in_scores"), _arrays.vector(out_scores, "out_scores")
    score = auroc_with_error(in_scores, out_scores)
    alarms, hits = _rates(inside, outside)
    ax = _axes.axes(ax, _axes.SQUARE)
    style = _axes.look(ax)
    if _axes.is_new(ax, _CHANCE):
        ax.plot([0, 1], [0, 1], color=_axes.GRAY, ls=":", label=_CHANCE)
    text = _axes.with_label(label, f"AUROC {_axes.told(score)}")
    ax.plot(alarms, hits, color=style.color, ls=style.line, label=text)
    _axes.show_shares(ax)
    ax.set_xlabel("share of in-distribution examples above the threshold")
    ax.set_ylabel("share of out-of-distribution examples above the threshold")
    _axes.show_legend(ax, loc="lower right")
    return ax


def _is_binary(loss: np.ndarray) -> bool:
    return bool(((loss == 0) | (loss == 1)).all())


def _start(coverage: np.ndarray, risk: np.ndarray) -> float:
    """Where the axis starts: at 0, or where the risk has risen to a share of the last."""
    first = int(np.argmax(risk > _RISEN * risk[-1]))
    return min(float(coverage[first]), _LATEST) if first else 0.0


def _risks(loss: np.ndarray, uncertainty: np.ndarray) -> tuple[np.ndarray, ...]:
    """Coverage, risk, and the ends of the band, at some of the coverages."""
    count = len(loss)
    order = np.argsort(uncertainty, kind="stable")
    ranked, loss = uncertainty[order], loss[order]
    # Examples of equal uncertainty count with their mean, which averages over their orders.
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    sizes = np.diff(np.append(starts, count))
    first, second = (np.repeat(np.add.reduceat(x, starts) / sizes, sizes) for x in (loss, loss**2))
    sums = np.append(0, np.cumsum(first))
    least = max(min(_FIRST, -(-count // 5)), count // _FIRST_SHARE)
    kept = least + _axes.thinned(count - least + 1, _axes.LINE_POINTS)
    risk = sums[kept] / kept
    # The mean error near the threshold: another example below it moves the threshold by one of these.
    reach = max(count // 50, 10)
    low, high = np.maximum(kept - reach, 0), np.minimum(kept + reach, count)
    near = (sums[high] - sums[low]) / (high - low)
    of_threshold = (near - risk) ** 2 * (1 - kept / count) / kept
    if _is_binary(loss):
        down, up = _axes.bars(risk, _axes.wilson(risk, kept))
    else:
        variance = np.maximum(np.cumsum(second)[kept - 1] / kept - risk**2, 0)
        down = up = np.sqrt(variance / np.maximum(kept - 1, 1))
    return (
        kept / count,
        risk,
        risk - np.hypot(down, np.sqrt(of_threshold)),
        risk + np.hypot(up, np.sqrt(of_threshold)),
    )


def _steps(ax: Axes, scores: np.ndarray, edges: np.ndarray, label: str, fill: bool) -> None:
    """The share of scores in each bin with its band."""
    style = _axes.look(ax)
    share = np.histogram(scores, edges)[0] / len(scores)
    below, above = _axes.wilson(share, len(scores))
    if fill:
        ax.stairs(share, edges, fill=True, color=style.color, alpha=_axes.FILL, lw=0)
    ax.stairs(share, edges, color=style.color, ls=style.line, lw=1.4, label=label)
    ax.stairs(above, edges, baseline=below, fill=True, color=style.color, alpha=_axes.BAND, lw=0)


def _rates(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shares of both sets at or above each distinct score, from the largest, after (0, 0)."""
    inside, outside = np.sort(inside), np.sort(outside)
    thresholds = np.unique(np.concatenate([inside, outside]))[::-1]
    alarms, hits = (1 - np.searchsorted(of, thresholds) / len(of) for of in (inside, outside))
    alarms, hits = np.append(0, alarms), np.append(0, hits)
    # Evenly along the curve; the first and the last points are (0, 0) and (1, 1).
    along = alarms + hits
    if len(along) > _axes.LINE_POINTS:
        at = np.unique(np.searchsorted(along, np.linspace(0, 2, _axes.LINE_POINTS)).clip(0, len(along) - 1))
        alarms, hits = alarms[at], hits[at]
    return alarms, hits
