"""Learning curves of each acquisition method, and a table against random labels."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import plots, report
from experiments.active import acquire, rounds
from experiments.means import Mean

# Shares of all rounds shown in the table.
LOOKS = (0.25, 0.5, 1.0)


def summarize(plan: rounds.Plan, found: dict[str, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Row of each method: errors at some numbers of labels, and differences from random labels."""
    rows = []
    looks = sorted({round(share * plan.rounds) for share in LOOKS})
    chance = found[acquire.RANDOM]["errors"]
    reference, last = chance[1:].mean(0), chance[-1]
    for method, result in found.items():
        errors = result["errors"]
        # The first round is the same for all methods.
        mean = errors[1:].mean(0)
        row: dict[str, Any] = {"method": method, "errors": errors, "mean": Mean.of(mean)}
        row["looks"] = [(plan.labels(i), *Mean.of(errors[i])) for i in looks]
        for name, values in (("difference", mean - reference), ("last", errors[-1] - last)):
            row[name] = Mean.of(values)
            row[f"{name}_verdict"] = "-" if method == acquire.RANDOM else row[name].verdict()
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], title: str, caption: str) -> report.Table:
    """Table with a row for each method."""
    header = ["method", *(f"{labels} labels" for labels, _, _ in rows[0]["looks"])]
    header += ["mean", "vs random", "verdict", "last vs random", "verdict"]
    body = []
    for row in rows:
        cells = [Mean(*mean).percent() for _, *mean in row["looks"]] + [row["mean"].percent()]
        for name in ("difference", "last"):
            word = row[f"{name}_verdict"]
            cells += ["-" if word == "-" else row[name].percent(), word]
        body.append([row["method"], *cells])
    return report.Table(title, header, body, caption)


def plot(plan: rounds.Plan, rows: list[dict[str, Any]], title: str) -> Figure:
    """Error over the labels, and its difference from that of random labels."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    labels = [plan.labels(i) for i in range(plan.rounds + 1)]
    for i, row in enumerate(rows):
        for axis, errors in zip(axes, (row["errors"], row["errors"] - rows[0]["errors"]), strict=True):
            plots.draw_mean(axis, labels, 100 * errors, i, row["method"])
            axis.set_xlabel("labels")
    axes[0].set_ylabel("test error (%)")
    axes[1].set_ylabel("test error minus random, paired by seed (points)")
    axes[0].legend()
    figure.suptitle(f"{title}: mean ± standard error over {plan.seeds} seeds")
    return figure
