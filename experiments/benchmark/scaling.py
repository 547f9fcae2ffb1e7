"""Benchmark of cost by size: the fixed cost of a call, the cost per unit, and the exponent.

A group has one kind of size, and each of its lines has one program per size. To add a line, add a program
to the `build` of its group in `GROUPS`.
"""

import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from experiments import batches, plots, relu_net, report
from experiments.benchmark import models, ops, peers, scores, scores_suite, sweeps
from experiments.timing import Contest, Program, Programs, compiled
from jaxdrop import mc, training
from jaxdrop import uncertainty as u

RATE, SAMPLES, BATCH, ROWS, SITES = 0.1, 32, 32, 256, (32, 64)
WIDTHS, QUICK_WIDTHS = (64, 64, 64, 64, 10), (4, 4, 4, 4, 3)
ROUNDS = 7
# A line is linear if fixed cost + n x cost per unit is within this factor of its time at every size.
FACTOR = 1.25
JIT_SAMPLE = "mc.sample in jit"
TOLD = {ops.FORWARD: "forward", ops.BOTH: "forward and backward"}
_data = lru_cache(1)(scores.Data)
_seconds = EngFormatter("s")


class Fit(NamedTuple):
    """Cost by size.

    Attributes:
      fixed: The time of no units, in the unit of the times, fitted to the lower half of the sizes.
      unit: The time per unit, fitted to the upper half.
      exponent: The slope of the logarithm of time in that of size, in the upper half.
      error: Its standard error.
      low: The smallest ratio of a time to `fixed + unit * size`.
      high: The largest.
    """

    fixed: float
    unit: float
    exponent: float
    error: float
    low: float
    high: float


def fitted(sizes: np.ndarray, times: np.ndarray) -> Fit:
    """Least-squares fits of times at ascending sizes: of relative errors, and of logarithms."""
    half = len(sizes) // 2

    def straight(n: np.ndarray, t: np.ndarray) -> np.ndarray:
        return scipy.optimize.nnls(np.stack([1 / t, n / t], 1), np.ones(len(n)))[0]

    fixed, unit = straight(sizes[:half], times[:half])[0], straight(sizes[half:], times[half:])[1]
    slope = scipy.stats.linregress(np.log(sizes[half:]), np.log(times[half:]))
    ratios = times / (fixed + unit * sizes)
    return Fit(fixed, unit, slope.slope, slope.stderr, ratios.min(), ratios.max())


class Group(NamedTuple):
    """Lines over one kind of size.

    Attributes:
      unit: What the size counts, in the singular.
      sizes: The sizes, ascending.
      quick: Those of the smoke test.
      floor: The line that the ratios of the JSON file are over.
      build: From the widths of an MLP and a size to the program of each line.
    """

    unit: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    floor: str
    build: Callable[[tuple[int, ...], int], dict[str, Program]]


def scaling(setting: peers.Setting) -> Iterator[Contest | dict[str, Any]]:
    """Contests, one per group, with a form per size; and the time to compile by the number of sites."""
    widths = QUICK_WIDTHS if setting.quick else WIDTHS
    for title, group in GROUPS.items():
        sizes = group.quick if setting.quick else group.sizes
        if title == COMPILE:
            yield _compiling(setting, sizes)
        else:
            yield Contest(title, group.floor, partial(_programs, group.build, widths, sizes), rounds=ROUNDS)


def _programs(build: Callable, widths: tuple[int, ...], sizes: tuple[int, ...]) -> Programs:
    return {(name, f"{n:,}"): program for n in sizes for name, program in build(widths, n).items()}


def _dropout(_: tuple[int, ...], n: int) -> dict[str, Program]:
    def drop(key: jax.Array, x: jax.Array) -> jax.Array:
        return peers.ours(key, x, RATE)

    x, forwards = jax.random.normal(jax.random.key(1), (n,)), {ops.COPY: ops.double, "dropout": drop}
    found = {f"{name}, in place": ops.replacing(forward, x) for name, forward in forwards.items()}
    for name, forward in forwards.items():
        programs = ops.forms(name, forward, x)
        found |= {f"{name}, {TOLD[form]}": program for (_, form), program in programs.items()}
    return found


