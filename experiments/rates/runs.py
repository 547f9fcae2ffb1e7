"""Networks of a part: every setting with every seed, trained in one compiled program.

The rates and the number of images of a setting are traced, so one program serves all. They share one
learning rate. Of .1, .3 and 1 it is the best for networks without dropout, after 500 updates on
development images; with dropout .1 was worse, and 1 about equal.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from matplotlib.figure import Figure

from experiments import batches, data, loop, relu_net, report
from jaxdrop import optim, training

BATCH = 50
LEARNING_RATE = 0.3
PAPER_UPDATES = 1_000_000
# Number of evaluations during training.
CHUNKS = 10
# Most training images that an error is computed on: during training, and at the end.
PROBE, COUNTED = 500, 10_000


class Setting(NamedTuple):
    """Setting that varies: dropout rates of inputs and hidden units, and the number of images."""

    input: float
    hidden: float
    size: int


class Plan(NamedTuple):
    """Configuration of a part.

    Attributes:
      part: The name of the part.
      dataset: One of `experiments.data.NAMES`.
      seed: The first seed; each has its own images, initial weights and noise.
      seeds: The number of seeds.
      hidden: The widths of the hidden layers.
      updates: The training steps of each network, a multiple of `CHUNKS`.
      settings: The settings.
      samples: The Monte-Carlo samples averaged per network; 0 for none.
      repeats: The number of repetitions of that average.
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
        """Name of the network, such as `784-256-256-10`."""
        return "-".join(map(str, (inputs, *self.hidden, 10)))


class Trained(NamedTuple):
    """Trained networks, with leading axes of settings and seeds.

    Attributes:
      params: The weights, `balanced`.
      curves: Errors on some of the training images, `[CHUNKS, settings, seeds]`.
      train: The errors on their training images in the end, `[settings, seeds]`.
      test: The errors on the test part.
    """

    params: relu_net.Params
    curves: np.ndarray
    train: np.ndarray
    test: np.ndarray


class Claim(NamedTuple):
    """Claim of the paper, the result here, and whether it shows: "yes", "no", "in part" or "unclear"."""

    paper: str
    here: str
    shows: str


class Result(NamedTuple):
    """Results of a part: a table, the paper's claims, a plot, and the numbers for metrics.json."""

    table: report.Table
    claims: list[Claim]
    figure: Figure
    metrics: dict[str, Any]


def scaled(paper: int, scale: float) -> int:
    """Number of the paper, scaled down."""
    return max(round(paper * scale), 1)


def updates(scale: float) -> int:
    """A million updates scaled with the cube, as a multiple of `CHUNKS`."""
    return CHUNKS * scaled(PAPER_UPDATES // CHUNKS, scale**3)


def orders(plan: Plan, size: int) -> np.ndarray:
    """Training images of each seed, `[seeds, most]`; a setting uses the first, so its sets are nested."""
    most = max(setting.size for setting in plan.settings)
    return batches.draw_rows(plan.seed, plan.seeds, size, train=most, valid=0)["train"]


def cells(plan: Plan, inputs: int) -> tuple[jax.Array, relu_net.Params, dict[str, jax.Array]]:
    """Keys, first weights and hyperparameters of every setting with every seed; seeds run fastest."""
    count = len(plan.settings)
    columns = {name: jnp.array([getattr(s, name) for s in plan.settings]) for name in Setting._fields}
    hyper = {name: jnp.repeat(column, plan.seeds) for name, column in columns.items()}
    hyper["place"] = jnp.tile(jnp.arange(plan.seeds), count)
    widths = (inputs, *plan.hidden, 10)
    draws = [relu_net.init(np.random.default_rng((plan.seed + i, 1)), widths) for i in range(plan.seeds)]
    return batches.seed_keys(plan.seed, plan.seeds, count), batches.stack(draws, count), hyper


def balanced(params: relu_net.Params, rates: tuple[Any, Any]) -> relu_net.Params:
    """Weights times the square root of the share of their inputs that dropout keeps.

    Dropout divides kept inputs by that share. With this factor the sums under noise have the size that
    He's initialization gives without. Otherwise high rates blow them up, and the network dies.
    """
    keep: dict[str, Any] = dict.fromkeys(params, 1 - rates[1]) | {"layer_0": 1 - rates[0]}
    return {name: {**layer, "kernel": layer["kernel"] * keep[name] ** 0.5} for name, layer in params.items()}


def recipe(plan: Plan) -> training.Recipe:
    """Recipe of one run; the batch is all images, their labels, and `orders`."""

    def of_cell(hyper: dict[str, jax.Array]) -> tuple[training.LossFn, optax.GradientTransformation]:
        rates = (hyper["input"], hyper["hidden"])

        def apply(params: Any, x: jax.Array, key: chex.PRNGKey) -> jax.Array:
            return relu_net.apply(balanced(params, rates), x, rates, key)[0]

        def loss_fn(params: Any, key: chex.PRNGKey, pool: tuple) -> tuple[jax.Array, tuple]:
            def rows(key: chex.PRNGKey) -> jax.Array:
                return pool[2][hyper["place"], batches.draw_batch(key, BATCH, hyper["size"])]

            return batches.cross_entropy(apply, rows)(params, key, pool)

        return loss_fn, optim.halt_on_nonfinite(relu_net.optimizer(LEARNING_RATE, plan.updates))

    return of_cell


def errors(params: relu_net.Params, x: jax.Array, y: jax.Array, rows: jax.Array) -> jax.Array:
    """Error rate of each network on its own rows, `[runs, ...]`, in turn to save memory."""
    return jax.lax.map(lambda run: relu_net.error_rate(run[0], x[run[1]], y[run[1]]), (params, rows))


def train(
    plan: Plan, examples: data.Dataset, checkpoints: epath.Path, setup: loop.Setup = loop.ALONE
) -> Trained:
    """Trains every network and tests it once."""
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
        setup=setup,
        curves=functools.partial(live, plan),
    )
    shape = (len(plan.settings), plan.seeds)
    params = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), jax.jit(_balanced)(state))
    own = [order[:, : min(setting.size, COUNTED)] for setting in plan.settings]
    every = [jnp.tile(jnp.arange(len(x_test)), (plan.seeds, 1))] * len(own)
    ends = _counted(params, x, y, own), _counted(params, x_test, y_test, every)
    return Trained(params, history.reshape(CHUNKS, *shape), *ends)


def live(plan: Plan, metrics: np.ndarray) -> dict[str, np.ndarray]:
    """Live curves: the errors of each setting on its training images, by seed."""
    rows = metrics.reshape(len(plan.settings), plan.seeds)
    names = [f"input {s.input:g} hidden {s.hidden:g} images {s.size}" for s in plan.settings]
    return {f"train/{name}": row for name, row in zip(names, rows, strict=True)}


def _balanced(state: training.TrainState) -> relu_net.Params:
    return jax.vmap(balanced)(state.params, (state.hyper["input"], state.hyper["hidden"]))


def _counted(params: relu_net.Params, x: jax.Array, y: jax.Array, rows: list[jax.Array]) -> np.ndarray:
    """Error rates of the networks of each setting on their own rows."""
    counted = jax.jit(errors)
    of = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(len(rows))]
    return np.stack([np.asarray(counted(mine, x, y, r)) for mine, r in zip(of, rows, strict=True)])
