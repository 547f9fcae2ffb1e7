"""Rounds of active learning: train from scratch, choose images, label them; all seeds in one program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from experiments import batches, cli, conv_net, data, logs, loop, parts
from experiments.active import acquire
from jaxdrop import linen, mc, training

BATCH = 32
LEARNING_RATE = 2e-3
CLASSES = 10
# Test images evaluated at a time, to bound the memory.
AT_ONCE = 500


Array = np.ndarray | jax.Array
# Places of the labeled images, `[seeds, most]`, and how many of them are labeled.
Labeled = tuple[jax.Array, chex.Numeric]


class Plan(NamedTuple):
    """Configuration of a run.

    Attributes:
      dataset: One of `experiments.data.NAMES`.
      seed: The first seed.
      seeds: The number of seeds; each has its own pool, first labels, weights and noise.
      kernels: The number of kernels of each convolution.
      units: The width of the hidden dense layer.
      rates: The dropout rates before and after it.
      steps: The training steps of each network.
      pool: The size of the pool, drawn from the development part; at least twice the labels in the end.
      first: The initial labels per class.
      num: The images labeled per round.
      rounds: The number of rounds.
      samples: The Monte-Carlo samples to choose by.
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

    def model(self) -> conv_net.ConvNet:
        """Network of the plan."""
        return conv_net.ConvNet(self.kernels, self.units, CLASSES, self.rates)

    def labels(self, after: int) -> int:
        """Number of labels after a number of choices."""
        return CLASSES * self.first + self.num * after


class Pool(NamedTuple):
    """Pool of each seed and its initial labels.

    Attributes:
      x: Images, `[seeds, pool, D]`.
      y: All labels, `[seeds, pool]`; methods see only those they asked for.
      first: Places of the images labeled initially, `[seeds, first]`.
    """

    x: Array
    y: Array
    first: Array


def make_pool(plan: Plan, examples: data.Dataset) -> Pool:
    """Draws the pool of each seed and its initial labels, as many of each class."""
    cli.check_count("development images", len(examples.x), plan.pool)
    drawn = []
    for i in range(plan.seeds):
        rng = np.random.default_rng((plan.seed + i, 3))
        rows = rng.permutation(len(examples.x))[: plan.pool]
        y = examples.y[rows]
        few = [label for label in range(CLASSES) if (y == label).sum() < plan.first]
        if few:
            raise cli.BadInputError(
                f"`pool` must hold at least {plan.first} images of each class, got fewer of {few}."
            )
        first = np.concatenate([np.flatnonzero(y == label)[: plan.first] for label in range(CLASSES)])
        drawn.append((examples.x[rows], y, first))
    return Pool(*map(np.stack, zip(*drawn, strict=True)))


def fit(plan: Plan, key: chex.PRNGKey, params: Any, x: jax.Array, y: jax.Array, rows: Labeled) -> Any:
    """Trains one network on the labeled images of its pool.

    Args:
      plan: The configuration.
      key: A PRNG key.
      params: The first weights.
      x: The pool, `[pool, D]`.
      y: Its labels, `[pool]`.
      rows: The places of the labeled images, `[most]`, and their number.

    Returns:
      The weights.
    """
    model, (places, count) = plan.model(), rows

    def apply(params: Any, x: jax.Array, key: chex.PRNGKey) -> Any:
        return model.apply(params, x, deterministic=False, rngs={"dropout": key})

    loss_fn = batches.cross_entropy(apply, lambda key: places[batches.draw_batch(key, BATCH, count)])
    pair = training.trainer(loss_fn, optax.adam(LEARNING_RATE))
    state = pair.init(key, params)
    state, _ = jax.lax.scan(lambda s, _: (pair.step(s, (x, y))[0], None), state, length=plan.steps)
    return state.params