def _mlp(widths: tuple[int, ...]) -> Callable[..., jax.Array]:
    return jax.tree_util.Partial(_probabilities, models.dense_params(jax.random.key(2), widths))


def _probabilities(params: list, key: jax.Array, x: jax.Array) -> jax.Array:
    return jax.nn.softmax(models.mlp(peers.ours, params, key, x))


def _samples(widths: tuple[int, ...], samples: int, batch: int) -> dict[str, Program]:
    predict, key = _mlp(widths), jax.random.key(0)
    x = jax.random.normal(jax.random.key(1), (batch, widths[0]))
    options = {"num_samples": samples, "reducers": mc.Moments()}
    drawn = compiled(lambda predict, key, x: mc.sample(predict, key, x, num_samples=samples), predict, key, x)
    return {"mc.estimate": Program(lambda: mc.estimate(predict, key, x, **options)), JIT_SAMPLE: drawn}


def _dataset(widths: tuple[int, ...], n: int) -> dict[str, Program]:
    predict, key = _mlp(widths), jax.random.key(0)
    x = np.random.default_rng(0).standard_normal((n, widths[0]), np.float32)
    options = {"num_samples": SAMPLES, "reducers": mc.Moments(), "batch_size": ROWS}
    return {"mc.estimate_dataset": Program(lambda: mc.estimate_dataset(predict, key, x, **options))}


def _sweep(widths: tuple[int, ...], runs: int) -> dict[str, Program]:
    rng, count = np.random.default_rng(0), 1000
    data = (
        jnp.asarray(rng.normal(size=(count, widths[0])), jnp.float32),
        jnp.asarray(rng.integers(0, widths[-1], count)),
    )
    hyper = {"rate": jnp.linspace(0.1, 0.6, runs), "decay": jnp.geomspace(1e-4, 1e-2, runs)}
    params = batches.stack([relu_net.init(np.random.default_rng(i), widths) for i in range(runs)])
    init, step = training.sweep(sweeps.recipe_for(count))
    states = init(jax.random.split(jax.random.key(0), runs), params, hyper)
    return {"training.sweep": compiled(step, states, data)}


def _scores(_: tuple[int, ...], n: int) -> dict[str, Program]:
    d = _data(n)
    found = {name: Program(partial(score, *arrays)) for name, (score, arrays) in _calls(d).items()}
    return {scores_suite.SORT: Program(partial(np.sort, d.host["x"])), **found}


def _traced_scores(_: tuple[int, ...], n: int) -> dict[str, Program]:
    calls = {"jnp.sort": (jnp.sort, (_data(n).x,)), **_calls(_data(n))}
    return {name: compiled(score, *arrays) for name, (score, arrays) in calls.items()}


def _calls(d: scores.Data) -> dict[str, tuple[Callable, tuple[jax.Array, ...]]]:
    return {
        "isotonic_regression": (u.isotonic_regression, (d.x, d.y)),
        "auroc": (u.auroc, d.halves),
        "aupr": (u.aupr, d.halves),
        "aurc": (u.aurc, (d.x, d.hits)),
    }


