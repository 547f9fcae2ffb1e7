"""What came out, and how it compares with the committed results of the original, split by split."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report
from experiments.uci import splits

HEADER = ["", "here", "reference", "difference", "verdict"]
NAMES = {"test_ll": "test log likelihood", "test_rmse": "test RMSE"}
_UNITS = {"test_ll": "nats", "test_rmse": "unit of the target"}
# Which sign of a difference is good.
_BETTER = {"test_ll": 1, "test_rmse": -1}


def verdict(name: str, difference: float, error: float) -> str:
    """What a paired difference says at two standard errors."""
    if not np.isfinite(error):
        return "one split"
    if abs(difference) <= 2 * error:
        return "not told apart"
    return "better" if difference * _BETTER[name] > 0 else "worse"


def summarise(found: dict[str, Any], reference: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over the splits with their standard errors, and paired differences where there is a reference.

    Args:
      found: Arrays `[S]` under the names of `NAMES`, and under NAME_error their Monte-Carlo errors.
      reference: The same names, or empty.

    Returns:
      For each name a dict: "mean" and "error"; "monte_carlo_error", what the number of samples adds
      to that error; and with a reference "reference", "reference_error", "difference",
      "difference_error" and "verdict".
    """
    rows: dict[str, Any] = {}
    for name in NAMES:
        values = np.asarray(found[name])
        sampling = float(np.sqrt(np.sum(np.asarray(found[f"{name}_error"]) ** 2)) / len(values))
        row: dict[str, Any] = {"monte_carlo_error": sampling}
        columns = {"mean": ("mean", "error", values)}
        if reference:
            columns["reference"] = ("reference", "reference_error", reference[name])
            columns["difference"] = ("difference", "difference_error", values - reference[name])
        for mean, error, of in columns.values():
            row[mean], row[error] = map(float, report.mean_and_error(of))
        if reference:
            row["verdict"] = verdict(name, row["difference"], row["difference_error"])
        rows[name] = row
    return rows


def body(summary: dict[str, Any]) -> list[list[str]]:
    """The rows of the table."""
    rows = []
    for name, label in NAMES.items():
        row = summary[name]
        here = _number(row["mean"], row["error"])
        if "reference" not in row:
            rows.append([label, here, "-", "-", "-"])
            continue
        others = [_number(row[key], row[f"{key}_error"]) for key in ("reference", "difference")]
        rows.append([label, here, *others, row["verdict"]])
    return rows


def agreement(taus: np.ndarray, reference: dict[str, np.ndarray]) -> int | None:
    """In how many splits the same precision was chosen; None without a reference."""
    return int(np.isclose(taus, reference["tau"]).sum()) if reference else None


def caption(count: int, samples: int, same: int | None) -> str:
    """What the table holds."""
    text = f"Mean ± standard error over {count} splits, with {samples:,} samples for each."
    if same is None:
        return text
    return (
        f"{text} Difference: here less the reference, paired by split; the verdict is at two standard "
        f"errors of it. The same tau was chosen in {same} of {count} splits."
    )


def plot(problem: splits.Problem, found: dict[str, Any], title: str) -> Figure:
    """Every split, here against the reference; without one, the splits side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6))
    for axis, name in zip(axes, NAMES, strict=True):
        if problem.reference:
            _against(axis, name, problem.reference[name], found)
        else:
            _side_by_side(axis, name, found)
    # Below both, where no point can lie under it.
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def _against(axis: Axes, name: str, reference: np.ndarray, found: dict[str, Any]) -> None:
    values, error = np.asarray(found[name]), np.asarray(found[f"{name}_error"])
    low, high = min(reference.min(), values.min()), max(reference.max(), values.max())
    room = 0.05 * (high - low) or 1.0
    ends = (low - room, high + room)
    axis.plot(ends, ends, color="0.5", ls=":", lw=1, label="equal")
    label = "a split ± 2 Monte-Carlo errors"
    axis.errorbar(reference, values, yerr=2 * error, fmt="o", ms=4, capsize=2, color="C0", label=label)
    mean, spread = map(float, report.mean_and_error(values))
    whose, other = map(float, report.mean_and_error(reference))
    axis.errorbar(
        whose, mean, xerr=other, yerr=spread, fmt="D", ms=5, color="C3", label="mean ± standard error"
    )
    axis.set_xlim(ends)
    axis.set_ylim(ends)
    axis.set_aspect("equal")
    axis.set_xlabel(f"{NAMES[name]}, reference ({_UNITS[name]})")
    axis.set_ylabel(f"{NAMES[name]}, here ({_UNITS[name]})")


def _side_by_side(axis: Axes, name: str, found: dict[str, Any]) -> None:
    values, error = np.asarray(found[name]), np.asarray(found[f"{name}_error"])
    mean, spread = map(float, report.mean_and_error(values))
    label = "a split ± 2 Monte-Carlo errors"
    axis.errorbar(np.arange(len(values)), values, yerr=2 * error, fmt="o", ms=4, capsize=2, label=label)
    axis.axhline(mean, color="C3", lw=1, label="mean ± standard error")
    axis.axhspan(mean - spread, mean + spread, color="C3", alpha=0.2, lw=0)
    axis.set_xticks(range(len(values)))
    axis.set_xlabel("split")
    axis.set_ylabel(f"{NAMES[name]} ({_UNITS[name]})")


def _number(mean: float, error: float) -> str:
    """To two significant figures of the error."""
    digits = 3 if not error > 0 else int(np.clip(1 - np.floor(np.log10(error)), 0, 6))
    return f"{mean:.{digits}f}±{error:.{digits}f}"
