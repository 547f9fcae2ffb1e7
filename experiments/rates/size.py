"""Figure 10: error over the number of training images, without and with dropout.

The paper's network is 784-1024-1024-2048-10, with dropout of .2 of the inputs and .5 of the hidden
units. With 100 and 500 images dropout "does not give any improvements"; then its gain increases up
to a point, and declines. All sizes have the same number of updates here; the paper does not state it.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import data, plots, report
from experiments.means import Mean
from experiments.rates import runs

PAPER_WIDTHS = (1024, 1024, 2048)
SIZES = (100, 500, 1_000, 5_000, 10_000, 50_000)
QUICK_SIZES = (50, 1_000)
INPUT_RATE, HIDDEN_RATE = 0.2, 0.5
# Sizes up to this one, where the paper sees no gain.
SMALL = 500
HEADER = ["images", "without", "with", "difference", "verdict", "train without", "train with"]


def make(dataset: str, seed: int, seeds: int, scale: float, quick: bool) -> runs.Plan:
    """Configuration of the part: for each size a network without dropout and one with."""
    hidden = (32, 32) if quick else tuple(runs.scaled(width, scale) for width in PAPER_WIDTHS)
    steps = 100 if quick else runs.updates(scale)
    settings = tuple(
        runs.Setting(*rates, size)
        for size in (QUICK_SIZES if quick else SIZES)
        for rates in ((0.0, 0.0), (INPUT_RATE, HIDDEN_RATE))
    )
    return runs.Plan("size", dataset, seed, seeds, hidden, steps, settings)


def summarize(plan: runs.Plan, trained: runs.Trained) -> list[dict[str, Any]]:
    """Row of each size; the difference is test error with dropout minus without, paired by seed."""
    rows = []
    for i in range(0, len(plan.settings), 2):
        without, dropout = trained.test[i : i + 2]
        train_without, train_dropout = trained.train[i : i + 2]
        row: dict[str, Any] = {"size": plan.settings[i].size}
        values = {
            "without": without,
            "dropout": dropout,
            "difference": dropout - without,
            "train_without": train_without,
            "train_dropout": train_dropout,
        }
        row |= {name: Mean.of(value) for name, value in values.items()}
        row["verdict"] = row["difference"].verdict()
        rows.append(row | {f"{name}_by_seed": value for name, value in values.items()})
    return rows


def claims(rows: list[dict[str, Any]]) -> list[runs.Claim]:
    """Claims of the paper: no gain with the fewest images, a gain with more, largest in between."""
    small = [row for row in rows if row["size"] <= SMALL]
    large = [row for row in rows if row["size"] > SMALL]
    gains = [-row["difference"].value for row in rows]
    peak = int(np.argmax(gains))
    helped = sum(row["verdict"] == "helps" for row in large)
    return [
        runs.Claim(
            f"dropout does not help at up to {SMALL} images",
            _verdicts(small),
            "no" if any(row["verdict"] == "helps" for row in small) else "yes",
        ),
        runs.Claim(
            f"it helps at more than {SMALL}",
            _verdicts(large),
            ("no", "yes", "in part")[0 if not helped else 1 if helped == len(large) else 2],
        ),
        runs.Claim(
            "the gain increases up to a point and then declines",
            f"it is largest at {rows[peak]['size']:,} images, {100 * gains[peak]:.2f} points",
            "yes" if 0 < peak < len(rows) - 1 and gains[peak] > 0 else "no",
        ),
    ]


def plot(plan: runs.Plan, rows: list[dict[str, Any]], title: str) -> Figure:
    """Test errors over the size, and the change by dropout."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    sizes = [row["size"] for row in rows]
    lines = [(left, "without", "without dropout"), (left, "dropout", "with dropout")]
    for i, (axis, name, label) in enumerate([*lines, (right, "difference", None)]):
        plots.draw_mean(axis, sizes, 100 * np.array([row[f"{name}_by_seed"] for row in rows]), i, label)
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
        axis.minorticks_off()
        axis.set_xlabel("training images")
    left.set_yscale("log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.set_ylabel("test error (%)")
    left.legend()
    right.axhline(0, color=plots.LIGHT, ls=":")
    right.set_ylabel("with dropout minus without (points)")
    figure.suptitle(f"{title}: mean ± standard error over {plan.seeds} seeds")
    return figure


def finish(plan: runs.Plan, examples: data.Dataset, trained: runs.Trained) -> runs.Result:
    """Table, claims and plot."""
    rows = summarize(plan, trained)
    title = f"{plan.dataset}, {plan.name(examples.x.shape[1])}"
    body = [
        [
            f"{row['size']:,}",
            *(row[key].percent() for key in ("without", "dropout", "difference")),
            row["verdict"],
            *(row[key].percent() for key in ("train_without", "train_dropout")),
        ]
        for row in rows
    ]
    caption = (
        f"Errors in percent: mean ± standard error over {plan.seeds} seeds, without dropout and with "
        f"{INPUT_RATE} of the inputs and {HIDDEN_RATE} of the hidden units dropped. Difference: with "
        "minus without, on the test part, paired by seed; the verdict is at two standard errors of it."
    )
    table = report.Table(title, HEADER, body, caption)
    return runs.Result(table, claims(rows), plot(plan, rows, title), {"sizes": rows})


def _verdicts(rows: list[dict[str, Any]]) -> str:
    return "; ".join(f"{row['size']:,}: {row['verdict']} ({row['difference'].percent()})" for row in rows)
