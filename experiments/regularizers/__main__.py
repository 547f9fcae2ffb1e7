"""Regularizers of a small network that can memorize its training set.

No regularization, L1, L2, L1 + L2, dropout, Gaussian dropout and dropout + L2 on the digits that
scikit-learn ships (or MNIST, or Fashion-MNIST): an MLP on a training set small enough to overfit.
Each seed draws its own training and validation sets, initial weights and noise. Strengths and
rates are chosen by the mean validation error over all seeds; then, once, the chosen runs are
scored on the test part. The whole grid (methods x strengths x seeds) trains in one compiled
program, `jaxdrop.training.sweep`.

Sources: Srivastava et al., 2014 (dropout, Gaussian dropout, dropout + L2); Hoerl and Kennard, 1970
(L2); Tibshirani, 1996 (L1); Zou and Hastie, 2005 (both).

    python -m experiments.regularizers
    python -m experiments.regularizers --dataset mnist --data-dir DIR

About a minute on 2 CPU cores for the digits. Results: README.md in this folder.
"""

from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import typer
from etils import epath

import jaxdrop.linen
from experiments import batches, cli, data, loop, own, study, study_report
from jaxdrop import penalties, training

NONE = "none"
# The settings of each method to choose from; hyperparameters not named are zero.
METHODS: dict[str, list[study.Setting]] = {
    NONE: [{}],
    "L1": [{"l1": c} for c in (1e-5, 1e-4, 3e-4, 1e-3)],
    "L2": [{"l2": c} for c in (1e-4, 3e-4, 1e-3, 3e-3)],
    "L1 + L2": [{"l1": a, "l2": b} for a in (1e-5, 1e-4) for b in (3e-4, 1e-3)],
    "dropout": [{"rate": p} for p in (0.1, 0.2, 0.3, 0.5)],
    "Gaussian dropout": [{"gaussian_rate": p} for p in (0.1, 0.2, 0.3, 0.5)],
    "dropout + L2": [{"rate": p, "l2": c} for p in (0.1, 0.3) for c in (3e-4, 1e-3)],
}
NAMES = {"l1": "L1", "l2": "L2", "rate": "rate", "gaussian_rate": "rate"}
COLUMNS = {"test": "test", "train": "train", "gap": "gap", "zero": "zero"}
# Weights up to this size count as zero: gradient methods do not reach 0 exactly.
ZERO = 1e-3
CHUNKS = 20


class Config(NamedTuple):
    """Configuration of a run."""

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
    def __call__(self, x: jax.Array, hyper: study.Hyper | None = None) -> jax.Array:
        """Logits, `[B, classes]`; with noise at the rates in `hyper`, without if None."""
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
            if hyper is not None:
                x = jaxdrop.linen.Dropout(hyper["rate"], deterministic=False)(x)
                x = jaxdrop.linen.GaussianDropout(hyper["gaussian_rate"], deterministic=False)(x)
        return nn.Dense(self.classes)(x)


