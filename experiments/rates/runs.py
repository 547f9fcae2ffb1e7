"""Many networks trained at once: every setting of a part with every seed, in one compiled program.

A setting's rates and the number of images it may see are traced, so one program serves them all.
All have one learning rate. Of .1, .3 and 1 it is the best for networks without dropout, after 500
updates on development images; with dropout .1 was worse, and 1 much the same.
"""

from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import data, loop
from experiments.srivastava import network
from experiments.variants import study
from jaxdrop import optim, training

BATCH = 50
LEARNING_RATE = 0.3
PAPER_UPDATES = 1_000_000
# How often the training error is looked at on the way.
CHUNKS = 10
# The most training images that an error is computed of; on the way, and in the end.
PROBE, COUNTED = 500, 10_000


class Setting(NamedTuple):
    """What is varied: the dropout rates of the inputs and of the hidden units, and how many images."""

    input: float
    hidden: float
    size: int


class Plan(NamedTuple):
    """What a part trains; its checkpoints are its own.

    Attributes:
      part: The name of the part.
      dataset: One of `experiments.data.NAMES`.
      seed: The first seed; a seed has its own images, initial weights and noise.
      seeds: How many there are.
      hidden: The widths of the hidden layers.
      updates: How many each network has, a multiple of `CHUNKS`.
      settings: What is varied.
      samples: How many networks are sampled of each, where their predictions are averaged.
      repeats: How often that is done.
    """

    part: str
    dataset: str
    seed: int
    seeds: int
    hidden: tuple[int, ...]
    updates: int
    settings: tuple[Setting, ...]
    samples: int = 0
    repeats: int = 0

    def name(self, inputs: int) -> str:
        """The network, as `784-256-256-10`."""
        return "-".join(map(str, (inputs, *self.hidden, 10)))


class Trained(NamedTuple):
    """Networks, with leading axes of settings and seeds.

    Attributes:
      params: Their weights, `balanced`.
      curves: The errors on some of their training images, `[CHUNKS, settings, seeds]`.
      train: The errors on their training images in the end, `[settings, seeds]`.
      test: The errors on the test part.
    """

    params: network.Params
    curves: np.ndarray
    train: np.ndarray
    test: np.ndarray


class Claim(NamedTuple):
    """What the paper says, what is seen here, and whether that is it: "yes", "no", "in part" or "unclear"."""

    paper: str
    here: str
    shows: str


class Result(NamedTuple):
    """What came of a part: a table, what the paper claims, a plot, and the numbers for metrics.json."""

    title: str
    header: list[str]
    body: list[list[str]]
    caption: str
    claims: list[Claim]
    figure: Figure
    metrics: dict[str, Any]


def scaled(paper: int, scale: float) -> int:
    """The paper's number, scaled down."""
    return max(round(paper * scale), 1)


def updates(scale: float) -> int:
    """A million, scaled down with the cube, and made a multiple of `CHUNKS`."""
    return CHUNKS * scaled(PAPER_UPDATES // CHUNKS, scale**3)


def orders(plan: Plan, size: int) -> np.ndarray:
    """For each seed the images of its settings: of each the first ones, so that they are nested."""
    most = max(setting.size for setting in plan.settings)
    draws = [np.random.default_rng(plan.seed + i).permutation(size)[:most] for i in range(plan.seeds)]
    return np.stack(draws).astype(np.int32)


def cells(plan: Plan, inputs: int) -> tuple[jax.Array, network.Params, dict[str, jax.Array]]:
    """Key, first weights and hyper-parameters of every setting with every seed; seeds run fastest."""
    count = len(plan.settings)
    columns = {name: jnp.array([getattr(s, name) for s in plan.settings]) for name in Setting._fields}
    hyper = {name: jnp.repeat(column, plan.seeds) for name, column in columns.items()}
    hyper["place"] = jnp.tile(jnp.arange(plan.seeds), count)
    seeds = np.tile(plan.seed + np.arange(plan.seeds), count)
    widths = (inputs, *plan.hidden, 10)
    draws = [network.init(np.random.default_rng((plan.seed + i, 1)), widths) for i in range(plan.seeds)]
    params = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves * count)), *draws)
    return jnp.stack([jax.random.key(int(seed)) for seed in seeds]), params, hyper


