"""Studies: methods trained as sweeps, settings chosen by validation; `study_report.py` publishes them.

A program trains every setting of its methods with every seed at once. The setting of a method is the one
with the lowest mean validation score over the seeds; only then the test part is scored. A score is an
error or a loss: lower is better.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from experiments import batches, loop
from experiments.means import Mean
from jaxdrop import training

Setting = dict[str, float]
Hyper = dict[str, jax.Array]
Batch = Any
Params = Any
NO_VERDICT = "-"


class Method(NamedTuple):
    """One row of the table.

    Attributes:
      name: The name of the method.
      settings: The settings to choose from.
      baseline: The method to compare with; its own name for a baseline.
    """

    name: str
    settings: list[Setting]
    baseline: str


class Program(NamedTuple):
    """Methods that train in one compiled program.

    Attributes:
      methods: The methods.
      init: `init(seed)`, the first weights.
      recipe: A recipe for `jaxdrop.training.sweep`; its hyperparameters are those of a setting and the rows
        of a seed.
      score: `score(params, hyper, batch)`, without noise; lower is better.
      steps: The training steps, a multiple of the study's `chunks`.
      absent: The values of hyperparameters that a setting does not name; 0 if not given here either.
    """

    methods: list[Method]
    init: Callable[[int], Params]
    recipe: training.Recipe
    score: Callable[[Params, Hyper, Batch], jax.Array]
    steps: int
    absent: Mapping[str, float] = {}

    def settings(self) -> list[Setting]:
        """Settings of all methods, in the order of the cells."""
        return [setting for method in self.methods for setting in method.settings]


class Study(NamedTuple):
    """A comparison of methods on data of which each seed has its own rows.

    Attributes:
      title: The title of the table and the plots.
      programs: The programs; a baseline precedes the methods compared with it.
      rows: The rows of each seed, `[seeds, ...]`: "train"; and those scored after each chunk, "probe" of the
        training part and "valid".
      pool: The development part.
      take: `take(pool, rows)`, a batch.
      test: The test part, a batch.
      seed: The first seed.
      config: All that identifies the run; part of the checkpoints' name.
      score: The name of a score, with its unit.
      factor: The factor from a score to its unit.
      digits: The digits shown.
      columns: The columns of the table: key of `Row.means` or "published", and heading.
      versus: The name of the baseline in the table's heading.
      names: The short names of hyperparameters.
      chunks: The number of evaluations during training.
      across: `jax.vmap`, or `one_by_one` to score the runs in turn, which needs less memory.
      measures: Further measures of the chosen runs, each a function of the weights.
      published: Published scores of some methods, in the unit shown.
      setup: The devices to divide the runs over, and the folder of live curves.
    """

    title: str
    programs: list[Program]
    rows: dict[str, np.ndarray]
    pool: Batch
    take: Callable[[Batch, jax.Array], Batch]
    test: Batch
    seed: int
    config: dict[str, Any]
    score: str = "error (%)"
    factor: float = 100
    digits: int = 2
    columns: Mapping[str, str] = {"test": "test", "train": "train", "valid": "valid"}
    versus: str = "baseline"
    names: Mapping[str, str] = {}
    chunks: int = 10
    across: Callable[[Callable], Callable] = jax.vmap
    measures: Mapping[str, Callable[[Params], jax.Array]] = {}
    published: Mapping[str, float] = {}
    setup: loop.Setup = loop.ALONE

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.rows["train"])


class Row(NamedTuple):
    """Results of a method.

    Attributes:
      method: The method.
      setting: The chosen setting.
      verdict: The verdict on the paired difference; "-" for a baseline.
      means: Means over the seeds: "test", "train", "valid", "gap", "difference" and the study's measures.
      tried: Every setting with its mean validation score.
      test_by_seed: The test scores, `[seeds]`.
      curves: Training and validation scores during training, `[chunks, seeds, 2]`.
      steps: The training steps.
    """

    method: Method
    setting: Setting
    verdict: str
    means: dict[str, Mean]
    tried: list[dict[str, Any]]
    test_by_seed: np.ndarray
    curves: np.ndarray
    steps: int

    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json."""
        return {
            "method": self.method.name,
            "baseline": self.method.baseline,
            "setting": self.setting,
            "verdict": self.verdict,
            **self.means,
            "best_valid": float(self.curves[:, :, 1].mean(1).min()),
            "tried": self.tried,
            "steps": self.steps,
            "test_by_seed": self.test_by_seed,
            "curves_by_seed": self.curves,
        }


def one_by_one(function: Callable) -> Callable:
    """Maps a function over leading axes in turn, as `jax.vmap` does at once."""
    return lambda *args: jax.lax.map(lambda run: function(*run), args)


