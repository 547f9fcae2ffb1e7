"""Sweep of drop rates and weight decays, each run with its own batch statistics; choice of a setting."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from etils import epath
from matplotlib.figure import Figure

from experiments import batches, loop, plots, report
from experiments.means import Mean
from experiments.resnet import networks
from jaxdrop import training

BATCH = 64
NO_DROP_PATH = "no drop path"
BY_THE_RULE = "one-standard-error rule"
LOWEST = "lowest validation error"


class Plan(NamedTuple):
    """Configuration of the sweep.

    Attributes:
      seed: The first seed.
      seeds: The number of seeds; each has its own weights, noise, training and validation images.
      shape: Shape of the network.
      rates: Drop rates of the last branch; the first is 0.
      decays: Weight decays of the kernels.
      train_size: Training images of each seed.
      valid_size: Validation images of each seed.
      steps: Training steps, a multiple of `chunks`.
      chunks: The number of evaluations during training.
      learning_rate: First learning rate.
    """

    seed: int
    seeds: int
    shape: networks.Shape = networks.Shape()
    rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4)
    decays: tuple[float, ...] = (0.0, 1e-3, 5e-3)
    train_size: int = 2_000
    valid_size: int = 1_000
    steps: int = 480
    chunks: int = 4
    learning_rate: float = 0.1


class Images(NamedTuple):
    """Standardized images `[N, side, side, 1]` and labels of a part."""

    x: jax.Array
    y: jax.Array


class Found(NamedTuple):
    """Results of the sweep.

    Attributes:
      hyper: "rate", "decay" and "seed" of each run, `[runs]`.
      valid: Validation errors during training, `[chunks, runs]`.
      chosen: Setting of each row of the table.
      test: Test errors of the chosen settings, `[seeds]` each.
      train: Training errors of the chosen settings, `[seeds]` each.
    """

    hyper: dict[str, np.ndarray]
    valid: np.ndarray
    chosen: dict[str, dict[str, float]]
    test: dict[str, np.ndarray]
    train: dict[str, np.ndarray]


def recipe(plan: Plan) -> training.Recipe:
    """Recipe of one run: a random batch of its seed's rows, its rate and its decay."""

    def make(hyper: Any) -> tuple:
        loss_fn = networks.linen_loss(networks.LinenResNet(plan.shape, hyper["rate"]))

        def on_random_rows(
            params: Any, model_state: Any, key: jax.Array, pool: Images
        ) -> tuple[jax.Array, tuple]:
            batch_key, noise_key = jax.random.split(key)
            rows = hyper["train"][batches.draw_batch(batch_key, BATCH, plan.train_size)]
            return loss_fn(params, model_state, noise_key, (pool.x[rows], pool.y[rows]))

        return on_random_rows, networks.optimizer(plan.learning_rate, hyper["decay"], plan.steps)

    return make


def error(shape: networks.Shape, params: Any, model_state: Any, images: Images) -> jax.Array:
    """Share of the images with a wrong label; no noise, running statistics."""
    logits: Any = networks.LinenResNet(shape, 0.0).apply({"params": params, **model_state}, images.x)
    return jnp.mean(logits.argmax(-1) != images.y)


def choose(hyper: dict[str, np.ndarray], valid: np.ndarray) -> dict[str, dict[str, float]]:
    """Settings by the last validation errors: without drop path, and of all by the rule and the lowest mean.

    Without drop path the rule chooses the decay.
    """
    without = hyper["rate"] == 0
    own = {name: column[without] for name, column in hyper.items()}
    return {
        NO_DROP_PATH: dict(training.choose(own, valid[without], simpler="decay").setting),
        BY_THE_RULE: dict(training.choose(hyper, valid, simpler=("rate", "decay")).setting),
        LOWEST: dict(training.choose(hyper, valid).setting),
    }


def run(
    plan: Plan, pool: Images, test: Images, checkpoints: epath.Path, setup: loop.Setup = loop.ALONE
) -> Found:
    """Trains all runs in one program, chooses by the validation errors, and scores the chosen settings."""
    grid = training.grid(rate=plan.rates, decay=plan.decays, seed=range(plan.seed, plan.seed + plan.seeds))
    settings = len(plan.rates) * len(plan.decays)
    sizes = {"train": plan.train_size, "valid": plan.valid_size}
    rows = batches.draw_rows(plan.seed, plan.seeds, len(pool.x), **sizes)
    hyper = dict(grid) | {name: jnp.tile(jnp.asarray(rows[name]), (settings, 1)) for name in sizes}
    first = [networks.init(plan.shape, plan.seed + i, pool.x.shape[1]) for i in range(plan.seeds)]
    params, model_state = batches.stack(first, settings)
    pair = training.sweep(recipe(plan))

    def errors(state: training.TrainState, pool: Images, part: str = "valid") -> jax.Array:
        def of_run(params: Any, model_state: Any, rows: jax.Array) -> jax.Array:
            return error(plan.shape, params, model_state, Images(pool.x[rows], pool.y[rows]))

        # One run at a time: the activations of all would fill the memory.
        parts = (state.params, state.model_state, state.hyper[part])
        return jax.lax.map(lambda run: of_run(*run), parts)

    state, valid = loop.train(
        pair,
        pair.init(batches.seed_keys(plan.seed, plan.seeds, settings), params, hyper, model_state),
        pool,
        errors,
        steps=plan.steps,
        every=plan.steps // plan.chunks,
        title=f"{settings} settings x {plan.seeds} seeds, steps",
        checkpoints=checkpoints,
        setup=setup,
        curves=functools.partial(live, plan),
    )
    columns = {name: np.asarray(column, np.float64) for name, column in grid.items()}
    chosen = choose(columns, valid[-1])
    on_test = jax.jit(
        lambda state: jax.lax.map(
            lambda run: error(plan.shape, run[0], run[1], test), (state.params, state.model_state)
        )
    )
    on_train = jax.jit(lambda state, pool: errors(state, pool, "train"))
    found: dict[str, dict[str, np.ndarray]] = {"test": {}, "train": {}}
    for name, setting in chosen.items():
        places = np.flatnonzero(np.all([columns[key] == value for key, value in setting.items()], axis=0))
        own = jax.tree.map(lambda leaf, places=places: leaf[places], state)
        found["test"][name] = np.asarray(on_test(own), np.float64)
        found["train"][name] = np.asarray(on_train(own, pool), np.float64)
    return Found(columns, valid, chosen, **found)


