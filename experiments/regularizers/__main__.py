"""Which regularizer helps a small network that can learn its training set by heart?

No regularization, L1, L2, L1 + L2, dropout, Gaussian dropout and dropout + L2 on the digits that
scikit-learn ships (or MNIST, or Fashion-MNIST): an MLP on a training set small enough to overfit.
Each seed draws its own training and validation sets, initial weights and noise. Strengths and
rates are chosen by the mean validation error over all seeds; then, once, the chosen cells are
tested on a part that no one has looked at. The whole grid (methods x strengths x seeds) trains in
one compiled program, `jaxdrop.training.sweep`.

Sources: Srivastava et al., 2014 (dropout, Gaussian dropout, dropout + L2); Hoerl and Kennard, 1970
(L2); Tibshirani, 1996 (L1); Zou and Hastie, 2005 (both).

    python -m experiments.regularizers
    python -m experiments.regularizers --dataset mnist --data-dir DIR

About a minute on 2 CPU cores for the digits. What came out is in README.md, beside this file.
"""

import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import typer
from matplotlib.figure import Figure

import jaxdrop.linen
from experiments import cli, data, loop, report
from jaxdrop import penalties, training

NONE = "none"
# For each method, the settings to choose from; what is not named is zero.
METHODS: dict[str, list[dict[str, float]]] = {
    NONE: [{}],
    "L1": [{"l1": c} for c in (1e-5, 1e-4, 3e-4, 1e-3)],
    "L2": [{"l2": c} for c in (1e-4, 3e-4, 1e-3, 3e-3)],
    "L1 + L2": [{"l1": a, "l2": b} for a in (1e-5, 1e-4) for b in (3e-4, 1e-3)],
    "dropout": [{"rate": p} for p in (0.1, 0.2, 0.3, 0.5)],
    "Gaussian dropout": [{"gaussian_rate": p} for p in (0.1, 0.2, 0.3, 0.5)],
    "dropout + L2": [{"rate": p, "l2": c} for p in (0.1, 0.3) for c in (3e-4, 1e-3)],
}
HYPER = {"l1": "L1", "l2": "L2", "rate": "rate", "gaussian_rate": "rate"}
# A weight this small is counted as zero: a gradient method brings none there exactly.
ZERO = 1e-3


class Config(NamedTuple):
    """What a run is made of; its checkpoints are its own."""

    dataset: str
    seed: int
    seeds: int
    steps: int
    every: int
    train_size: int
    valid_size: int
    width: int
    batch_size: int = 50
    learning_rate: float = 3e-3


class MLP(nn.Module):
    """Two hidden layers of ReLU, each followed by both kinds of dropout; rate 0 is the identity."""

    width: int
    classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, hyper: dict[str, jax.Array] | None = None) -> Any:
        """Logits, `[B, classes]`; with the noise of the hyper-parameters where they are given."""
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
            if hyper is not None:
                x = jaxdrop.linen.Dropout(hyper["rate"], deterministic=False)(x)
                x = jaxdrop.linen.GaussianDropout(hyper["gaussian_rate"], deterministic=False)(x)
        return nn.Dense(self.classes)(x)


