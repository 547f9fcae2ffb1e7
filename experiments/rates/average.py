"""Figure 11: the mean prediction of k sampled networks against one network with scaled weights.

Each test image gets k networks of its own, sampled by dropout, and the mean of their softmax; the
more, the nearer to the true average of all. The paper finds that about 50 samples do as well as
weight scaling, and more do slightly better, well within one standard deviation. It does not say of
which network; ours is that of Figure 10, with its dropout, trained on all images.
"""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import cli, data, report
from experiments.rates import runs, size
from experiments.regularizers.__main__ import verdict
from experiments.srivastava import network

IMAGES = 60_000
# How many samples, and how often all of them.
COUNTS, QUICK_COUNTS = (120, 5), (12, 3)
TICKS = (1, 2, 5, 10, 20, 50, 100)
# The right panel of the plot begins here.
ZOOMED = 10
# "About 50", to a factor of two.
ABOUT = (25, 100)
HEADER = ["samples", "test", "deviation", "vs weight scaling", "verdict"]
WORDS = {"helps": "better", "hurts": "worse"}


def make(dataset: str, seed: int, seeds: int, scale: float, quick: bool) -> runs.Plan:
    """One network a seed, trained with dropout on as many images as there are."""
    like = size.make(dataset, seed, seeds, scale, quick)
    setting = runs.Setting(size.INPUT_RATE, size.HIDDEN_RATE, 500 if quick else IMAGES)
    samples, repeats = QUICK_COUNTS if quick else COUNTS
    return like._replace(part="average", settings=(setting,), samples=samples, repeats=repeats)


@functools.partial(jax.jit, static_argnames="samples")
def sampled_errors(
    params: network.Params, key: chex.PRNGKey, x: jax.Array, y: jax.Array, rates: tuple, samples: int
) -> jax.Array:
    """The errors of the mean of the first 1, 2, ... predictions, `[samples]`.

    Sample t uses `fold_in(key, t)`; only the sum of the predictions so far is held.
    """

    def add(total: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, _ = network.apply(params, x, rates, jax.random.fold_in(key, t))
        total = total + jax.nn.softmax(logits)
        return total, jnp.mean(total.argmax(-1) != y)

    start = jnp.zeros((len(x), params[f"layer_{len(params) - 1}"]["bias"].shape[-1]))
    return jax.lax.scan(add, start, jnp.arange(samples))[1]


def sample(plan: runs.Plan, examples: data.Dataset, trained: runs.Trained) -> np.ndarray:
    """The errors of every network, several times over, `[seeds, repeats, samples]`."""
    x, y = jnp.asarray(examples.x_test), jnp.asarray(examples.y_test)
    setting = plan.settings[0]
    found = np.empty((plan.seeds, plan.repeats, plan.samples))
    bar, task = cli.progress("average: networks x repeats", plan.seeds * plan.repeats)
    with bar:
        for i, repeat in np.ndindex(plan.seeds, plan.repeats):
            params = jax.tree.map(lambda leaf, i=i: leaf[0, i], trained.params)
            # Training folds the number of its step into the key of the seed.
            own = jax.random.fold_in(jax.random.key(plan.seed + i), 2**31)
            key = jax.random.fold_in(own, repeat)
            rates = (setting.input, setting.hidden)
            found[i, repeat] = sampled_errors(params, key, x, y, rates, plan.samples)
            bar.advance(task)
    return found


def summarise(errors: np.ndarray, scaling: np.ndarray) -> list[dict[str, Any]]:
    """A row for each number of samples.

    Args:
      errors: Of the averages, `[seeds, repeats, samples]`.
      scaling: Of weight scaling, `[seeds]`.

    Returns:
      The mean with its standard error over the networks, the standard deviation of a repeat of one
      network, and the difference from weight scaling, paired by network.
    """
    rows = []
    for k, of in enumerate(np.moveaxis(errors, -1, 0), 1):
        row: dict[str, Any] = {"samples": k, "deviation": float(np.sqrt(of.var(1, ddof=1).mean()))}
        for name, values in (("test", of.mean(1)), ("difference", of.mean(1) - scaling)):
            row[name], row[f"{name}_error"] = map(float, report.mean_and_error(values))
        word = verdict(row["difference"], row["difference_error"])
        rows.append(row | {"verdict": WORDS.get(word, word)})
    return rows


def matched(rows: list[dict[str, Any]]) -> int | None:
    """The first number of samples whose mean error is no higher than that of weight scaling."""
    return next((row["samples"] for row in rows if row["difference"] <= 0), None)


def within(rows: list[dict[str, Any]]) -> int | None:
    """The number of samples from which on the mean error is within one deviation of weight scaling."""
    found = None
    for row in reversed(rows):
        if abs(row["difference"]) > row["deviation"]:
            break
        found = row["samples"]
    return found


def above(rows: list[dict[str, Any]]) -> int | None:
    """As `within`, but a lower error counts as within."""
    return within([row | {"difference": max(row["difference"], 0.0)} for row in rows])


def claims(rows: list[dict[str, Any]], alone: list[int | None]) -> list[runs.Claim]:
    """The paper's: about 50 samples are as good, and more are slightly better."""
    first, last = matched(rows), rows[-1]
    as_good = first is not None and ABOUT[0] <= first <= ABOUT[1]
    close = abs(last["difference"]) <= last["deviation"]
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
            f"at {last['samples']}: {report.percent(last['difference'], last['difference_error'])} points, "
            f"{last['verdict']}; one deviation is {100 * last['deviation']:.2f}",
            {"better": "yes" if close else "in part", "worse": "no"}.get(last["verdict"], "unclear"),
        ),
    ]


