"""Networks of each seed: an ensemble without dropout, and one with; all trained in one program."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from experiments import batches, data, loop, mlp
from jaxdrop import optim, training

BATCH = 128
LEARNING_RATE = 2e-3
# Number of evaluations during training.
CHUNKS = 10
# Most training images that the loss is computed on.
PROBE = 500


class Plan(NamedTuple):
    """Configuration of training and evaluation.

    Attributes:
      dataset: One of `experiments.data.NAMES`.
      seed: The first seed.
      seeds: The number of seeds; each has its own networks and test images.
      hidden: The widths of the hidden layers.
      rate: The dropout rate of the hidden units in the network with dropout.
      steps: The training steps of each network, a multiple of `CHUNKS`.
      members: The networks of an ensemble, all without dropout.
      images: The number of test images of each set.
      counts: The numbers of Monte-Carlo samples, ascending.
      angles: The angles of the rotated images, in degrees.
    """

    dataset: str
    seed: int
    seeds: int
    hidden: tuple[int, ...] = (128, 128)
    rate: float = 0.2
    steps: int = 3000
    members: int = 5
    images: int = 2000
    counts: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000)
    angles: tuple[int, ...] = ()

    def model(self, rate: chex.Numeric | None = None) -> mlp.MLP:
        """Network with the plan's rate or another."""
        return mlp.MLP(self.hidden, 10, rate=self.rate if rate is None else rate)


def cells(plan: Plan, inputs: int) -> tuple[jax.Array, dict[str, Any], dict[str, jax.Array]]:
    """Keys, first weights and rates: for each seed its ensemble, then the network with dropout.

    The first member of the ensemble and the network with dropout share their first weights.
    """
    places = [(plan.seed + i, member) for i in range(plan.seeds) for member in (*range(plan.members), 0)]
    draws = [
        mlp.init(np.random.default_rng((seed, 1, member)), plan.model(), inputs) for seed, member in places
    ]
    seeds, members = np.array(places).T
    keys = jax.vmap(lambda seed, i: jax.random.fold_in(jax.random.key(seed), i))(seeds, members)
    rate = np.tile(np.array([0.0] * plan.members + [plan.rate], np.float32), plan.seeds)
    return keys, batches.stack(draws), {"rate": jnp.asarray(rate)}


def recipe(plan: Plan, images: int) -> training.Recipe:
    """Recipe of one run; the batch is all images and their labels."""

    def of_cell(hyper: dict[str, Any]) -> tuple[training.LossFn, optax.GradientTransformation]:
        model = plan.model(hyper["rate"])

        def apply(params: Any, x: jax.Array, key: chex.PRNGKey) -> Any:
            return model.apply(params, x, deterministic=False, rngs={"dropout": key})

        loss_fn = batches.cross_entropy(apply, lambda key: batches.draw_batch(key, BATCH, images))
        optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, plan.steps))
        return loss_fn, optim.halt_on_nonfinite(optimizer)

    return of_cell


def train(
    plan: Plan, examples: data.Dataset, checkpoints: epath.Path, setup: loop.Setup = loop.ALONE
) -> tuple[Any, np.ndarray]:
    """Trains every network.

    Args:
      plan: The configuration.
      examples: The data, of which only the development part is used.
      checkpoints: The folder of the checkpoints.
      setup: The devices to divide the runs over, and the folder of live curves.

    Returns:
      The weights, with leading axes of seeds and networks, the one with dropout last; and the training
      losses without noise during training, `[CHUNKS, seeds, members + 1]`.
    """
    pair = training.sweep(recipe(plan, len(examples.x)))

    def evaluate(state: training.TrainState, pool: tuple) -> jax.Array:
        def loss(params: Any) -> jax.Array:
            logits: Any = plan.model().apply(params, pool[0][:PROBE])
            return optax.softmax_cross_entropy_with_integer_labels(logits, pool[1][:PROBE]).mean()

        return jax.vmap(loss)(state.params)

    state, history = loop.train(
        pair,
        pair.init(*cells(plan, examples.x.shape[1])),
        (jnp.asarray(examples.x), jnp.asarray(examples.y)),
        evaluate,
        steps=plan.steps,
        every=plan.steps // CHUNKS,
        title=f"{plan.seeds} seeds x {plan.members + 1} networks, steps",
        checkpoints=checkpoints,
        setup=setup,
        curves=functools.partial(live, plan),
    )
    shape = (plan.seeds, plan.members + 1)
    params = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(*shape, *leaf.shape[1:]), state.params)
    return params, history.reshape(CHUNKS, *shape)


def live(plan: Plan, metrics: np.ndarray) -> dict[str, np.ndarray]:
    """Live curves: the training losses of all members of the ensembles, and of the networks with dropout."""
    losses = metrics.reshape(plan.seeds, plan.members + 1)
    return {"train/ensemble": losses[:, :-1].ravel(), "train/dropout": losses[:, -1]}