def recipe_for(model: MLP, config: Config) -> training.Recipe:
    """The recipe of one cell of the grid: its noise, its penalty, its own training set."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)

    def recipe(hyper: dict[str, jax.Array]) -> tuple[training.LossFn, optax.GradientTransformation]:
        def loss_fn(params: Any, key: jax.Array, pool: tuple) -> tuple[jax.Array, tuple]:
            x, y = pool
            batch_key, noise_key = jax.random.split(key)
            chosen = jax.random.randint(batch_key, (config.batch_size,), 0, config.train_size)
            rows = hyper["train"][chosen]
            logits: Any = model.apply({"params": params}, x[rows], hyper, rngs={"dropout": noise_key})
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y[rows])
            return losses.mean() + penalties.l1_l2(params, (hyper["l1"], hyper["l2"])), ()

        return loss_fn, optax.adam(schedule)

    return recipe


def cells(config: Config, size: int) -> tuple[list[tuple[str, dict]], dict[str, jax.Array], jax.Array]:
    """The settings, and for each of them with each seed its hyper-parameters and its key."""
    settings = [(method, setting) for method, options in METHODS.items() for setting in options]
    seeds = np.arange(config.seed, config.seed + config.seeds)
    draws = np.stack([np.random.default_rng(seed).permutation(size) for seed in seeds])
    end = config.train_size + config.valid_size
    hyper: dict[str, np.ndarray] = {
        name: np.repeat([setting.get(name, 0.0) for _, setting in settings], config.seeds).astype(np.float32)
        for name in HYPER
    }
    hyper["train"] = np.tile(draws[:, : config.train_size], (len(settings), 1))
    hyper["valid"] = np.tile(draws[:, config.train_size : end], (len(settings), 1))
    keys = jax.vmap(jax.random.key)(jnp.tile(jnp.asarray(seeds), len(settings)))
    return settings, jax.tree.map(jnp.asarray, hyper), keys


def error_rate(model: MLP, params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The share of wrong predictions, without noise."""
    logits: Any = model.apply({"params": params}, x)
    return jnp.mean(logits.argmax(-1) != y)


def train_grid(config: Config, dataset: data.Dataset, checkpoints: Path) -> dict[str, Any]:
    """Trains every cell and returns the curves, the choice, and the test errors of the chosen."""
    model = MLP(config.width)
    settings, hyper, keys = cells(config, len(dataset.x))
    pool = (jnp.asarray(dataset.x), jnp.asarray(dataset.y))
    pair = training.sweep(recipe_for(model, config))
    params = jax.vmap(lambda key: model.init(jax.random.fold_in(key, 2**31), pool[0][:1])["params"])(keys)

    def evaluate(state: training.TrainState, pool: tuple) -> jax.Array:
        """Training and validation errors, `[cells, 2]`."""
        rows = jax.vmap(
            lambda p, *parts: jnp.stack([error_rate(model, p, pool[0][i], pool[1][i]) for i in parts])
        )
        return rows(state.params, state.hyper["train"], state.hyper["valid"])

    title = f"{len(settings)} settings x {config.seeds} seeds, steps"
    state, history = loop.train(
        pair,
        pair.init(keys, params, hyper),
        pool,
        evaluate,
        steps=config.steps,
        every=config.every,
        title=title,
        checkpoints=checkpoints,
    )
    # [chunks, settings, seeds, (train, valid)]
    curves = history.reshape(len(history), len(settings), config.seeds, 2)
    chosen = choose(settings, curves[-1, :, :, 1].mean(1))
    rows = np.concatenate([np.arange(i * config.seeds, (i + 1) * config.seeds) for i in chosen.values()])
    best = jax.tree.map(lambda leaf: leaf[rows], state.params)
    test_part = (jnp.asarray(dataset.x_test), jnp.asarray(dataset.y_test))
    test = jax.jit(jax.vmap(lambda p: error_rate(model, p, *test_part)))(best)
    exact, near = (np.asarray(jax.vmap(share)(best)) for share in (_share_below(0.0), _share_below(ZERO)))
    return {
        "settings": settings,
        "chosen": chosen,
        "curves": curves,
        "test": np.asarray(test).reshape(len(chosen), -1),
        "zero": near.reshape(len(chosen), -1),
        "exactly_zero": exact.reshape(len(chosen), -1),
    }


def choose(settings: list[tuple[str, dict]], valid: np.ndarray) -> dict[str, int]:
    """For each method, the setting of the lowest mean validation error; of equal ones, the first."""
    return {
        method: min((i for i, (name, _) in enumerate(settings) if name == method), key=lambda i: valid[i])
        for method in METHODS
    }


def _share_below(bound: float) -> Any:
    def share(params: Any) -> Any:
        mask = penalties.weight_mask(params)
        weights = [leaf for leaf, use in zip(*map(jax.tree.leaves, (params, mask)), strict=True) if use]
        return sum(jnp.sum(jnp.abs(w) <= bound) for w in weights) / sum(w.size for w in weights)

    return share


