"""Plots: one style, a color-blind safe palette, and figures made of arrays.

A mapping gives each method or data set its name and its order. Color is never the only cue: markers, line
styles or labels tell the same.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cycler
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.means import Mean, mean_and_error
from jaxdrop import plots as library
from jaxdrop.plots import PALETTE

mpl.use("agg")
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, _ = PALETTE
GRAY, LIGHT = "0.4", "0.6"
MARKERS = "osD^vP*"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))
# Color and marker of a verdict: down and blue is a gain, up and vermilion a loss.
VERDICTS = {
    **dict.fromkeys(("helps", "better", "lower"), (BLUE, "v")),
    **dict.fromkeys(("hurts", "worse", "higher"), (VERMILION, "^")),
}
NO_VERDICT = (GRAY, "o")
mpl.rcParams.update(
    {
        "font.size": 10,
        "axes.prop_cycle": cycler.cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.titlesize": 10,
        "figure.titlesize": 10,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "savefig.dpi": 150,
        "figure.constrained_layout.use": True,
    }
)

WIDTH, HEIGHT = 5.0, 3.8
# Bins of a reliability diagram, as many as in the expected calibration errors of the tables.
BINS = 15


class Band(NamedTuple):
    """A predicted curve with its spread.

    Attributes:
      mean: The prediction, `[N]`.
      deviation: Its standard deviation; None where the method gives none.
    """

    mean: np.ndarray
    deviation: np.ndarray | None = None


def color(i: int) -> str:
    """Color number `i` of the palette."""
    return PALETTE[i % len(PALETTE)]


def marker(i: int) -> str:
    """Marker number `i`."""
    return MARKERS[i % len(MARKERS)]


def draw_mean(
    axis: Axes,
    x: Sequence[float] | np.ndarray,
    values: np.ndarray,
    i: int,
    label: str | None = None,
    marks: bool = True,
) -> None:
    """Draws the mean over the last axis with a band of one standard error, in style number `i`."""
    mean, error = mean_and_error(values)
    axis.plot(x, mean, color=color(i), ls=LINES[i], marker=marker(i) if marks else "", ms=3.5, label=label)
    axis.fill_between(x, mean - error, mean + error, color=color(i), alpha=0.2, lw=0)


def comparison(
    verdicts: Mapping[str, str],
    scores: Sequence[Mean],
    differences: Sequence[Mean | None],
    labels: tuple[str, str],
    title: str,
    published: Mapping[str, float] | None = None,
) -> Figure:
    """Scores of methods on the left and paired differences from a baseline on the right.

    Args:
      verdicts: The verdict of each method, in the order of the rows.
      scores: Their scores, in the unit of the plot.
      differences: Their differences; None for a baseline.
      labels: The names of both horizontal axes.
      title: The title above both panels.
      published: Published scores of some methods, drawn as crosses.
    """
    places = np.arange(len(verdicts))[::-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 1.6 + 0.5 * len(verdicts)), sharey=True)
    for axis, means, label in zip((left, right), (scores, differences), labels, strict=True):
        for mean, place, verdict in zip(means, places, verdicts.values(), strict=True):
            shade, mark = VERDICTS.get(verdict, NO_VERDICT)
            if mean is not None:
                axis.errorbar(mean.value, place, xerr=mean.error, fmt=mark, color=shade, capsize=3)
        axis.set_xlabel(label)
        axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
    for name, place in zip(verdicts, places, strict=True):
        if published and name in published:
            left.plot(published[name], place, "kx", label="published, one run")
    right.axvline(0, color=LIGHT, ls=":")
    left.set_yticks(places, list(verdicts))
    left.set_ylim(-0.6, len(verdicts) - 0.4)
    add_legend(figure)
    figure.suptitle(
        f"{title}\n▼ lower, ▲ higher than the baseline at two standard errors; ● unclear or baseline"
    )
    return figure


def add_legend(figure: Figure, columns: int = 4, **options: float) -> None:
    """Adds one legend below all panels, each label once; none if nothing has a label."""
    found = {}
    for axis in figure.axes:
        handles, names = axis.get_legend_handles_labels()
        found |= {name: handle for name, handle in zip(names, handles, strict=True) if name not in found}
    if found:
        count = min(len(found), columns)
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=count, **options)


def reliability(predictions: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """Reliability diagrams: accuracy over confidence with standard errors, one panel per method.

    Args:
      predictions: For each method, the class probabilities, `[N, K]`, and the labels, `[N]`.
      title: The title above all panels.

    Returns:
      The figure; all panels share both axes.
    """
    figure, axes = _grid(len(predictions), 3, (0.8 * WIDTH, 3.0))
    for axis, (name, (probs, labels)) in zip(axes, predictions.items(), strict=True):
        library.reliability_diagram(probs, labels, bins=BINS, ax=axis)
        axis.set_title(name)
        # The likeliest of K classes has at least 1 / K; a mark at 1 is shown whole.
        axis.set(xlim=(1 / probs.shape[-1], 1.02), ylim=(0, 1.03))
        # Bins of few predictions, and wide bars, are at the left.
        axis.legend(fontsize="small", loc="lower right", bbox_to_anchor=(0.91, 0.02))
    names = axes[0].get_xlabel(), axes[0].get_ylabel()
    for axis in axes:
        axis.set(xlabel="", ylabel="")
    _name_axes(figure, *names)
    figure.suptitle(title)
    return figure


def risk_coverage(scores: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """Risk-coverage curves: error of the predictions kept when the most uncertain are rejected.

    Args:
      scores: For each method, whether each prediction is wrong, and its uncertainty, `[N]` each.
      title: The title.

    Returns:
      Risk over coverage, from the coverage at which a risk exceeds a twentieth of its value at full
      coverage.
    """
    figure, axis = plt.subplots(figsize=(1.4 * WIDTH, 1.2 * HEIGHT))
    for name, (wrong, score) in scores.items():
        library.risk_coverage_curve(wrong, score, label=name, ax=axis)
    figure.suptitle(title)
    return figure


def uncertainty_band(
    x: np.ndarray,
    bands: Mapping[str, Band],
    *,
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    title: str = "",
    labels: tuple[str, str] = ("x", "y"),
) -> Figure:
    """Predictions of one variable with bands of 50 and 90 %, one panel per method.

    Args:
      x: The inputs of the curves, `[N]`, ascending.
      bands: The prediction of each method.
      train: The training points; a dashed line marks the last.
      held_out: The held-out points.
      title: The title above all panels.
      labels: The names of both axes.

    Returns:
      The figure; all panels share both axes.
    """
    figure, axes = _grid(len(bands), 2, (1.2 * WIDTH, 2.6))
    for axis, (name, band) in zip(axes, bands.items(), strict=True):
        axis.plot(*train, ".", ms=3, color=VERMILION, label="trained on")
        if held_out is not None:
            axis.plot(*held_out, "x", ms=2.5, color=GRAY, label="held out")
        if band.deviation is None:
            axis.plot(x, band.mean, color=BLUE, lw=1.6, label="predicted")
        else:
            library.prediction_bands(x, band.mean, band.deviation, label="predicted", ax=axis)
            axis.legend().remove()
        axis.set(xlabel="", ylabel="")
        axis.axvline(np.max(train[0]), ls="--", color=GRAY, lw=1)
        axis.set_title(name)
    _name_axes(figure, *labels)
    add_legend(figure, columns=5)
    figure.suptitle(title)
    return figure


def entropy_histograms(
    entropies: Mapping[str, Mapping[str, np.ndarray]], title: str = "", bins: int = 30
) -> Figure:
    """Histograms of predictive entropy, in and out of distribution, one panel per method.

    Args:
      entropies: The entropy of each image, in nats, by method and data set; the first set is the one in
        distribution, and is filled.
      title: The title above all panels.
      bins: The number of bins, which all panels share.

    Returns:
      The share of the images in each bin; all panels share both axes.
    """
    figure, axes = _grid(len(entropies), 3, (0.8 * WIDTH, 2.6))
    top = max(float(np.max(values)) for sets in entropies.values() for values in sets.values())
    edges = np.linspace(0, max(top, 1e-6), bins + 1)
    for axis, (name, sets) in zip(axes, entropies.items(), strict=True):
        for i, (label, values) in enumerate(sets.items()):
            share = np.histogram(np.clip(values, 0, None), edges)[0] / np.size(values)
            look = {"fill": True, "alpha": 0.4} if i == 0 else {"ls": LINES[i - 1], "lw": 1.3}
            axis.stairs(100 * share, edges, color=color(i), label=label, **look)
        axis.set_title(name)
    axes[0].set_yscale("log")
    _name_axes(figure, "entropy of the prediction (nats)", "share of the images (%)")
    axes[0].legend(fontsize=8)
    figure.suptitle(title)
    return figure


def _grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Grid of `count` panels with shared axes."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, 0.7 + size[1] * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis in axes.flat[count:]:
        axis.remove()
    for axis in axes.flat[max(count - columns, 0) : count]:
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def _name_axes(figure: Figure, x: str, y: str) -> None:
    """Labels the lowest panel of each column, and the leftmost panels."""
    columns = len({axis.get_position().x0 for axis in figure.axes})
    for i, axis in enumerate(figure.axes):
        if i + columns >= len(figure.axes):
            axis.set_xlabel(x)
        if i % columns == 0:
            axis.set_ylabel(y)
