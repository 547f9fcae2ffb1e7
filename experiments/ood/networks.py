"""The networks of each seed: an ensemble without dropout, and one with; all trained in one program."""

from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import data, loop, mlp
from experiments.variants import study
from jaxdrop import optim, training

BATCH = 128
LEARNING_RATE = 2e-3
# How often the training loss is looked at on the way.
CHUNKS = 10
# The most images that it is computed of.
PROBE = 500


class Plan(NamedTuple):
    """What is trained and how it is evaluated; its checkpoints are its own.

    Attributes:
      dataset: One of `experiments.data.NAMES`.
      seed: The first seed.
      seeds: How many there are; each has its own networks and its own test images.
      hidden: The widths of the hidden layers.
      rate: The dropout rate of the hidden units, where there is dropout.
      steps: How many each network is trained for, a multiple of `CHUNKS`.
      members: How many networks an ensemble has, all without dropout.
      images: How many test images of each set.
      counts: The numbers of Monte-Carlo samples, ascending.
      angles: By how many degrees the images are turned.
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
        """The network, of the plan's rate or another."""
        return mlp.MLP(self.hidden, 10, rate=self.rate if rate is None else rate)


def cells(plan: Plan, inputs: int) -> tuple[jax.Array, dict[str, Any], dict[str, jax.Array]]:
    """Key, first weights and rate of every network: of each seed its ensemble, then the one with dropout.

    The first of the ensemble and the one with dropout start from the same weights.
    """
    places = [(plan.seed + i, member) for i in range(plan.seeds) for member in (*range(plan.members), 0)]
    draws = [
        mlp.init(np.random.default_rng((seed, 1, member)), plan.model(), inputs) for seed, member in places
    ]
    params = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *draws)
    seeds, members = np.array(places).T
    keys = jax.vmap(lambda seed, i: jax.random.fold_in(jax.random.key(seed), i))(seeds, members)
    rate = np.tile(np.array([0.0] * plan.members + [plan.rate], np.float32), plan.seeds)
    return keys, params, {"rate": jnp.asarray(rate)}


def recipe(plan: Plan) -> training.Recipe:
    """As `jaxdrop.training.sweep` wants it; the batch is all images and their labels."""

    def of_cell(hyper: dict[str, Any]) -> tuple[training.LossFn, optax.GradientTransformation]:
        model = plan.model(hyper["rate"])

        def loss_fn(params: Any, key: chex.PRNGKey, pool: tuple) -> tuple[jax.Array, tuple]:
            batch_key, noise_key = jax.random.split(key)
            rows = study.draw_batch(batch_key, BATCH, len(pool[0]))
            logits: Any = model.apply(params, pool[0][rows], deterministic=False, rngs={"dropout": noise_key})
            return optax.softmax_cross_entropy_with_integer_labels(logits, pool[1][rows]).mean(), ()

        optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, plan.steps))
        return loss_fn, optim.halt_on_nonfinite(optimizer)

    return of_cell


def train(plan: Plan, examples: data.Dataset, checkpoints: Path) -> tuple[Any, np.ndarray]:
    """Trains every network.

    Args:
      plan: What to train.
      examples: The data, of which only the development part is used.
      checkpoints: Where to save on the way.

    Returns:
      The weights, with leading axes of seeds and networks, the one with dropout last; and the training
      losses without noise on the way, `[CHUNKS, seeds, members + 1]`.
    """
    pair = training.sweep(recipe(plan))

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
    )
    shape = (plan.seeds, plan.members + 1)
    params = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(*shape, *leaf.shape[1:]), state.params)
    return params, history.reshape(CHUNKS, *shape)
