"""Figure 11: mean prediction of k sampled networks against weight scaling.

Each test image gets its own k networks, sampled by dropout, and the mean of their softmax. The paper
finds that about 50 samples do as well as weight scaling, and more do slightly better, well within one
standard deviation. It does not name the network; here it is that of Figure 10, with its dropout, trained
on all images.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import cli, data, plots, relu_net, report
from experiments.means import Mean
from experiments.rates import runs, size

IMAGES = 60_000
# Samples, and repetitions of all of them.
COUNTS, QUICK_COUNTS = (120, 5), (12, 3)
TICKS = (1, 2, 5, 10, 20, 50, 100)
# Least samples shown in the right panel.
ZOOMED = 10
# "About 50", within a factor of two.
ABOUT = (25, 100)
HEADER = ["samples", "test", "deviation", "vs weight scaling", "verdict"]
WORDS = ("better", "worse")


def make(dataset: str, seed: int, seeds: int, scale: float, quick: bool) -> runs.Plan:
    """Configuration of the part: one network per seed, trained with dropout on all images."""
    like = size.make(dataset, seed, seeds, scale, quick)
    setting = runs.Setting(size.INPUT_RATE, size.HIDDEN_RATE, 500 if quick else IMAGES)
    samples, repeats = QUICK_COUNTS if quick else COUNTS
    return like._replace(part="average", settings=(setting,), samples=samples, repeats=repeats)


@functools.partial(jax.jit, static_argnames="samples")
def sampled_errors(
    params: relu_net.Params, key: chex.PRNGKey, x: jax.Array, y: jax.Array, rates: tuple, samples: int
) -> jax.Array:
    """Error rates of the mean of the first 1, 2, ... predictions, `[samples]`.

    Sample t uses `fold_in(key, t)`; only the running sum of the predictions is kept.
    """

    def add(total: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, _ = relu_net.apply(params, x, rates, jax.random.fold_in(key, t))
        total = total + jax.nn.softmax(logits)
        return total, jnp.mean(total.argmax(-1) != y)

    start = jnp.zeros((len(x), params[f"layer_{len(params) - 1}"]["bias"].shape[-1]))
    return jax.lax.scan(add, start, jnp.arange(samples))[1]


def sample(plan: runs.Plan, examples: data.Dataset, trained: runs.Trained) -> np.ndarray:
    """Error rates of every network, repeated, `[seeds, repeats, samples]`."""
    x, y = jnp.asarray(examples.x_test), jnp.asarray(examples.y_test)
    setting = plan.settings[0]
    found = np.empty((plan.seeds, plan.repeats, plan.samples))
    bar, task = cli.progress("average: networks x repeats", plan.seeds * plan.repeats)
    with bar:
        for i, repeat in np.ndindex(plan.seeds, plan.repeats):
            params = jax.tree.map(lambda leaf, i=i: leaf[0, i], trained.params)
            # 2**31 is no training step, so these keys are not those of training.
            own = jax.random.fold_in(jax.random.key(plan.seed + i), 2**31)
            key = jax.random.fold_in(own, repeat)
            rates = (setting.input, setting.hidden)
            found[i, repeat] = sampled_errors(params, key, x, y, rates, plan.samples)
            bar.advance(task)
    return found


def summarize(errors: np.ndarray, scaling: np.ndarray) -> list[dict[str, Any]]:
    """Row of each number of samples.

    Args:
      errors: Error rates of the averages, `[seeds, repeats, samples]`.
      scaling: Error rates with weight scaling, `[seeds]`.

    Returns:
      The mean with its standard error over the networks, the standard deviation over repetitions for one
      network, and the difference from weight scaling, paired by network.
    """
    rows = []
    for k, of in enumerate(np.moveaxis(errors, -1, 0), 1):
        row: dict[str, Any] = {"samples": k, "deviation": float(np.sqrt(of.var(1, ddof=1).mean()))}
        row |= {"test": Mean.of(of.mean(1)), "difference": Mean.of(of.mean(1) - scaling)}
        rows.append(row | {"verdict": row["difference"].verdict(*WORDS)})
    return rows


def matched(rows: list[dict[str, Any]]) -> int | None:
    """Least number of samples whose mean error is at most that of weight scaling."""
    return next((row["samples"] for row in rows if row["difference"].value <= 0), None)


def within(rows: list[dict[str, Any]]) -> int | None:
    """Number of samples from which on the mean error is within one deviation of weight scaling."""
    return _from_where(rows, lambda row: abs(row["difference"].value) <= row["deviation"])


def above(rows: list[dict[str, Any]]) -> int | None:
    """Number of samples from which on the mean error is at most one deviation above weight scaling."""
    return _from_where(rows, lambda row: row["difference"].value <= row["deviation"])


def _from_where(rows: list[dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> int | None:
    last = [row["samples"] for row in itertools.takewhile(holds, reversed(rows))]
    return last[-1] if last else None


def claims(rows: list[dict[str, Any]], alone: list[int | None]) -> list[runs.Claim]:
    """Claims of the paper: about 50 samples are as good, and more are slightly better."""
    first, last = matched(rows), rows[-1]
    as_good = first is not None and ABOUT[0] <= first <= ABOUT[1]
    close = abs(last["difference"].value) <= last["deviation"]
    return [
        runs.Claim(
            "about 50 samples are as good as weight scaling",
            f"the mean error is no higher at {_or_never(first)} samples; at most one deviation higher from "
            f"{_or_never(above(rows))} on; within one, either way, from {_or_never(within(rows))} on; no "
            f"higher by network at {', '.join(map(_or_never, alone))}",
            "yes" if as_good else "no",
        ),
        runs.Claim(
            "more are slightly better, well within one standard deviation",
            f"at {last['samples']}: {last['difference'].percent()} points, "
            f"{last['verdict']}; one deviation is {100 * last['deviation']:.2f}",
            {"better": "yes" if close else "in part", "worse": "no"}.get(last["verdict"], "unclear"),
        ),
    ]


def plot(rows: list[dict[str, Any]], scaling: np.ndarray, title: str) -> Figure:
    """Error over the number of samples, and its difference from weight scaling where it is small."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    k = np.array([row["samples"] for row in rows])
    shown = np.unique(np.geomspace(1, len(k), 25).round().astype(int)) - 1
    for axis, name, level in ((axes[0], "test", 100 * scaling.mean()), (axes[1], "difference", 0.0)):
        mean, error = 100 * np.array([row[name] for row in rows]).T
        deviation = 100 * np.array([row["deviation"] for row in rows])
        at = shown if name == "test" else shown[k[shown] >= min(ZOOMED, len(k) // 2)]
        label = "k samples ± standard deviation over repetitions"
        axis.errorbar(k[at], mean[at], yerr=deviation[at], fmt="o-", ms=3, capsize=2, label=label)
        axis.axhline(level, color=plots.VERMILION, ls="--", label="weight scaling")
        axis.set_xscale("log")
        axis.set_xticks(ticks := [t for t in TICKS if k[at[0]] <= t <= k[at[-1]]], map(str, ticks))
        axis.minorticks_off()
        axis.set_xlabel("number of samples k")
        if name == "difference":
            band = {"color": plots.BLUE, "alpha": 0.25, "lw": 0, "label": "± standard error over networks"}
            axis.fill_between(k[at], mean[at] - error[at], mean[at] + error[at], **band)
    axes[0].set_ylabel("test error (%)")
    axes[1].set_ylabel("test error minus that of weight scaling (points)")
    axes[1].legend()
    figure.suptitle(f"{title}: mean over {len(scaling)} networks")
    return figure


def finish(plan: runs.Plan, examples: data.Dataset, trained: runs.Trained) -> runs.Result:
    """Samples predictions; table, claims and plot."""
    errors = sample(plan, examples, trained)
    scaling = trained.test[0]
    rows = summarize(errors, scaling)
    title = f"{plan.dataset}, {plan.name(examples.x.shape[1])}"
    body = [
        [
            str(row["samples"]),
            row["test"].percent(),
            f"{100 * row['deviation']:.2f}",
            row["difference"].percent(),
            row["verdict"],
        ]
        for row in rows
        if row["samples"] in (*TICKS, len(rows))
    ]
    mean = Mean.of(scaling)
    body.append(["weight scaling", mean.percent(), "-", "-", "-"])
    caption = (
        f"Errors in percent: mean ± standard error over {plan.seeds} networks, {plan.repeats} times. "
        "Deviation: the standard deviation over repetitions. Vs weight scaling: the difference, paired by "
        "network; the verdict is at two standard errors of it."
    )
    alone = [matched(summarize(e[None], s[None])) for e, s in zip(errors, scaling, strict=True)]
    metrics = {"samples": rows, "matched": matched(rows), "within": within(rows), "above": above(rows)}
    metrics |= {"matched_by_network": alone}
    metrics |= {"scaling": mean, "scaling_by_seed": scaling, "errors": errors}
    table = report.Table(title, HEADER, body, caption)
    return runs.Result(table, claims(rows, alone), plot(rows, scaling, title), metrics)


def _or_never(number: int | None) -> str:
    return "none tried" if number is None else str(number)
