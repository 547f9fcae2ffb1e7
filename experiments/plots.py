"""Pictures of uncertainty: from arrays to a figure, whoever computed them.

A dict gives each method or data set its name, and its order; what has many runs comes in as their mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Imported for its style, which all figures share.
from experiments import report as report

WIDTH, HEIGHT = 5.0, 3.8


# Confidence, accuracy and count of each bin; of an empty bin only the count is looked at.
Bins = tuple[Any, Any, Any]


class Band(NamedTuple):
    """A predicted curve with its spread.

    Attributes:
      mean: The prediction, `[N]`.
      deviation: Its standard deviation; None where the method gives none.
    """

    mean: np.ndarray
    deviation: np.ndarray | None = None


def reliability_diagram(bins: Mapping[str, Bins], title: str = "", *, least: int = 1) -> Figure:
    """How often a prediction is right over how sure it is, and how many are so sure.

    Args:
      bins: For each method, the mean confidence, the accuracy and the count of each bin, `[bins]` each.
      title: What stands above both panels.
      least: How many predictions a bin must hold to be shown on the left: of a few the accuracy is noise.

    Returns:
      On the left accuracy over confidence, on the diagonal if calibrated; on the right the share of the
      predictions in each bin, on a logarithmic axis, as most are sure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(2 * WIDTH, HEIGHT))
    left.plot([0, 1], [0, 1], ls=":", color="0.5", label="calibrated")
    for i, (name, triple) in enumerate(bins.items()):
        confidence, accuracy, count = (np.asarray(values, np.float64) for values in triple)
        held, enough = count > 0, count >= max(least, 1)
        style = {"marker": "o", "ms": 3.5, "color": f"C{i}", "label": name}
        left.plot(confidence[enough], accuracy[enough], **style)
        right.plot(confidence[held], 100 * count[held] / count.sum(), **style)
    left.set_ylabel("accuracy")
    right.set_ylabel("share of the predictions (%)")
    right.set_yscale("log")
    for axis in (left, right):
        axis.set_xlabel("confidence")
    left.legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def risk_coverage(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """The error among the answers that are given, if the most uncertain are held back.

    Args:
      curves: For each method, coverage and risk, both `[N]`, in [0, 1].
      title: What stands above.

    Returns:
      Risk over coverage, in percent; with all answers given it is the error.
    """
    figure, axis = plt.subplots(figsize=(1.4 * WIDTH, HEIGHT))
    for name, (coverage, risk) in curves.items():
        axis.plot(100 * np.asarray(coverage), 100 * np.asarray(risk), label=name)
    axis.set_xlabel("answers given, the surest first (%)")
    axis.set_ylabel("error among them (%)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def uncertainty_band(
    x: np.ndarray,
    bands: Mapping[str, Band],
    *,
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    deviations: Sequence[float] = (1, 2),
    title: str = "",
    labels: tuple[str, str] = ("x", "y"),
) -> Figure:
    """Predictions of one variable with bands, a panel for each method, the data beneath.

    Args:
      x: Where the curves are known, `[N]`, ascending.
      bands: For each method a `Band`.
      train: The points that were learnt from; a dashed line stands at the last.
      held_out: Points that were not.
      deviations: How many standard deviations each band reaches to either side.
      title: What stands above all panels.
      labels: Of the two axes.

    Returns:
      The figure; all panels share both axes.
    """
    figure, axes = _grid(len(bands), 2, (1.2 * WIDTH, 2.6))
    for axis, (name, band) in zip(axes, bands.items(), strict=True):
        axis.plot(*train, ".", ms=2.5, color="C3", label="trained on")
        if held_out is not None:
            axis.plot(*held_out, ".", ms=2.5, color="0.35", label="held out")
        _draw_band(axis, np.asarray(x), band, sorted(deviations))
        axis.axvline(np.max(train[0]), ls="--", color="0.4", lw=1)
        axis.set_title(name, fontsize=10)
    _name_axes(figure, *labels)
    # All that any panel has, once.
    found = {}
    for axis in figure.axes:
        handles, names = axis.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=len(found), frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def entropy_histograms(
    entropies: Mapping[str, Mapping[str, np.ndarray]], title: str = "", bins: int = 30
) -> Figure:
    """How uncertain the predictions are, in distribution and out, a panel for each method.

    Args:
      entropies: For each method, for each data set, a value for each image, in nats; the first set is the
        one in distribution, and is filled.
      title: What stands above all panels.
      bins: How many, the same for all.

    Returns:
      The share of the images in each bin; all panels share both axes.
    """
    figure, axes = _grid(len(entropies), 3, (0.8 * WIDTH, 2.6))
    top = max(float(np.max(values)) for sets in entropies.values() for values in sets.values())
    edges = np.linspace(0, max(top, 1e-6), bins + 1)
    for axis, (name, sets) in zip(axes, entropies.items(), strict=True):
        for i, (label, values) in enumerate(sets.items()):
            share = np.histogram(np.clip(values, 0, None), edges)[0] / np.size(values)
            axis.stairs(
                100 * share, edges, fill=i == 0, color=f"C{i}", alpha=0.5 if i == 0 else 1, label=label
            )
        axis.set_title(name, fontsize=10)
    axes[0].set_yscale("log")
    _name_axes(figure, "entropy of the prediction (nats)", "share of the images (%)")
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_band(axis: Axes, x: np.ndarray, band: Band, deviations: list[float]) -> None:
    axis.plot(x, band.mean, color="C0", lw=1.2, label="predicted")
    if band.deviation is None:
        return
    for i, times in enumerate(deviations):
        below, above = band.mean - times * band.deviation, band.mean + times * band.deviation
        label = f"± {times:g} standard deviation{'' if times == 1 else 's'}"
        axis.fill_between(x, below, above, color="C0", alpha=0.35 / (i + 1), lw=0, label=label)


def _grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """So many panels of a size, with shared axes."""
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
    """Labels below the lowest panel of each column, and on the left."""
    columns = len({axis.get_position().x0 for axis in figure.axes})
    for i, axis in enumerate(figure.axes):
        if i + columns >= len(figure.axes):
            axis.set_xlabel(x)
        if i % columns == 0:
            axis.set_ylabel(y)
