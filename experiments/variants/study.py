"""What the parts share: methods trained as sweeps, rates chosen by validation, tables and plots.

A method is trained with all its settings and seeds in one compiled program, with no noise in it
but its own. Its setting is the one of the lowest mean validation score over the seeds, and only
then the test part is looked at. A score is an error or a loss: lower is better.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import loop, report
from experiments.regularizers.__main__ import verdict
from jaxdrop import training

CHUNKS = 10


class Method(NamedTuple):
    """One line of a table.

    Attributes:
      name: What the table calls it.
      settings: What there is to choose from: dicts of the same names.
      init: From a generator to parameters, in NumPy: to compile the draws would take longer than
        a quick training.
      recipe: As `jaxdrop.training.sweep` wants it; its hyper-parameters are a setting's and the
        seed's own rows.
      score: `score(params, hyper, batch)`, without noise; lower is better.
      steps: How many it is trained for, a multiple of `CHUNKS`.
      baseline: The method that it is compared with, its own name if with none.
    """

    name: str
    settings: list[dict[str, float]]
    init: Callable[[np.random.Generator], Any]
    recipe: training.Recipe
    score: Callable[[Any, dict[str, jax.Array], Any], jax.Array]
    steps: int
    baseline: str


class Study(NamedTuple):
    """A part: methods, and data of which each seed has its own rows.

    Attributes:
      title: What the table and the plots say.
      methods: Its methods; a baseline stands before those that are compared with it.
      rows: Of each seed, what it trains on ("train") and the rows scored on the way ("probe" of
        the training part, "valid", as many), `[seeds, ...]`.
      pool: The development part.
      take: From the pool and rows to a batch.
      test: The test part, a batch.
      score: What a score is called.
      factor: What a score is multiplied by to be shown.
      digits: The digits that are shown.
      seed: The first seed.
      config: What the run is made of.
    """

    title: str
    methods: list[Method]
    rows: dict[str, np.ndarray]
    pool: Any
    take: Callable[[Any, jax.Array], Any]
    test: Any
    score: str
    factor: float
    digits: int
    seed: int
    config: dict[str, Any]

    @property
    def seeds(self) -> int:
        """How many seeds there are."""
        return len(self.rows["train"])


def draw_batch(key: jax.Array, count: int, size: int) -> jax.Array:
    """So many of the numbers below `size`, with replacement; the bias of the modulus is 2**-16 at most."""
    return (jax.random.bits(key, (count,)) % jnp.uint32(size)).astype(jnp.int32)


def draw_rows(seed: int, seeds: int, size: int, parts: dict[str, int]) -> dict[str, np.ndarray]:
    """For each seed, parts of some sizes drawn from so many rows; "probe" is the head of "train"."""
    draws = np.stack([np.random.default_rng(seed + i).permutation(size) for i in range(seeds)])
    ends = np.cumsum([parts["train"], parts["valid"]])
    train, valid = draws[:, : ends[0]], draws[:, ends[0] : ends[1]]
    return {"train": train, "probe": train[:, : parts["valid"]], "valid": valid}


def cells(study: Study, method: Method) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The keys and hyper-parameters of every setting with every seed; seeds run fastest."""
    count = len(method.settings)
    names = method.settings[0]
    hyper = {name: jnp.repeat(jnp.array([s[name] for s in method.settings]), study.seeds) for name in names}
    rows = {name: jnp.tile(jnp.asarray(value), (count, 1)) for name, value in study.rows.items()}
    seeds = jnp.arange(study.seed, study.seed + study.seeds)
    return jax.vmap(jax.random.key)(jnp.tile(seeds, count)), hyper | rows


def train(study: Study, method: Method, checkpoints: Path) -> dict[str, Any]:
    """Trains a method; its scores on the way, the chosen setting, and the test scores of that."""
    keys, hyper = cells(study, method)
    draws = [method.init(np.random.default_rng((study.seed + i, 1))) for i in range(study.seeds)]
    count = len(method.settings)
    params = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves * count), jnp.float32), *draws)
    pair = training.sweep(method.recipe)

    def evaluate(state: training.TrainState, pool: Any) -> jax.Array:
        """Scores on the training and validation rows, `[cells, 2]`."""

        def scores(params: Any, hyper: dict[str, jax.Array]) -> jax.Array:
            rows = jnp.stack([hyper["probe"], hyper["valid"]])
            return jax.vmap(lambda part: method.score(params, hyper, study.take(pool, part)))(rows)

        return jax.vmap(scores)(state.params, state.hyper)

    state, history = loop.train(
        pair,
        pair.init(keys, params, hyper),
        study.pool,
        evaluate,
        steps=method.steps,
        every=method.steps // CHUNKS,
        title=f"{method.name}: {len(method.settings)} x {study.seeds} runs, steps",
        checkpoints=checkpoints,
    )
    curves = history.reshape(CHUNKS, len(method.settings), study.seeds, 2)
    chosen = int(np.argmin(curves[-1, :, :, 1].mean(1)))
    best = slice(chosen * study.seeds, (chosen + 1) * study.seeds)
    runs = jax.tree.map(lambda leaf: leaf[best], (state.params, state.hyper))
    test = jax.jit(lambda runs, batch: jax.lax.map(lambda run: method.score(run[0], run[1], batch), runs))
    return {"curves": curves, "chosen": chosen, "test": np.asarray(test(runs, study.test))}