def image_data(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """Arguments `pool`, `take` and `test` of a study of labeled examples."""
    return {
        "pool": (jnp.asarray(x), jnp.asarray(y)),
        "take": lambda pool, rows: (pool[0][rows], pool[1][rows]),
        "test": (jnp.asarray(x_test), jnp.asarray(y_test)),
    }


def cells(study: Study, program: Program) -> tuple[jax.Array, Hyper]:
    """Keys and hyperparameters of every setting with every seed; seeds run fastest."""
    settings = program.settings()
    names = dict.fromkeys([*program.absent, *(name for setting in settings for name in setting)])
    columns = {name: [s.get(name, program.absent.get(name, 0.0)) for s in settings] for name in names}
    hyper = {name: jnp.repeat(jnp.array(column), study.seeds) for name, column in columns.items()}
    rows = {name: jnp.tile(jnp.asarray(value), (len(settings), 1)) for name, value in study.rows.items()}
    return batches.seed_keys(study.seed, study.seeds, len(settings)), hyper | rows


def train(
    study: Study,
    program: Program,
    checkpoints: epath.Path,
    save_every: float = loop.SECONDS_BETWEEN_CHECKPOINTS,
) -> tuple[Params, Hyper, np.ndarray]:
    """Trains a program; its weights, hyperparameters and curves `[chunks, settings, seeds, 2]`."""
    keys, hyper = cells(study, program)
    draws = [program.init(study.seed + i) for i in range(study.seeds)]
    settings = len(program.settings())
    pair = training.sweep(program.recipe)

    def scores(params: Params, hyper: Hyper, pool: Batch) -> jax.Array:
        parts = (study.take(pool, hyper[name]) for name in ("probe", "valid"))
        return jnp.stack([program.score(params, hyper, part) for part in parts])

    def evaluate(state: training.TrainState, pool: Batch) -> jax.Array:
        score = functools.partial(scores, pool=pool)
        return study.across(score)(state.params, state.hyper)

    state, history = loop.train(
        pair,
        pair.init(keys, batches.stack(draws, settings), hyper),
        study.pool,
        evaluate,
        steps=program.steps,
        every=program.steps // study.chunks,
        title=f"{', '.join(m.name for m in program.methods[:2])}: {settings} x {study.seeds} runs, steps",
        checkpoints=checkpoints,
        save_every=save_every,
        setup=study.setup,
        curves=functools.partial(live, study, program),
    )
    return state.params, state.hyper, history.reshape(study.chunks, settings, study.seeds, 2)


def live(study: Study, program: Program, metrics: np.ndarray) -> dict[str, np.ndarray]:
    """Live curves: both scores of each method's setting of the lowest validation score so far, by seed."""
    scores = metrics.reshape(-1, study.seeds, 2)
    places = choose(program, scores[..., 1].mean(1))
    return {
        f"{part}/{method.name}": scores[place, :, i]
        for method, place in zip(program.methods, places, strict=True)
        for i, part in enumerate(("train", "valid"))
    }


def choose(program: Program, valid: np.ndarray) -> list[int]:
    """Place of each method's setting of the lowest mean validation score, the first of equal ones."""
    places, first = [], 0
    for method in program.methods:
        last = first + len(method.settings)
        places.append(first + int(np.argmin(valid[first:last])))
        first = last
    return places


def test(
    study: Study, program: Program, params: Params, hyper: Hyper, chosen: list[int]
) -> dict[str, np.ndarray]:
    """Test scores and further measures of the chosen runs, `[methods, seeds]`."""
    places = np.concatenate([i * study.seeds + np.arange(study.seeds) for i in chosen])
    params, hyper = jax.tree.map(lambda leaf: leaf[places], (params, hyper))
    score = jax.jit(one_by_one(lambda params, hyper, batch=study.test: program.score(params, hyper, batch)))
    found = {name: jax.vmap(measure)(params) for name, measure in study.measures.items()}
    found["test"] = score(params, hyper)
    return {name: np.asarray(value, np.float64).reshape(-1, study.seeds) for name, value in found.items()}


def summarize(
    program: Program, curves: np.ndarray, chosen: list[int], found: dict[str, np.ndarray], before: list["Row"]
) -> list[Row]:
    """Rows of a program's methods; differences from the baselines are paired by seed.

    Args:
      program: The program.
      curves: Scores during training, `[chunks, settings, seeds, 2]`.
      chosen: The place of each method's chosen setting.
      found: Test scores and further measures, `[methods, seeds]`.
      before: The rows of earlier programs, for their baselines.
    """
    tests = {row.method.name: row.test_by_seed for row in before}
    tests |= {method.name: test for method, test in zip(program.methods, found["test"], strict=True)}
    rows, settings = [], program.settings()
    valid = curves[-1, :, :, 1]
    for k, (method, place) in enumerate(zip(program.methods, chosen, strict=True)):
        own = {name: values[k] for name, values in found.items()}
        own |= dict(zip(("train", "valid"), curves[-1, place].T, strict=True))
        own |= {"gap": own["test"] - own["train"], "difference": own["test"] - tests[method.baseline]}
        means = {name: Mean.of(values) for name, values in own.items()}
        verdict = NO_VERDICT if method.name == method.baseline else means["difference"].verdict()
        # Every setting tried, so that a reader sees how flat the choice was.
        first = sum(len(other.settings) for other in program.methods[:k])
        tried = [
            {"setting": setting, "valid": float(scores.mean())}
            for setting, scores in zip(method.settings, valid[first:], strict=False)
        ]
        rows.append(
            Row(method, settings[place], verdict, means, tried, own["test"], curves[:, place], program.steps)
        )
    return rows


def run(study: Study, folder: epath.Path, save_every: float = loop.SECONDS_BETWEEN_CHECKPOINTS) -> list[Row]:
    """Trains every program; its checkpoints are in `folder`."""
    rows: list[Row] = []
    for i, program in enumerate(study.programs):
        params, hyper, curves = train(study, program, folder / str(i), save_every)
        chosen = choose(program, curves[-1, :, :, 1].mean(1))
        found = test(study, program, params, hyper, chosen)
        rows += summarize(program, curves, chosen, found, rows)
    return rows