def verdict(difference: float, error: float) -> str:
    """What a paired difference of test errors says at two standard errors."""
    if not np.isfinite(error):
        return "one seed"
    if abs(difference) <= 2 * error:
        return "unclear"
    return "helps" if difference < 0 else "hurts"


def summarise(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each method: means and standard errors over the seeds."""
    rows = []
    names = list(results["chosen"])
    reference = results["test"][names.index(NONE)]
    for k, (method, i) in enumerate(results["chosen"].items()):
        train, valid = results["curves"][-1, i].T
        test = results["test"][k]
        values = {"test": test, "train": train, "gap": test - train, "valid": valid}
        values |= {"difference": test - reference, "zero": results["zero"][k]}
        row: dict[str, Any] = {"method": method, "setting": results["settings"][i][1]}
        for name, value in values.items():
            row[name], row[f"{name}_error"] = map(float, report.mean_and_error(value))
        row["exactly_zero"] = float(results["exactly_zero"][k].mean())
        row["verdict"] = "-" if method == NONE else verdict(row["difference"], row["difference_error"])
        rows.append(row | {"test_by_seed": test, "train_by_seed": train})
    return rows


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the results."""
    header = ["method", "chosen", "test", "train", "gap", "zero", f"vs {NONE}", "verdict"]
    return header, [
        [
            row["method"],
            ", ".join(f"{HYPER[name]}\u00a0{value:g}" for name, value in row["setting"].items()) or "-",
            *(report.percent(row[name], row[f"{name}_error"]) for name in ("test", "train", "gap")),
            report.percent(row["zero"], row["zero_error"], digits=1),
            "-" if row["method"] == NONE else report.percent(row["difference"], row["difference_error"]),
            row["verdict"],
        ]
        for row in rows
    ]


def plot_curves(results: dict[str, Any], config: Config) -> Figure:
    """Training and validation error over the steps, a panel for each method."""
    figure, axes = plt.subplots(2, 4, figsize=(12, 5.6), sharex=True, sharey=True)
    steps = config.every * np.arange(1, len(results["curves"]) + 1)
    reference = results["curves"][:, results["chosen"][NONE], :, 1].mean(1)
    for axis, (method, i) in zip(axes.flat, results["chosen"].items(), strict=False):
        axis.plot(steps, 100 * reference, color="0.6", ls=":", label=f"validation, {NONE}")
        for part, (name, color) in enumerate((("training", "C0"), ("validation", "C3"))):
            mean, error = report.mean_and_error(results["curves"][:, i, :, part])
            axis.plot(steps, 100 * mean, color=color, label=name)
            axis.fill_between(steps, 100 * (mean - error), 100 * (mean + error), color=color, alpha=0.25)
        axis.set_title(method)
    top = 100 * results["curves"][:, list(results["chosen"].values())].mean(2)[1:].max()
    axes[0, 0].set_ylim(0, 1.05 * top)
    for axis in axes[:, 0]:
        axis.set_ylabel("error (%)")
    for axis in axes.flat[3:7]:
        axis.set_xlabel("step")
        axis.tick_params(labelbottom=True)
    axes.flat[7].axis("off")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    axes.flat[7].legend(handles, labels, loc="center", frameon=False)
    figure.suptitle(f"{_subject(config)}: mean ± standard error over {config.seeds} seeds")
    return figure


def plot_comparison(rows: list[dict[str, Any]], config: Config) -> Figure:
    """Test errors with their standard errors, best at the top, and the paired differences."""
    rows = sorted(rows, key=lambda row: -row["test"])
    places = np.arange(len(rows))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    for axis, name, title in (
        (left, "test", "test error (%)"),
        (right, "difference", f"test error minus that of {NONE} (points)"),
    ):
        means, errors = (100 * np.array([row[key] for row in rows]) for key in (name, f"{name}_error"))
        for row, place, mean, error in zip(rows, places, means, errors, strict=True):
            color = {"helps": "C2", "hurts": "C3"}.get(row["verdict"], "0.4")
            axis.errorbar(mean, place, xerr=error, fmt="o", color=color, capsize=3)
        axis.set_xlabel(title)
    right.axvline(0, color="0.6", ls=":")
    left.set_yticks(places, [row["method"] for row in rows])
    figure.suptitle(
        f"{_subject(config)}: mean ± standard error over {config.seeds} seeds\n"
        "green helps, red hurts, grey is unclear (at two standard errors, paired by seed)",
        fontsize=10,
    )
    return figure


def _subject(config: Config) -> str:
    return f"{config.dataset}, {config.train_size} training examples, MLP {config.width}-{config.width}"


def main(
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(data.NAMES)}.")] = "digits",
    data_dir: cli.DataDir = None,
    out: cli.Out = Path("results"),
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds; at least 2 for standard errors.")] = 20,
    steps: Annotated[int, typer.Option(help="Training steps of batch 50, a multiple of 20.")] = 400,
    train_size: Annotated[int, typer.Option(help="Training examples of each seed.")] = 100,
    valid_size: Annotated[int, typer.Option(help="Validation examples of each seed.")] = 300,
    width: Annotated[int, typer.Option(help="Units of each of the two hidden layers.")] = 64,
    quick: cli.Quick = False,
) -> None:
    """Compare regularizers on a training set small enough to learn by heart.

    Trains every method, strength and seed in one compiled program, chooses strengths and rates on
    validation parts, tests the chosen on a part never looked at, and writes metrics.json, table.md,
    comparison.png and learning_curves.png to OUT/regularizers/DATASET (DATASET-quick with --quick,
    which sets the sizes itself).
    """
    if quick:
        seeds, steps, train_size, valid_size, width = min(seeds, 3), 40, 50, 50, 16
    cli.check_count("seed", seed, 0)
    for name, value in (("train_size", train_size), ("valid_size", valid_size), ("width", width)):
        cli.check_count(name, value)
    cli.check_count("seeds", seeds)
    if steps < 20 or steps % 20:
        raise cli.BadInputError(f"`steps` must be a positive multiple of 20, got {steps}.")
    examples = data.load(dataset, data_dir)
    if train_size + valid_size > len(examples.x):
        raise cli.BadInputError(
            f"`train_size` and `valid_size` must add up to at most {len(examples.x)}, "
            f"got {train_size} and {valid_size}."
        )
    config = Config(dataset, seed, seeds, steps, steps // 20, train_size, valid_size, width)
    folder = out / "regularizers" / (f"{dataset}-quick" if quick else dataset)
    checkpoints = loop.checkpoint_folder(folder, {**config._asdict(), "methods": METHODS}, examples[1:])
    start = time.monotonic()
    results = train_grid(config, examples, checkpoints)
    rows = summarise(results)
    seconds = time.monotonic() - start
    write(folder, config, results, rows, seconds)
    loop.forget(checkpoints)


def write(folder: Path, config: Config, results: dict, rows: list[dict], seconds: float) -> None:
    """Prints the table and writes every result, each file whole or not at all."""
    header, body = table(rows)
    exact = 100 * max(row["exactly_zero"] for row in rows)
    caption = (
        f"In percent: mean ± standard error over {config.seeds} seeds, each with its own "
        f"{config.train_size} training and {config.valid_size} validation examples. Chosen: by the "
        f"validation error. Zero: weights of at most {ZERO:g} in size (exactly zero: at most "
        f"{exact:.2f} %). Vs {NONE}: the difference of the test errors, paired by seed; the verdict "
        "is at two standard errors of it."
    )
    report.print_table(f"Errors on {_subject(config)}", header, body, caption)
    report.write_figure(folder / "learning_curves.png", plot_curves(results, config))
    report.write_figure(folder / "comparison.png", plot_comparison(rows, config))
    report.write_text(folder / "table.md", report.markdown_table(header, body))
    content = {"config": config._asdict(), "seconds": seconds, "environment": report.environment()}
    report.write_json(folder / "metrics.json", content | {"methods": rows})
    cli.console.print(f"{seconds:.0f} s. Written to {folder}/", highlight=False)


if __name__ == "__main__":
    cli.run(main)