def _compiling(setting: peers.Setting, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Times to compile, once each: there are no rounds, as a compilation takes seconds."""
    drops = {peers.NONE: lambda key, x, rate: x * 2, peers.OURS: peers.ours, ops.MODULE: ops.linen_dropout}
    drops |= {name: drop for name, drop in setting.drops.items() if name == peers.FLAX}
    rows = []
    for name, drop in drops.items():
        ops.compile_chain(drop, sizes[0], SITES)  # the first of a process takes longer
        forms = {}
        for n in sizes:
            start = time.perf_counter()
            ops.compile_chain(drop, n, SITES)
            forms[f"{n:,}"] = {"median_ms": 1e3 * (time.perf_counter() - start)}
        rows.append({"name": name, "forms": forms})
    return {"title": COMPILE, "floor": peers.NONE, "rounds": 1, "rows": rows}


def curve(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of a row and its seconds."""
    sizes = [int(size.replace(",", "")) for size in row["forms"]]
    return np.array(sizes, float), np.array([cell["median_ms"] / 1e3 for cell in row["forms"].values()])


def table(result: dict[str, Any]) -> report.Table:
    """Table of one group: fits of each line."""
    unit, forms = GROUPS[result["title"]].unit, list(result["rows"][0]["forms"])
    header = [
        "",
        "fixed cost",
        f"per {unit}",
        "exponent",
        "time / (fixed cost + n x cost per unit)",
        "linear",
    ]
    body = []
    for row in result["rows"]:
        fit = fitted(*curve(row))
        linear = "yes" if fit.low >= 1 / FACTOR and fit.high <= FACTOR else "no"
        costs = [_seconds(float(f"{cost:.3g}")) for cost in (fit.fixed, fit.unit)]
        ratios = f"{fit.low:.2f} to {fit.high:.2f}"
        body.append([row["name"], *costs, f"{fit.exponent:.3f}±{fit.error:.3f}", ratios, linear])
    return report.Table(f"{result['title']}, {forms[0]} to {forms[-1]} {unit}s", header, body)


def plot(results: list[dict[str, Any]]) -> Figure:
    """Plots of time by size on logarithmic axes, one per group, with the exponent of each line."""
    figure, panels = plt.subplots(-(-len(results) // 2), 2, figsize=(10, 3.2 * -(-len(results) // 2)))
    for panel in panels.flat[len(results) :]:
        panel.remove()
    for panel, result in zip(panels.flat, results, strict=False):
        for i, row in enumerate(result["rows"]):
            sizes, seconds = curve(row)
            fit = fitted(sizes, seconds)
            label = f"{row['name']}: {fit.exponent:.2f}±{fit.error:.2f}"
            look = {"color": plots.color(i), "marker": plots.MARKERS[i], "ms": 3, "lw": 1}
            panel.loglog(sizes, seconds, label=label, **look)
        panel.set_title(result["title"])
        panel.set_xlabel(f"{GROUPS[result['title']].unit}s")
        panel.yaxis.set_major_formatter(_seconds)
        low, high = panel.get_ylim()
        if high < 100 * low:  # one power of ten, or two
            panel.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            panel.yaxis.set_minor_formatter(_seconds)
        else:
            panel.yaxis.set_minor_formatter(NullFormatter())
        panel.legend(fontsize=7, title="exponent of the larger half", title_fontsize=7)
    return figure


COMPILE = "compile time, gradient of layers with dropout, {}x{}".format(*SITES)
_FEW, _ROWS = (1, 2, 4), (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
GROUPS: dict[str, Group] = {
    "dropout, float32, rate 0.1": Group(
        "element", tuple(2**i for i in range(10, 26)), _FEW, "copy, forward", _dropout
    ),
    f"MLP, batch {BATCH}": Group(
        "sample",
        (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        _FEW,
        "mc.estimate",
        lambda widths, n: _samples(widths, n, BATCH),
    ),
    f"MLP, {SAMPLES} samples": Group(
        "example",
        tuple(2**i for i in range(14)),
        _FEW,
        "mc.estimate",
        lambda widths, n: _samples(widths, SAMPLES, n),
    ),
    "one step of a sweep, MLP, batch 50": Group(
        "run", tuple(2**i for i in range(7)), _FEW, "training.sweep", _sweep
    ),
    f"data set, MLP, {SAMPLES} samples, batches of {ROWS}": Group(
        "row", tuple(2**i for i in range(8, 17)), _FEW, "mc.estimate_dataset", _dataset
    ),
    "scores of concrete arrays": Group("row", _ROWS, (50, 100, 200), scores_suite.SORT, _scores),
    "scores in jit": Group("row", _ROWS, (50, 100, 200), "jnp.sort", _traced_scores),
    COMPILE: Group("site", (1, 2, 5, 10, 20, 40, 60, 80, 100), _FEW, peers.NONE, lambda widths, n: {}),
}