def plot(rows: list[dict[str, Any]], scaling: np.ndarray, title: str) -> Figure:
    """The error over the number of samples, and its difference from weight scaling where it is small."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    k = np.array([row["samples"] for row in rows])
    shown = np.unique(np.geomspace(1, len(k), 25).round().astype(int)) - 1
    for axis, name, level in ((axes[0], "test", 100 * scaling.mean()), (axes[1], "difference", 0.0)):
        mean, error, deviation = (
            100 * np.array([row[key] for row in rows]) for key in (name, f"{name}_error", "deviation")
        )
        at = shown if name == "test" else shown[k[shown] >= min(ZOOMED, len(k) // 2)]
        label = "k samples ± standard deviation of a repeat"
        axis.errorbar(k[at], mean[at], yerr=deviation[at], fmt="o-", ms=3, capsize=2, label=label)
        axis.axhline(level, color="C3", label="weight scaling")
        axis.set_xscale("log")
        axis.set_xticks(ticks := [t for t in TICKS if k[at[0]] <= t <= k[at[-1]]], map(str, ticks))
        axis.minorticks_off()
        axis.set_xlabel("number of samples k")
        if name == "difference":
            band = {"color": "C0", "alpha": 0.25, "lw": 0, "label": "± standard error over networks"}
            axis.fill_between(k[at], mean[at] - error[at], mean[at] + error[at], **band)
    axes[0].set_ylabel("test error (%)")
    axes[1].set_ylabel("test error less weight scaling's (points)")
    axes[1].legend(frameon=False)
    figure.suptitle(f"{title}: mean over {len(scaling)} networks", fontsize=10)
    return figure


def finish(plan: runs.Plan, examples: data.Dataset, trained: runs.Trained) -> runs.Result:
    """Samples, and the table, the claims and the plot."""
    errors = sample(plan, examples, trained)
    scaling = trained.test[0]
    rows = summarise(errors, scaling)
    title = f"{plan.dataset}, {plan.name(examples.x.shape[1])}"
    body = [
        [
            str(row["samples"]),
            report.percent(row["test"], row["test_error"]),
            f"{100 * row['deviation']:.2f}",
            report.percent(row["difference"], row["difference_error"]),
            row["verdict"],
        ]
        for row in rows
        if row["samples"] in (*TICKS, len(rows))
    ]
    mean, error = map(float, report.mean_and_error(scaling))
    body.append(["weight scaling", report.percent(mean, error), "-", "-", "-"])
    caption = (
        f"Errors in percent: mean ± standard error over {plan.seeds} networks of {plan.repeats} repeats. "
        "Deviation: the standard deviation of a repeat. Vs weight scaling: the difference, paired by "
        "network; the verdict is at two standard errors of it."
    )
    alone = [matched(summarise(e[None], s[None])) for e, s in zip(errors, scaling, strict=True)]
    metrics = {"samples": rows, "matched": matched(rows), "within": within(rows), "above": above(rows)}
    metrics |= {"matched_by_network": alone}
    metrics |= {"scaling": mean, "scaling_error": error, "scaling_by_seed": scaling, "errors": errors}
    return runs.Result(title, HEADER, body, caption, claims(rows, alone), plot(rows, scaling, title), metrics)


def _or_never(number: int | None) -> str:
    return "none tried" if number is None else str(number)
