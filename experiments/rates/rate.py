"""Figure 9a: error over the dropout rate of the hidden units, for one network.

The paper's network is 784-2048-2048-2048-10 without dropout of the inputs. The rate goes from .9 to 0
(its `p`, the share kept, from .1 to 1). The test error is flat for rates of .2 to .6 and rises at
both ends; at high rates the training error is high as well.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import data, plots, report
from experiments.means import Mean
from experiments.rates import runs

PAPER_WIDTH, PAPER_IMAGES = 2048, 60_000
RATES = tuple(i / 10 for i in range(10))
QUICK_RATES = (0.0, 0.2, 0.6, 0.9)
LOW, HIGH = 0.2, 0.6
HEADER = ["rate", "test", "train", "difference", "verdict"]
WORDS = ("lower", "higher")


def make(dataset: str, seed: int, seeds: int, scale: float, quick: bool) -> runs.Plan:
    """Configuration of the part; the images scale with the square, as the hidden weights do."""
    hidden = (32, 32) if quick else (runs.scaled(PAPER_WIDTH, scale),) * 3
    images = 100 if quick else runs.scaled(PAPER_IMAGES, scale**2)
    steps = 100 if quick else runs.updates(scale)
    settings = tuple(runs.Setting(0.0, rate, images) for rate in (QUICK_RATES if quick else RATES))
    return runs.Plan("rate", dataset, seed, seeds, hidden, steps, settings)


def summarize(plan: runs.Plan, trained: runs.Trained) -> list[dict[str, Any]]:
    """Row of each rate; the difference is from the mean over rates .2 to .6, paired by seed."""
    flat = trained.test[_middle(plan)].mean(0)
    rows = []
    for i, setting in enumerate(plan.settings):
        row: dict[str, Any] = {"rate": setting.hidden}
        values = {"test": trained.test[i], "train": trained.train[i], "difference": trained.test[i] - flat}
        row |= {name: Mean.of(value) for name, value in values.items()}
        row["verdict"] = row["difference"].verdict(*WORDS)
        rows.append(row | {"test_by_seed": trained.test[i], "train_by_seed": trained.train[i]})
    return rows


def claims(plan: runs.Plan, rows: list[dict[str, Any]]) -> list[runs.Claim]:
    """Claims of the paper: the error rises at both ends and is flat in the middle."""
    found = [
        runs.Claim(
            f"the error at rate {row['rate']:g} is higher than at .2 to .6",
            f"{row['difference'].percent()} points, {row['verdict']}",
            {"higher": "yes", "lower": "no"}.get(row["verdict"], "unclear"),
        )
        for row in (rows[0], rows[-1])
    ]
    means = [rows[i]["test"].value for i in _middle(plan)]
    spread, end = max(means) - min(means), min(rows[0], rows[-1], key=lambda row: row["difference"])
    above = end["difference"].value
    best = min(rows, key=lambda row: row["test"])
    near = [
        f"{row['rate']:g}"
        for row in rows
        if row is not best and Mean.of(row["test_by_seed"] - best["test_by_seed"]).verdict(*WORDS) != "higher"
    ]
    flat = runs.Claim(
        "it is flat from .2 to .6",
        f"the means there span {100 * spread:.2f} points, and rate {end['rate']:g} lies "
        f"{100 * above:.2f} above their mean; the lowest of all is at {best['rate']:g}, "
        f"not told from it: {', '.join(near) or 'none'}",
        "yes" if spread < above else "no",
    )
    return [*found, flat]


def plot(plan: runs.Plan, rows: list[dict[str, Any]], title: str) -> Figure:
    """Test and training error over the rate, in full and where the test error is low."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    rates = [row["rate"] for row in rows]
    for i, (name, label) in enumerate({"train": "training", "test": "test"}.items()):
        for axis in axes:
            errors = np.array([row[f"{name}_by_seed"] for row in rows])
            plots.draw_mean(axis, rates, 100 * errors, i, label)
    for axis in axes:
        axis.axvspan(LOW, HIGH, color=plots.LIGHT, alpha=0.15, lw=0, label="flat in the paper")
        axis.set_xticks(rates)
        axis.set_xlabel("dropout rate of the hidden units")
        axis.set_ylabel("error (%)")
    low = 100 * min(row["test"].value for row in rows)
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 2 * low)
    axes[1].set_title(f"the same, up to {2 * low:.0f} %")
    axes[0].legend()
    figure.suptitle(f"{title}: mean ± standard error over {plan.seeds} seeds")
    return figure


def finish(plan: runs.Plan, examples: data.Dataset, trained: runs.Trained) -> runs.Result:
    """Table, claims and plot."""
    rows = summarize(plan, trained)
    name, images = plan.name(examples.x.shape[1]), plan.settings[0].size
    title = f"{plan.dataset}, {images} training images, {name}"
    body = [
        [
            f"{row['rate']:g}",
            *(row[key].percent() for key in ("test", "train", "difference")),
            row["verdict"],
        ]
        for row in rows
    ]
    caption = (
        f"Errors in percent: mean ± standard error over {plan.seeds} seeds. Difference: of the test "
        "error from the mean over the rates of .2 to .6, paired by seed; the verdict is at two "
        "standard errors of it."
    )
    table = report.Table(title, HEADER, body, caption)
    return runs.Result(table, claims(plan, rows), plot(plan, rows, title), {"rates": rows})


def _middle(plan: runs.Plan) -> list[int]:
    """Places of the rates at which the paper finds the error flat."""
    return [i for i, setting in enumerate(plan.settings) if LOW <= setting.hidden <= HIGH]