def live(plan: Plan, metrics: np.ndarray) -> dict[str, np.ndarray]:
    """Live curves: the validation errors of each setting, by seed."""
    names = [f"rate {rate:g} decay {decay:g}" for rate in plan.rates for decay in plan.decays]
    rows = metrics.reshape(len(names), plan.seeds)
    return {f"valid/{name}": row for name, row in zip(names, rows, strict=True)}


def summarize(found: Found) -> list[dict[str, Any]]:
    """Row of each chosen setting; differences from no drop path are paired by seed."""
    rows = []
    for name, setting in found.chosen.items():
        difference = found.test[name] - found.test[NO_DROP_PATH]
        of_run = np.all([found.hyper[key] == value for key, value in setting.items()], axis=0)
        row: dict[str, Any] = {"setting": name, "chosen": setting, "test_by_seed": found.test[name]}
        row |= {"test": Mean.of(found.test[name]), "train": Mean.of(found.train[name])}
        row |= {"valid": Mean.of(found.valid[-1][of_run]), "difference": Mean.of(difference), "verdict": "-"}
        if setting != found.chosen[NO_DROP_PATH]:
            row["verdict"] = row["difference"].verdict()
        rows.append(row)
    return rows


def tables(plan: Plan, found: Found) -> list[report.Table]:
    """Validation errors of all settings, and test accuracies of the chosen ones."""
    shared = f"mean ± standard error over {plan.seeds} seeds"
    header = ["drop rate", *(f"decay {decay:g}" for decay in plan.decays)]
    valid = found.valid[-1].reshape(len(plan.rates), len(plan.decays), plan.seeds)
    body = [
        [f"{rate:g}", *(Mean.of(cell).percent(1) for cell in row)]
        for rate, row in zip(plan.rates, valid, strict=True)
    ]
    choices = report.Table("Validation error (%)", header, body, f"After the last step, {shared}.")
    header = [
        "",
        "rate",
        "decay",
        "accuracy %",
        "train",
        "valid",
        "vs none",
        "verdict",
    ]
    body = []
    for row in summarize(found):
        accuracy = Mean(1 - row["test"].value, row["test"].error).percent()
        difference = "-" if row["verdict"] == "-" else row["difference"].percent()
        shown = [accuracy, row["train"].percent(), row["valid"].percent(), difference, row["verdict"]]
        rate, decay = (f"{row['chosen'][name]:g}" for name in ("rate", "decay"))
        body.append([row["setting"], rate, decay, *shown])
    caption = (
        f"Test accuracy, training and validation error (%), {shared}. Vs none: the difference of the test "
        "errors in points, paired by seed; the verdict is at two standard errors."
    )
    return [choices, report.Table("Test part, scored once", header, body, caption)]


def plot(plan: Plan, found: Found) -> Figure:
    """Validation errors over the drop rate, and test errors of the chosen settings."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, plots.HEIGHT))
    valid = found.valid[-1].reshape(len(plan.rates), len(plan.decays), plan.seeds)
    for i, decay in enumerate(plan.decays):
        plots.draw_mean(left, plan.rates, 100 * valid[:, i], i, f"weight decay {decay:g}")
    left.set_xlabel("drop rate of the last branch")
    left.set_ylabel("validation error (%)")
    rows = summarize(found)
    for place, row in zip(range(len(rows))[::-1], rows, strict=True):
        mean, standard_error = (100 * value for value in row["test"])
        right.errorbar(mean, place, xerr=standard_error, fmt="o", color=plots.BLUE, capsize=3)
    labels = [
        f"{row['setting']}:\ndrop rate {row['chosen']['rate']:g}, weight decay {row['chosen']['decay']:g}"
        for row in rows
    ]
    right.set_yticks(range(len(rows))[::-1], labels)
    right.set_ylim(-0.6, len(rows) - 0.4)
    right.set_xlabel("test error (%)")
    plots.add_legend(figure)
    figure.suptitle(f"Drop path and weight decay: mean ± standard error over {plan.seeds} seeds")
    return figure
