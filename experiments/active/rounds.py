"""Rounds of training from scratch and choosing: all methods and seeds in one compiled program."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli, data, parts
from experiments.active import acquire, network
from experiments.variants import study
from jaxdrop import linen, mc, training

BATCH = 32
LEARNING_RATE = 2e-3
CLASSES = 10
# How many test images are looked at at a time.
AT_ONCE = 500


class Plan(NamedTuple):
    """What is run; what is kept of it on the way is its own.

    Attributes:
      dataset: One of `experiments.data.NAMES`.
      seed: The first seed.
      seeds: How many there are; each has its own pool, first labels, weights and noise.
      kernels: Of each convolution.
      units: The width of the hidden dense layer.
      rates: The dropout rates before it and after it.
      steps: How many each network is trained for.
      pool: How many images may be labelled, drawn from the development part; at least twice what is.
      first: How many labels of each class there are at first.
      num: How many images are labelled after each round.
      rounds: How often that is done.
      samples: How many functions are sampled to choose by.
    """

    dataset: str
    seed: int
    seeds: int
    kernels: tuple[int, ...] = (8, 32)
    units: int = 128
    rates: tuple[float, float] = (0.25, 0.5)
    steps: int = 200
    pool: int = 4000
    first: int = 2
    num: int = 10
    rounds: int = 20
    samples: int = 32

    def model(self) -> network.ConvNet:
        """The network."""
        return network.ConvNet(self.kernels, self.units, CLASSES, self.rates)

    def labels(self, after: int) -> int:
        """How many labels there are after so many choices."""
        return CLASSES * self.first + self.num * after


class Pool(NamedTuple):
    """The images of each seed that may be labelled, and the labels there are.

    Attributes:
      x: Images, `[seeds, pool, D]`.
      y: All labels, `[seeds, pool]`; of those not asked for nobody knows.
      first: The places of the images labelled at first, `[seeds, first]`.
    """

    x: Any
    y: Any
    first: Any


def make_pool(plan: Plan, examples: data.Dataset) -> Pool:
    """Draws the pool of each seed, and of each class of it the first labels."""
    drawn = []
    for i in range(plan.seeds):
        rng = np.random.default_rng((plan.seed + i, 3))
        rows = rng.permutation(len(examples.x))[: plan.pool]
        y = examples.y[rows]
        few = [label for label in range(CLASSES) if (y == label).sum() < plan.first]
        if few:
            raise cli.BadInputError(
                f"The pool must hold {plan.first} images of each class, got fewer of {few}."
            )
        first = np.concatenate([np.flatnonzero(y == label)[: plan.first] for label in range(CLASSES)])
        drawn.append((examples.x[rows], y, first))
    return Pool(*map(np.stack, zip(*drawn, strict=True)))


def fit(plan: Plan, key: chex.PRNGKey, params: Any, x: jax.Array, y: jax.Array, rows: tuple) -> Any:
    """Trains one network from its first weights on the rows that have labels.

    Args:
      plan: What to train.
      key: A key.
      params: The first weights.
      x: The pool, `[pool, D]`.
      y: Its labels, `[pool]`.
      rows: The places of those with labels, `[most]`, and how many of them there are.

    Returns:
      The weights.
    """
    model, (places, count) = plan.model(), rows

    def loss_fn(params: Any, key: chex.PRNGKey, _: None) -> tuple[jax.Array, tuple]:
        batch_key, noise_key = jax.random.split(key)
        chosen = places[study.draw_batch(batch_key, BATCH, count)]
        logits: Any = model.apply(params, x[chosen], deterministic=False, rngs={"dropout": noise_key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[chosen]).mean(), ()

    pair = training.trainer(loss_fn, optax.adam(LEARNING_RATE))
    state = pair.init(key, params)
    state, _ = jax.lax.scan(lambda s, _: (pair.step(s, None)[0], None), state, length=plan.steps)
    return state.params


@functools.partial(jax.jit, static_argnames="plan")
def learn(plan: Plan, keys: chex.PRNGKey, params: Any, pool: Pool, rows: tuple, test: tuple) -> tuple:
    """One round of one method and all seeds.

    Args:
      plan: What to train.
      keys: A key for each seed.
      params: The first weights, with a leading axis of seeds.
      pool: The images of each seed.
      rows: The places of those with labels, `[seeds, most]`, and how many of them there are.
      test: Images and labels of the test part.

    Returns:
      The errors on the test part with weight scaling, `[seeds]`, and the probabilities of the pool by
      `plan.samples` functions, `[seeds, samples, pool, K]`.
    """
    model = plan.model()

    def of_seed(run: tuple) -> tuple:
        key, params, x, y, places = run
        fit_key, sample_key = jax.random.split(key)
        params = fit(plan, fit_key, params, x, y, (places, rows[1]))
        found = jax.lax.map(lambda image: model.apply(params, image[None])[0], test[0], batch_size=AT_ONCE)
        # BatchBALD asks for samples that are functions of the whole pool; the others do not mind.
        predict = linen.stochastic(model, params, x)
        sampled = mc.sample(predict, sample_key, x, num_samples=plan.samples, shared=True)
        return jnp.mean(found.argmax(-1) != test[1]), jax.nn.softmax(sampled)

    return jax.lax.map(of_seed, (keys, params, pool.x, pool.y, rows[0]))


@functools.partial(jax.jit, static_argnames=("method", "num"))
def choose(method: str, keys: chex.PRNGKey, probs: jax.Array, rows: tuple, num: int) -> jax.Array:
    """The places with those of so many more images, of each seed, put where the next labels go."""

    def of_seed(key: chex.PRNGKey, probs: jax.Array, places: jax.Array) -> jax.Array:
        labelled = jnp.where(jnp.arange(len(places)) < rows[1], places, probs.shape[1])
        free = jnp.ones(probs.shape[1], bool).at[labelled].set(False, mode="drop")
        chosen = acquire.METHODS[method](key, probs, free, num)
        return jax.lax.dynamic_update_slice(places, chosen.astype(places.dtype), (rows[1],))

    return jax.vmap(of_seed)(keys, probs, rows[0])


def run(plan: Plan, examples: data.Dataset, pool: Pool, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Every method, round by round; what a round gives is kept.

    Returns:
      For each method, "errors" `[rounds + 1, seeds]` on the test part, and "places" `[seeds, labels]` of the
      images that were labelled, in their order.
    """
    seeds = plan.seed + np.arange(plan.seeds)
    first = jax.jit(jax.vmap(lambda seed: plan.model().init(jax.random.key(seed), pool.x[0, :1])))
    params = first(seeds)
    given = jax.tree.map(jnp.asarray, (pool, (examples.x_test, examples.y_test)))
    of_round = jax.jit(jax.vmap(lambda seed, i: jax.random.fold_in(jax.random.key(seed), i), (0, None)))
    found = {}
    bar, task = cli.progress("rounds of all methods", len(acquire.METHODS) * (plan.rounds + 1))
    with bar:
        for method in acquire.METHODS:
            places = np.zeros((plan.seeds, plan.labels(plan.rounds)), np.int32)
            places[:, : plan.labels(0)] = pool.first
            errors = []
            for i in range(plan.rounds + 1):
                keys = of_round(seeds, i)

                def compute(i: int = i, method: str = method, places: Any = places, keys: Any = keys) -> dict:
                    rows = (jnp.asarray(places), plan.labels(i))
                    error, probs = learn(plan, keys, params, given[0], rows, given[1])
                    if i == plan.rounds:
                        return {"errors": error, "places": places}
                    return {"errors": error, "places": choose(method, keys, probs, rows, plan.num)}

                kept = parts.kept(folder, f"{method.replace(' ', '-')}-{i}", compute)
                errors.append(kept["errors"])
                places = kept["places"]
                bar.advance(task)
            found[method] = {"errors": np.stack(errors).astype(np.float64), "places": places}
    return found