def balanced(params: network.Params, rates: tuple[Any, Any]) -> network.Params:
    """The weights multiplied by the square root of the share of their inputs that dropout keeps.

    What is kept is divided by that share, so the sums have under noise the size that He's start
    gives them without; else high rates blow them up, and the network dies at the first updates.
    """
    keep: dict[str, Any] = dict.fromkeys(params, 1 - rates[1]) | {"layer_0": 1 - rates[0]}
    return {name: {**layer, "kernel": layer["kernel"] * keep[name] ** 0.5} for name, layer in params.items()}


def recipe(plan: Plan) -> training.Recipe:
    """As `jaxdrop.training.sweep` wants it; the batch is all images, their labels, and the orders."""

    def of_cell(hyper: dict[str, Any]) -> tuple[training.LossFn, optax.GradientTransformation]:
        rates = (hyper["input"], hyper["hidden"])

        def loss_fn(params: Any, key: chex.PRNGKey, pool: tuple) -> tuple[jax.Array, tuple]:
            batch_key, noise_key = jax.random.split(key)
            rows = pool[2][hyper["place"], study.draw_batch(batch_key, BATCH, hyper["size"])]
            logits, _ = network.apply(balanced(params, rates), pool[0][rows], rates, noise_key)
            return optax.softmax_cross_entropy_with_integer_labels(logits, pool[1][rows]).mean(), ()

        return loss_fn, optim.halt_on_nonfinite(network.optimiser(LEARNING_RATE, plan.updates))

    return of_cell


def errors(params: network.Params, x: jax.Array, y: jax.Array, rows: jax.Array) -> jax.Array:
    """The error of each network on its own rows, `[runs, ...]`; one after another, to save memory."""
    return jax.lax.map(lambda run: network.error_rate(run[0], x[run[1]], y[run[1]]), (params, rows))


def train(plan: Plan, examples: data.Dataset, checkpoints: Path) -> Trained:
    """Trains every network, then tests it, once."""
    x, y, x_test, y_test = map(jnp.asarray, examples[1:])
    order = jnp.asarray(orders(plan, len(x)))
    probe = order[:, : min(PROBE, *(setting.size for setting in plan.settings))]
    pair = training.sweep(recipe(plan))

    def evaluate(state: training.TrainState, pool: tuple) -> jax.Array:
        return errors(_balanced(state), pool[0], pool[1], probe[state.hyper["place"]])

    state, history = loop.train(
        pair,
        pair.init(*cells(plan, x.shape[1])),
        (x, y, order),
        evaluate,
        steps=plan.updates,
        every=plan.updates // CHUNKS,
        title=f"{plan.part}: {len(plan.settings)} settings x {plan.seeds} seeds, updates",
        checkpoints=checkpoints,
    )
    shape = (len(plan.settings), plan.seeds)
    params = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), jax.jit(_balanced)(state))
    own = [order[:, : min(setting.size, COUNTED)] for setting in plan.settings]
    every = [jnp.tile(jnp.arange(len(x_test)), (plan.seeds, 1))] * len(own)
    ends = _counted(params, x, y, own), _counted(params, x_test, y_test, every)
    return Trained(params, history.reshape(CHUNKS, *shape), *ends)


def _balanced(state: training.TrainState) -> network.Params:
    return jax.vmap(balanced)(state.params, (state.hyper["input"], state.hyper["hidden"]))


def _counted(params: network.Params, x: jax.Array, y: jax.Array, rows: list[jax.Array]) -> np.ndarray:
    """The errors of the networks of each setting on the setting's rows of each seed."""
    counted = jax.jit(errors)
    of = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(len(rows))]
    return np.stack([np.asarray(counted(mine, x, y, r)) for mine, r in zip(of, rows, strict=True)])
