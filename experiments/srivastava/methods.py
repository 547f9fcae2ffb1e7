"""The regularizers of Table 9, and their training: every setting with every seed in one program."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import data, loop
from experiments.srivastava import network
from experiments.variants import study
from jaxdrop import optim, penalties, schedules, training

BASELINE = "L2"
BEST = "dropout + max-norm"
# Of the test images, in percent: Srivastava et al., 2014, Table 9.
PUBLISHED = {
    BASELINE: 1.62,
    "L2 + L1 at the end": 1.60,
    "L2 + KL-sparsity": 1.55,
    "max-norm": 1.35,
    "dropout + L2": 1.25,
    BEST: 1.05,
}
# What a setting does not name.
ABSENT = {"input": 0.0, "hidden": 0.0, "l2": 0.0, "l1": 0.0, "kl": 0.0, "max_norm": np.inf}
# The paper's rates, and rates for narrow layers, to which those are too much.
PAPER = {"input": 0.2, "hidden": 0.5}
LESS = {"input": 0.1, "hidden": 0.1}
# For each method, the settings to choose from.
METHODS: dict[str, list[dict[str, float]]] = {
    BASELINE: [{"l2": c} for c in (1e-5, 1e-4, 3e-4)],
    "L2 + L1 at the end": [{"l2": 1e-4, "l1": c} for c in (1e-4, 1e-3)],
    "L2 + KL-sparsity": [{"l2": 1e-4, "kl": c} for c in (1e-2, 3e-2)],
    "max-norm": [{"max_norm": c} for c in (1.5, 2.0)],
    "dropout + L2": [rates | {"l2": 1e-5} for rates in (PAPER, LESS)],
    BEST: [PAPER | {"max_norm": 2.0}, LESS | {"max_norm": 2.0}, LESS | {"max_norm": 1.5}],
}

Hyper = dict[str, jax.Array]


class Config(NamedTuple):
    """What a run is made of.

    Attributes:
      dataset: One of `data.NAMES`.
      seed: The first seed.
      seeds: How many there are.
      hidden: The widths of the hidden layers.
      steps: The updates, a multiple of `chunks`.
      chunks: How often the errors are taken on the way.
      train_size: The training images of each seed.
      valid_size: Its validation images.
      probe_size: The training images that are scored on the way.
      batch_size: The images of an update.
      learning_rate: The first one.
      clip: The norm that no gradient exceeds: that of the sparsity penalty has no bound at a unit
        that nearly all images leave at 0, and has been seen to end in NaN.
      target: The mean activity that the sparsity penalty holds the hidden units at.
      late: From what share of the updates on there is L1.
    """

    dataset: str
    seed: int
    seeds: int
    hidden: tuple[int, ...]
    steps: int
    chunks: int = 20
    train_size: int = 50_000
    valid_size: int = 10_000
    probe_size: int = 2_000
    batch_size: int = 100
    learning_rate: float = 0.5
    clip: float = 1.0
    target: float = 0.1
    late: float = 0.8


def settings() -> list[tuple[str, dict[str, float]]]:
    """All methods and settings, in the order of the cells."""
    return [(method, setting) for method, options in METHODS.items() for setting in options]


def recipe_for(config: Config) -> training.Recipe:
    """The recipe of one cell: its noise, its penalties and its constraint; what is not its own is 0."""
    outermost = f"layer_{len(config.hidden)}/"

    def concerned(path: str, leaf: Any) -> bool:
        # The paper constrains the weights into each hidden unit.
        return penalties.is_weight(path, leaf) and not path.startswith(outermost)

    def recipe(hyper: Hyper) -> tuple[training.LossFn, optax.GradientTransformation]:
        def loss_fn(params: Any, key: jax.Array, pool: tuple) -> tuple[jax.Array, tuple]:
            x, y = pool
            batch_key, noise_key = jax.random.split(key)
            rows = hyper["train"][study.draw_batch(batch_key, config.batch_size, config.train_size)]
            rates = (hyper["input"], hyper["hidden"])
            logits, hidden = network.apply(params, x[rows], rates, noise_key)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()
            activity = [jnp.tanh(units) for units in hidden]
            return loss + penalties.kl_sparsity(activity, hyper["kl"], target=config.target), ()

        rate = network.learning_rate(config.learning_rate, config.steps)
        l1 = schedules.late(hyper["l1"], round(config.late * config.steps))
        steps = optax.chain(
            optim.coupled_l2(hyper["l2"]),
            optax.clip_by_global_norm(config.clip),
            network.optimiser(config.learning_rate, config.steps),
            optim.proximal_l1(l1, rate),
            optim.max_norm(hyper["max_norm"], where=concerned),
        )
        return loss_fn, optim.halt_on_nonfinite(steps)

    return recipe


def cells(config: Config, size: int) -> tuple[jax.Array, Hyper]:
    """The keys and hyper-parameters of every setting with every seed; seeds run fastest."""
    chosen = [ABSENT | setting for _, setting in settings()]
    hyper = {
        name: np.repeat([one[name] for one in chosen], config.seeds).astype(np.float32) for name in ABSENT
    }
    parts = {"train": config.train_size, "valid": config.valid_size}
    rows = study.draw_rows(config.seed, config.seeds, size, parts)
    rows["probe"] = rows["train"][:, : config.probe_size]
    hyper |= {name: np.tile(value.astype(np.int32), (len(chosen), 1)) for name, value in rows.items()}
    seeds = jnp.arange(config.seed, config.seed + config.seeds)
    return jax.vmap(jax.random.key)(jnp.tile(seeds, len(chosen))), jax.tree.map(jnp.asarray, hyper)


def start(config: Config, inputs: int, classes: int = 10) -> network.Params:
    """The first weights of every cell, those of a seed the same for all settings."""
    widths = (inputs, *config.hidden, classes)
    draws = [network.init(np.random.default_rng((config.seed + i, 1)), widths) for i in range(config.seeds)]
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves * len(settings()))), *draws)


def evaluate(state: training.TrainState, pool: tuple) -> jax.Array:
    """Training and validation errors without noise, `[cells, 2]`."""
    x, y = pool

    def errors(run: tuple) -> jax.Array:
        params, *parts = run
        return jnp.stack([network.error_rate(params, x[rows], y[rows]) for rows in parts])

    return jax.lax.map(errors, (state.params, state.hyper["probe"], state.hyper["valid"]))


def train(config: Config, dataset: data.Dataset, checkpoints: Path, save_every: float) -> dict[str, Any]:
    """Trains every cell; the curves, the chosen settings and the test errors of those.

    Returns:
      "curves", `[chunks, settings, seeds, (train, valid)]`; "chosen", for each method the place of
      its setting; "test", `[methods, seeds]`.
    """
    pool = (jnp.asarray(dataset.x), jnp.asarray(dataset.y))
    keys, hyper = cells(config, len(dataset.x))
    pair = training.sweep(recipe_for(config))
    state, history = loop.train(
        pair,
        pair.init(keys, start(config, dataset.x.shape[1]), hyper),
        pool,
        evaluate,
        steps=config.steps,
        every=config.steps // config.chunks,
        title=f"{len(settings())} settings x {config.seeds} seeds, updates",
        checkpoints=checkpoints,
        save_every=save_every,
    )
    curves = history.reshape(config.chunks, len(settings()), config.seeds, 2)
    chosen = choose(curves[-1, :, :, 1].mean(1))
    return {"curves": curves, "chosen": chosen, "test": test(config, state.params, chosen, dataset)}


def choose(valid: np.ndarray) -> dict[str, int]:
    """For each method, the setting of the lowest mean validation error; of equal ones, the first."""
    return {
        method: min((i for i, (name, _) in enumerate(settings()) if name == method), key=lambda i: valid[i])
        for method in METHODS
    }


def test(config: Config, params: Any, chosen: dict[str, int], dataset: data.Dataset) -> np.ndarray:
    """The test errors of the chosen cells, `[methods, seeds]`."""
    rows = np.concatenate([np.arange(config.seeds) + i * config.seeds for i in chosen.values()])
    best = jax.tree.map(lambda leaf: leaf[rows], params)
    parts = jnp.asarray(dataset.x_test), jnp.asarray(dataset.y_test)
    errors: Callable = jax.jit(lambda best, x, y: jax.lax.map(lambda p: network.error_rate(p, x, y), best))
    return np.asarray(errors(best, *parts)).reshape(len(chosen), config.seeds)
