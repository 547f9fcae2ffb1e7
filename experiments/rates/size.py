"""Figure 10: the error over the number of training images, without and with dropout.

The paper's network is 784-1024-1024-2048-10, and .2 of the inputs and .5 of the hidden units are
dropped. Of 100 and 500 images dropout "does not give any improvements"; then its gain increases up
to a point, and declines. That the updates are as many for all sizes is ours: the paper
does not say.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import data, report
from experiments.rates import runs
from experiments.regularizers.__main__ import verdict

PAPER_WIDTHS = (1024, 1024, 2048)
SIZES = (100, 500, 1_000, 5_000, 10_000, 50_000)
QUICK_SIZES = (50, 1_000)
INPUT_RATE, HIDDEN_RATE = 0.2, 0.5
# The sizes at which the paper sees no gain.
SMALL = 500
HEADER = ["images", "without", "with", "difference", "verdict", "train without", "train with"]


def make(dataset: str, seed: int, seeds: int, scale: float, quick: bool) -> runs.Plan:
    """The part's networks: for each size one without dropout and one with."""
    hidden = (32, 32) if quick else tuple(runs.scaled(width, scale) for width in PAPER_WIDTHS)
    steps = 100 if quick else runs.updates(scale)
    settings = tuple(
        runs.Setting(*rates, size)
        for size in (QUICK_SIZES if quick else SIZES)
        for rates in ((0.0, 0.0), (INPUT_RATE, HIDDEN_RATE))
    )
    return runs.Plan("size", dataset, seed, seeds, hidden, steps, settings)


def summarise(plan: runs.Plan, trained: runs.Trained) -> list[dict[str, Any]]:
    """A row for each size; the difference is what dropout adds to the test error, by seed."""
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
        for name, value in values.items():
            row[name], row[f"{name}_error"] = map(float, report.mean_and_error(value))
        row["verdict"] = verdict(row["difference"], row["difference_error"])
        rows.append(row | {f"{name}_by_seed": value for name, value in values.items()})
    return rows


def claims(rows: list[dict[str, Any]]) -> list[runs.Claim]:
    """The paper's: no gain of the fewest images, a gain of more, largest somewhere between."""
    small = [row for row in rows if row["size"] <= SMALL]
    large = [row for row in rows if row["size"] > SMALL]
    gains = [-row["difference"] for row in rows]
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
    """The test errors over the size, and what dropout changes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    sizes = [row["size"] for row in rows]
    lines = [(left, "without", "without dropout", "C0"), (left, "dropout", "with dropout", "C3")]
    for axis, name, label, color in (*lines, (right, "difference", None, "C2")):
        mean, error = (100 * np.array([row[key] for row in rows]) for key in (name, f"{name}_error"))
        axis.plot(sizes, mean, "o-", ms=3, color=color, label=label)
        axis.fill_between(sizes, mean - error, mean + error, color=color, alpha=0.25, lw=0)
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
        axis.minorticks_off()
        axis.set_xlabel("training images")
    left.set_yscale("log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.set_ylabel("test error (%)")
    left.legend(frameon=False)
    right.axhline(0, color="0.5", ls=":")
    right.set_ylabel("with dropout less without (points)")
    figure.suptitle(f"{title}: mean ± standard error over {plan.seeds} seeds", fontsize=10)
    return figure


def finish(plan: runs.Plan, examples: data.Dataset, trained: runs.Trained) -> runs.Result:
    """The table, the claims and the plot."""
    rows = summarise(plan, trained)
    title = f"{plan.dataset}, {plan.name(examples.x.shape[1])}"
    body = [
        [
            f"{row['size']:,}",
            *(report.percent(row[key], row[f"{key}_error"]) for key in ("without", "dropout", "difference")),
            row["verdict"],
            *(report.percent(row[key], row[f"{key}_error"]) for key in ("train_without", "train_dropout")),
        ]
        for row in rows
    ]
    caption = (
        f"Errors in percent: mean ± standard error over {plan.seeds} seeds, without dropout and with "
        f"{INPUT_RATE} of the inputs and {HIDDEN_RATE} of the hidden units dropped. Difference: with "
        "less without, on the test part, paired by seed; the verdict is at two standard errors of it."
    )
    figure = plot(plan, rows, title)
    return runs.Result(title, HEADER, body, caption, claims(rows), figure, {"sizes": rows})


def _verdicts(rows: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{row['size']:,}: {row['verdict']} ({report.percent(row['difference'], row['difference_error'])})"
        for row in rows
    )
