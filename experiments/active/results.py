"""What the labels are worth by each method: a curve, and a table against labels at random."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import report
from experiments.active import acquire, rounds
from experiments.regularizers.__main__ import verdict

# At which shares of all the rounds the table looks.
LOOKS = (0.25, 0.5, 1.0)


def summarise(plan: rounds.Plan, found: dict[str, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    """A row for each method: errors at some numbers of labels, and the mean against random."""
    rows = []
    looks = sorted({round(share * plan.rounds) for share in LOOKS})
    chance = found[acquire.RANDOM]["errors"]
    reference, last = chance[1:].mean(0), chance[-1]
    for method, result in found.items():
        errors = result["errors"]
        # All methods have the first round in common.
        mean = errors[1:].mean(0)
        row: dict[str, Any] = {"method": method, "errors": errors}
        row["looks"] = [(plan.labels(i), *map(float, report.mean_and_error(errors[i]))) for i in looks]
        row["mean"], row["mean_error"] = map(float, report.mean_and_error(mean))
        for name, values in (("difference", mean - reference), ("last", errors[-1] - last)):
            row[name], row[f"{name}_error"] = map(float, report.mean_and_error(values))
            word = verdict(row[name], row[f"{name}_error"])
            row[f"{name}_verdict"] = "-" if method == acquire.RANDOM else word
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A row for each method."""
    header = ["method", *(f"{labels} labels" for labels, _, _ in rows[0]["looks"])]
    header += ["mean", "vs random", "verdict", "last vs random", "verdict"]
    body = []
    for row in rows:
        cells = [report.percent(mean, error) for _, mean, error in row["looks"]]
        cells.append(report.percent(row["mean"], row["mean_error"]))
        for name in ("difference", "last"):
            word = row[f"{name}_verdict"]
            cells += ["-" if word == "-" else report.percent(row[name], row[f"{name}_error"]), word]
        body.append([row["method"], *cells])
    return header, body


def plot(plan: rounds.Plan, rows: list[dict[str, Any]], title: str) -> Figure:
    """The error over the labels, and its difference from that of labels at random."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    labels = [plan.labels(i) for i in range(plan.rounds + 1)]
    for i, row in enumerate(rows):
        for axis, errors in zip(axes, (row["errors"], row["errors"] - rows[0]["errors"]), strict=True):
            mean, error = report.mean_and_error(100 * errors)
            color = "0.4" if row["method"] == acquire.RANDOM else f"C{i - 1}"
            axis.plot(labels, mean, color=color, label=row["method"])
            axis.fill_between(labels, mean - error, mean + error, color=color, alpha=0.2, lw=0)
            axis.set_xlabel("labels")
    axes[0].set_ylabel("test error (%)")
    axes[1].set_ylabel("that less the one at random, paired by seed (points)")
    axes[0].legend(frameon=False)
    figure.suptitle(f"{title}: mean ± standard error over {plan.seeds} seeds", fontsize=10)
    return figure