def run(study: Study, folder: Path) -> tuple[list[dict[str, Any]], list[Path]]:
    """Trains every method; a row for each, and the checkpoints to forget once all is written."""
    rows: list[dict[str, Any]] = []
    folders = []
    for method in study.methods:
        config = study.config | {"method": method.name, "settings": method.settings, "steps": method.steps}
        folders.append(loop.checkpoint_folder(folder, config, (study.rows, study.pool)))
        result = train(study, method, folders[-1])
        reference = next((row["test_by_seed"] for row in rows if row["method"] == method.baseline), None)
        rows.append(summarise(method, result, reference))
    return rows, folders


def summarise(method: Method, result: dict[str, Any], reference: np.ndarray | None) -> dict[str, Any]:
    """The row of a method: means and standard errors over the seeds, differences paired by seed."""
    mine = result["curves"][:, result["chosen"]]
    probe, valid = mine[-1].T
    test = result["test"].astype(np.float64)
    values = {"test": test, "train": probe, "valid": valid}
    values["difference"] = test - (test if reference is None else reference)
    row: dict[str, Any] = {"method": method.name, "setting": method.settings[result["chosen"]]}
    for name, value in values.items():
        row[name], row[f"{name}_error"] = map(float, report.mean_and_error(value))
    own = reference is None
    row |= {"baseline": method.baseline, "best_valid": float(mine[:, :, 1].mean(1).min())}
    row["verdict"] = "-" if own else verdict(row["difference"], row["difference_error"])
    # Every setting that was tried, so that a reader sees how flat the choice was.
    row["tried"] = [
        {"setting": setting, "valid": float(scores.mean())}
        for setting, scores in zip(method.settings, result["curves"][-1, :, :, 1], strict=True)
    ]
    return row | {"steps": method.steps, "test_by_seed": test, "curves": mine.mean(1)}


def shown(study: Study, row: dict[str, Any], name: str) -> str:
    """A figure with its standard error."""
    mean, error = (study.factor * row[key] for key in (name, f"{name}_error"))
    return f"{mean:.{study.digits}f}±{error:.{study.digits}f}"


def table(study: Study, rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the results."""
    header = ["method", "chosen", "test", "train", "valid", "vs baseline", "verdict"]
    return header, [
        [
            row["method"],
            ", ".join(f"{name}\u00a0{value:g}" for name, value in row["setting"].items()) or "-",
            *(shown(study, row, name) for name in ("test", "train", "valid")),
            "-" if row["verdict"] == "-" else shown(study, row, "difference"),
            row["verdict"],
        ]
        for row in rows
    ]


def plot_curves(study: Study, rows: list[dict[str, Any]]) -> Figure:
    """Training and validation scores over the steps, a panel for each method."""
    columns = len(rows) if len(rows) <= 4 else 3
    shape = (-(-len(rows) // columns), columns)
    size = (3.2 * columns, 0.4 + 2.7 * shape[0])
    figure, axes = plt.subplots(*shape, figsize=size, sharey=True, squeeze=False)
    for axis, row in zip(axes.flat, rows, strict=False):
        steps = row["steps"] // CHUNKS * np.arange(1, CHUNKS + 1)
        for part, (name, color) in enumerate((("training", "C0"), ("validation", "C3"))):
            axis.plot(steps, study.factor * np.asarray(row["curves"])[:, part], color=color, label=name)
        axis.set_title(row["method"])
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel(study.score)
    axes[0, 0].legend(frameon=False)
    figure.suptitle(f"{study.title}: mean over {study.seeds} seeds, without noise", fontsize=10)
    return figure


def plot_comparison(study: Study, rows: list[dict[str, Any]], published: dict[str, float]) -> Figure:
    """Test scores with their standard errors, and the differences from the baselines."""
    places = np.arange(len(rows))[::-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 1.4 + 0.5 * len(rows)), sharey=True)
    for axis, name in ((left, "test"), (right, "difference")):
        for row, place in zip(rows, places, strict=True):
            if name == "difference" and row["verdict"] == "-":
                continue
            color = {"helps": "C2", "hurts": "C3"}.get(row["verdict"], "0.4")
            mean, error = study.factor * row[name], study.factor * row[f"{name}_error"]
            axis.errorbar(mean, place, xerr=error, fmt="o", color=color, capsize=3)
            if name == "test" and row["method"] in published:
                axis.plot(published[row["method"]], place, "kx", label="published, one run")
    right.axvline(0, color="0.6", ls=":")
    left.set_xlabel(f"test {study.score}")
    right.set_xlabel(f"{study.score} less the baseline's, paired by seed")
    left.set_yticks(places, [row["method"] for row in rows])
    left.set_ylim(-0.6, len(rows) - 0.4)
    if published:
        handles, labels = left.get_legend_handles_labels()
        left.legend(handles[:1], labels[:1], frameon=False)
    figure.suptitle(
        f"{study.title}: mean ± standard error over {study.seeds} seeds\n"
        "green is better than its baseline, red worse, grey unclear or a baseline (at two standard errors)",
        fontsize=10,
    )
    return figure
