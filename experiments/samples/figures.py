"""Plots of error against time: a column per network, a row per measure, and a line or point per method."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import plots
from experiments.samples import evaluate, measures, methods, peers
from experiments.samples.evaluate import Result

# Color, marker and line of each method; no line for points.
STYLES = {
    methods.INDEPENDENT: (plots.BLUE, "o", "-"),
    methods.BALANCED: (plots.GREEN, "s", "--"),
    methods.MATCHED: (plots.PURPLE, "D", "-."),
    methods.MOMENTS: (plots.VERMILION, "*", ""),
    methods.GAUSSIAN: (plots.VERMILION, "P", ""),
    peers.FLAX: (plots.ORANGE, "^", ":"),
    peers.TORCH: (plots.GRAY, "v", ":"),
}
# Measure and label of each row, by plot; the last is of regression.
ROWS = {
    "images": {
        "covariance": "covariance (%)",
        "probabilities": "class probabilities",
        "mutual_information": "mutual information (MI)",
        "inside": "MI in distribution",
        "ranking": "rank by MI (%)",
    },
    "outputs": {
        "mean": "mean (sd)",
        "deviation": "sd (%)",
        "total_entropy": "total entropy",
        "expected_entropy": "expected entropy",
        "log_density": "log density",
        evaluate.AUROC: "AUROC (%)",
    },
    "regression": {
        "mean": "mean (sd)",
        "deviation": "sd (%)",
        "covariance": "variance (%)",
        "log_density": "log density",
    },
}
REGRESSION = "regression"


def figures(results: list[Result]) -> dict[str, Figure]:
    """The plots by file name; those without tasks are left out."""
    own = {name: [of for of in results if of.classes is (name != REGRESSION)] for name in ROWS}
    return {name: plot(tasks, ROWS[name]) for name, tasks in own.items() if tasks}


def plot(results: list[Result], rows: dict[str, str]) -> Figure:
    """Error against time, a column per task and a row per measure."""
    size = (max(2.6 * len(results), 6) + 1, 2.1 * len(rows) + 1.2)
    figure, axes = plt.subplots(len(rows), len(results), figsize=size, squeeze=False, sharex="col")
    for across, (measure, title) in zip(axes, rows.items(), strict=True):
        for axis, result in zip(across, results, strict=True):
            draw(axis, result, measure)
        across[0].set_ylabel(title)
    for axis, result in zip(axes[0], results, strict=True):
        axis.set_title(result.name)
    for axis in axes[-1]:
        axis.set_xlabel("time (ms)")
    plots.add_legend(figure, columns=4)
    figure.suptitle("Root mean squared error against the time of a batch; open: an upper bound")
    return figure


def draw(axis: Axes, result: Result, measure: str) -> None:
    """Line or points of each method."""
    for name, (color, marker, line) in STYLES.items():
        points = []
        for label, times in result.times.items():
            # A peer's samples have the law of independent ones.
            same = label.replace(name, methods.INDEPENDENT) if name in (peers.FLAX, peers.TORCH) else label
            found = error(result, same, measure) if label.split(", ")[0] == name else None
            if found is not None and np.isfinite(found[0]) and found[0] > 0:
                points.append((np.median(times), *found))
        if points:
            x, y, known = map(np.array, zip(*points, strict=True))
            axis.plot(x, y, color=color, ls=line or "none", lw=1.2)
            size = 9 if not line else 4
            style = {"color": color, "ls": "none", "ms": size, "marker": marker}
            axis.plot(x[known], y[known], **style, label=name)
            axis.plot(x[~known], y[~known], **style, mfc="none")
    axis.set_xscale("log")
    axis.set_yscale("log")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(lambda value, _: f"{value:g}")
        scale.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] == "3" else "")
    axis.tick_params(labelsize=8, which="both")


def error(result: Result, label: str, measure: str) -> tuple[float, bool] | None:
    """Root mean squared error of a method, or an upper bound and False; None where it has none."""
    if measure == evaluate.AUROC and label in result.scores:
        gap = result.scores[label] - result.scores[evaluate.REFERENCE]
        return 100 * float(np.sqrt((gap**2).mean())), True
    if measure not in result.errors.get(label, {}):
        return None
    value, known = measures.bounded(result.errors[label][measure], result.floors[measure])
    return (100 if measure in measures.PERCENT else 1) * value**0.5, known
