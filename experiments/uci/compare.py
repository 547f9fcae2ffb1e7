"""Comparison with the published results of the original, split by split: table and plot."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import plots, splits
from experiments.means import Mean, mean_and_error

HEADER = ["", "here", "reference", "difference", "verdict"]
NAMES = {"test_ll": "test log likelihood", "test_rmse": "test RMSE"}
_SHORT = {"test_ll": "log likelihood", "test_rmse": "RMSE"}
_UNITS = {"test_ll": "nats", "test_rmse": "unit of the target"}
# Verdicts on a lower and a higher value.
_WORDS = {"test_ll": ("worse", "better"), "test_rmse": ("better", "worse")}


def summarize(found: dict[str, Any], reference: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over the splits, and differences from the reference paired by split.

    Args:
      found: Arrays `[S]` of one seed or `[seeds, S]` under the names of `NAMES`; under NAME_error their
        Monte-Carlo errors.
      reference: Arrays `[S]` under the same names, or empty.

    Returns:
      For each name "mean", over splits of the mean over seeds; "monte_carlo_error", the share of its
      error due to the number of samples; with several seeds "seed_error", its share due to the seeds; with a
      reference "reference", "difference" and "verdict".
    """
    rows: dict[str, Any] = {}
    for name in NAMES:
        values, errors = (np.atleast_2d(found[key]) for key in (name, f"{name}_error"))
        sampling = float(np.sqrt(np.sum(errors**2)) / values.size)
        of_splits = values.mean(0)
        rows[name] = {"monte_carlo_error": sampling, "mean": Mean.of(of_splits)}
        if len(values) > 1:
            of_seeds = mean_and_error(values, 0)[1]
            rows[name]["seed_error"] = float(np.sqrt(np.sum(of_seeds**2)) / len(of_seeds))
        if reference:
            difference = Mean.of(of_splits - reference[name])
            verdict = difference.verdict(*_WORDS[name], "not told apart", "one split")
            rows[name] |= {"reference": Mean.of(reference[name]), "difference": difference}
            rows[name]["verdict"] = verdict
    return rows


def body(summary: dict[str, Any]) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    for name, label in NAMES.items():
        row = summary[name]
        others = [_number(row[key]) if key in row else "-" for key in ("reference", "difference")]
        rows.append([label, _number(row["mean"]), *others, row.get("verdict", "-")])
    return rows


def agreement(taus: np.ndarray, reference: dict[str, np.ndarray]) -> int | None:
    """Number of splits (of all seeds) in which the same precision was chosen; None if that is unknown."""
    return int(np.isclose(taus, reference["tau"]).sum()) if "tau" in reference else None


def title(problem: splits.Problem, layers: int, epochs: int) -> str:
    """Title of table and plot."""
    depth = "" if layers == 1 else f"{layers} hidden layers, "
    return f"{problem.name}, {depth}{epochs:,} of {problem.epochs:,} epochs"


def caption(count: int, samples: int, summary: dict[str, Any], same: int | None, seeds: int = 1) -> str:
    """Caption of the table."""
    text = f"Mean ± standard error over {count} splits, with {samples:,} samples for each."
    if seeds > 1:
        shares = " and ".join(f"{summary[name]['seed_error']:.2g} ({_SHORT[name]})" for name in NAMES)
        text += f" Each split is the mean of {seeds} seeds, whose share of the error is {shares}."
    if "difference" in summary["test_ll"]:
        text += " Difference: here minus the reference, paired by split; the verdict is at two standard "
        text += "errors of it."
    if same is not None:
        text += (
            f" The same tau was chosen in {same} of {count * seeds} {'splits' if seeds == 1 else 'cases'}."
        )
    return text


def plot(problem: splits.Problem, found: dict[str, Any], title: str) -> Figure:
    """Plot of every split, here against the reference; without one, side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6))
    for axis, name in zip(axes, NAMES, strict=True):
        if problem.reference:
            _against(axis, name, problem.reference[name], found)
        else:
            _side_by_side(axis, name, found)
    plots.add_legend(figure)
    figure.suptitle(title)
    return figure


def _points(name: str, found: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, str]:
    """Value and error of each split, `[S]`, and their label; the error of several seeds is their own."""
    values, errors = (np.atleast_2d(found[key]) for key in (name, f"{name}_error"))
    if len(values) == 1:
        return values[0], errors[0], "a split ± 2 Monte-Carlo errors"
    mean, error = mean_and_error(values, 0)
    return mean, error, f"a split, mean of {len(values)} seeds ± 2 standard errors"


def _against(axis: Axes, name: str, reference: np.ndarray, found: dict[str, Any]) -> None:
    values, error, label = _points(name, found)
    low, high = min(reference.min(), values.min()), max(reference.max(), values.max())
    room = 0.05 * (high - low) or 1.0
    ends = (low - room, high + room)
    axis.plot(ends, ends, color=plots.LIGHT, ls=":", lw=1, label="equal")
    axis.errorbar(reference, values, yerr=2 * error, fmt="o", ms=4, capsize=2, color=plots.BLUE, label=label)
    x, y = Mean.of(reference), Mean.of(values)
    style = {"fmt": "D", "ms": 5, "color": plots.VERMILION, "label": "mean ± standard error"}
    axis.errorbar(x.value, y.value, xerr=x.error, yerr=y.error, **style)
    axis.set_xlim(ends)
    axis.set_ylim(ends)
    axis.set_aspect("equal")
    axis.set_xlabel(f"{NAMES[name]}, reference ({_UNITS[name]})")
    axis.set_ylabel(f"{NAMES[name]}, here ({_UNITS[name]})")


def _side_by_side(axis: Axes, name: str, found: dict[str, Any]) -> None:
    values, error, label = _points(name, found)
    mean, spread = Mean.of(values)
    axis.errorbar(np.arange(len(values)), values, yerr=2 * error, fmt="o", ms=4, capsize=2, label=label)
    axis.axhline(mean, color=plots.VERMILION, ls="--", lw=1, label="mean ± standard error")
    axis.axhspan(mean - spread, mean + spread, color=plots.VERMILION, alpha=0.2, lw=0)
    axis.set_xticks(range(len(values)))
    axis.set_xlabel("split")
    axis.set_ylabel(f"{NAMES[name]} ({_UNITS[name]})")


def _number(mean: Mean) -> str:
    """Text to two significant figures of the error."""
    digits = int(np.clip(1 - np.floor(np.log10(mean.error)), 0, 6)) if mean.error > 0 else 3
    return mean.show(digits=digits)