@functools.partial(jax.jit, static_argnames="plan")
def learn(plan: Plan, keys: chex.PRNGKey, params: Any, pool: Pool, rows: Labeled, test: tuple) -> tuple:
    """Trains and samples the networks of all seeds, for one round of one method.

    Args:
      plan: The configuration.
      keys: The key of each seed.
      params: The first weights, with a leading axis of seeds.
      pool: The pool of each seed.
      rows: The places of the labeled images, `[seeds, most]`, and their number.
      test: Images and labels of the test part.

    Returns:
      Test errors with weight scaling, `[seeds]`, and sampled probabilities of the pool, `[seeds, samples,
      pool, K]`.
    """
    model = plan.model()

    def of_seed(run: tuple) -> tuple:
        key, params, x, y, places = run
        fit_key, sample_key = jax.random.split(key)
        params = fit(plan, fit_key, params, x, y, (places, rows[1]))
        found = jax.lax.map(lambda image: model.apply(params, image[None])[0], test[0], batch_size=AT_ONCE)
        # BatchBALD needs each sample to be one function of the whole pool.
        predict = linen.stochastic(model, params, x, deterministic=False)
        sampled = mc.sample(predict, sample_key, x, num_samples=plan.samples, shared=True)
        return jnp.mean(found.argmax(-1) != test[1]), jax.nn.softmax(sampled)

    return jax.lax.map(of_seed, (keys, params, pool.x, pool.y, rows[0]))


@functools.partial(jax.jit, static_argnames=("method", "num"))
def choose(method: str, keys: chex.PRNGKey, probs: jax.Array, rows: Labeled, num: int) -> jax.Array:
    """Adds the places of `num` more images to those labeled, for each seed."""

    def of_seed(key: chex.PRNGKey, probs: jax.Array, places: jax.Array) -> jax.Array:
        labeled = jnp.where(jnp.arange(len(places)) < rows[1], places, probs.shape[1])
        free = jnp.ones(probs.shape[1], bool).at[labeled].set(False, mode="drop")
        chosen = acquire.METHODS[method](key, probs, free, num)
        return jax.lax.dynamic_update_slice(places, chosen.astype(places.dtype), (rows[1],))

    return jax.vmap(of_seed)(keys, probs, rows[0])


def run(
    plan: Plan, examples: data.Dataset, pool: Pool, folder: epath.Path, setup: loop.Setup = loop.ALONE
) -> dict[str, dict[str, np.ndarray]]:
    """Runs every method, round by round, and caches each round; live curves are over the number of labels.

    Returns:
      For each method test "errors", `[rounds + 1, seeds]`, and "places" of the labeled images in order,
      `[seeds, labels]`.
    """
    seeds = plan.seed + np.arange(plan.seeds)
    first = jax.jit(jax.vmap(lambda seed: plan.model().init(jax.random.key(seed), pool.x[0, :1])))
    params = first(seeds)
    given = jax.tree.map(jnp.asarray, (pool, (examples.x_test, examples.y_test)))
    of_round = jax.jit(jax.vmap(lambda seed, i: jax.random.fold_in(jax.random.key(seed), i), (0, None)))
    bar, task = cli.progress("rounds of all methods", len(acquire.METHODS) * (plan.rounds + 1))

    def of_method(method: str, name: str, log: Callable[[int, logs.Curves], None]) -> dict[str, np.ndarray]:
        places = np.zeros((plan.seeds, plan.labels(plan.rounds)), np.int32)
        places[:, : plan.labels(0)] = pool.first
        errors = []
        for i in range(plan.rounds + 1):
            keys = of_round(seeds, i)

            def compute(i: int = i, places: Any = places, keys: Any = keys) -> dict:
                rows = (jnp.asarray(places), plan.labels(i))
                error, probs = learn(plan, keys, params, given[0], rows, given[1])
                if i == plan.rounds:
                    return {"errors": error, "places": places}
                return {"errors": error, "places": choose(method, keys, probs, rows, plan.num)}

            kept = parts.kept(folder, f"{name}-{i}", compute)
            errors.append(kept["errors"])
            log(plan.labels(i), {f"test/{method}": kept["errors"]})
            places = kept["places"]
            bar.advance(task)
        return {"errors": np.stack(errors).astype(np.float64), "places": places}

    found = {}
    with bar:
        for method in acquire.METHODS:
            name = method.replace(" ", "-")
            with logs.writer(setup.log_folder(folder / name)) as log:
                found[method] = of_method(method, name, log)
    return found