def recipe_for(model: MLP, config: Config) -> training.Recipe:
    """Recipe of one run: its noise, its penalty and its own training set."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)

    def recipe(hyper: study.Hyper) -> tuple[training.LossFn, optax.GradientTransformation]:
        def apply(params: Any, x: jax.Array, key: jax.Array) -> Any:
            return model.apply({"params": params}, x, hyper, rngs={"dropout": key})

        def rows(key: jax.Array) -> jax.Array:
            return hyper["train"][jax.random.randint(key, (config.batch_size,), 0, config.train_size)]

        plain = batches.cross_entropy(apply, rows)

        def loss_fn(params: Any, key: jax.Array, pool: tuple) -> tuple[jax.Array, tuple]:
            return plain(params, key, pool)[0] + penalties.l1_l2(params, (hyper["l1"], hyper["l2"])), ()

        return loss_fn, optax.adam(schedule)

    return recipe


def make(config: Config, examples: data.Dataset) -> study.Study:
    """Study of all methods, in one program."""
    model = MLP(config.width, int(examples.y.max()) + 1)
    sizes = {"train": config.train_size, "valid": config.valid_size, "probe": config.train_size}

    def init(seed: int) -> Any:
        key = jax.random.fold_in(jax.random.key(seed), 2**31)
        return model.init(key, jnp.asarray(examples.x[:1]))["params"]

    def score(params: Any, _: study.Hyper, batch: tuple) -> jax.Array:
        logits: Any = model.apply({"params": params}, batch[0])
        return jnp.mean(logits.argmax(-1) != batch[1])

    methods = [study.Method(name, settings, NONE) for name, settings in METHODS.items()]
    recipe = recipe_for(model, config)
    program = study.Program(methods, init, recipe, score, config.steps, dict.fromkeys(NAMES, 0.0))
    return study.Study(
        title=f"{config.dataset}, {config.train_size} training examples, MLP {config.width}-{config.width}",
        programs=[program],
        rows=batches.draw_rows(config.seed, config.seeds, len(examples.x), **sizes),
        **study.image_data(*examples[1:]),
        seed=config.seed,
        config=config._asdict(),
        columns=COLUMNS,
        versus=NONE,
        names=NAMES,
        chunks=CHUNKS,
        measures={"zero": partial(share_below, ZERO), "exactly_zero": partial(share_below, 0.0)},
    )


def share_below(bound: float, params: Any) -> Any:
    """Share of the weights of absolute value at most `bound`; biases do not count."""
    mask = penalties.weight_mask(params)
    weights = [leaf for leaf, use in zip(*map(jax.tree.leaves, (params, mask)), strict=True) if use]
    return sum(jnp.sum(jnp.abs(w) <= bound) for w in weights) / sum(w.size for w in weights)


def conclude(rows: list[study.Row]) -> tuple[dict[str, Any], str]:
    """Share of weights that are exactly zero, in words."""
    exact = 100 * max(row.means["exactly_zero"].value for row in rows)
    return {}, f"Zero: weights of at most {ZERO:g} in absolute value (exactly zero: at most {exact:.2f} %)."


def main(
    dataset: Annotated[data.Name | None, typer.Option(help="Data set; by default the digits.")] = None,
    own_data: cli.Data = None,
    data_dir: Annotated[
        epath.Path | None, cli.data_dir("mnist/ or fashion-mnist/", "The digits and --data need none.")
    ] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 20,
    steps: Annotated[int, typer.Option(min=CHUNKS, help="Steps of batch 50, a multiple of 20.")] = 400,
    train_size: Annotated[int, typer.Option(min=1, help="Training examples of each seed.")] = 100,
    valid_size: Annotated[int, typer.Option(min=1, help="Validation examples of each seed.")] = 300,
    width: Annotated[int, typer.Option(min=1, help="Units of each of the two hidden layers.")] = 64,
    devices: cli.Devices = None,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Compare regularizers on a training set small enough to memorize.

    Trains every method, strength and seed in one compiled program, chooses strengths and rates on
    validation parts, scores the chosen runs on the test part, and writes metrics.json, run.json, table.md,
    comparison.png and learning_curves.png to OUT/regularizers/DATASET (DATASET-quick with --quick,
    which sets the sizes itself). DATASET is the name of the file for --data.
    """
    if quick:
        seeds, steps, train_size, valid_size, width = min(seeds, 3), 40, 50, 50, 16
    if steps % CHUNKS:
        raise cli.BadInputError(f"`steps` must be a multiple of {CHUNKS}, got {steps}.")
    if own_data is not None and dataset is not None:
        raise cli.BadInputError(f"`dataset` must be left out with `data`, got {dataset}.")
    setup = loop.make_setup(devices, out, log_dir)
    examples = data.load(dataset or "digits", data_dir) if own_data is None else own.labeled(own_data)
    if train_size + valid_size > len(examples.x):
        raise cli.BadInputError(
            f"`train_size` and `valid_size` must add up to at most {len(examples.x)}, "
            f"got {train_size} and {valid_size}."
        )
    config = Config(examples.name, seed, seeds, steps, steps // CHUNKS, train_size, valid_size, width)
    folder = out / "regularizers" / (f"{examples.name}-quick" if quick else examples.name)
    caption = f"In percent; {train_size} training and {valid_size} validation examples per seed."
    study_report.conduct(make(config, examples)._replace(setup=setup), folder, caption, conclude)


if __name__ == "__main__":
    cli.run(main)
