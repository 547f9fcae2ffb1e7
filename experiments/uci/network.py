"""Hidden layers of ReLUs with dropout before every layer, trained for a whole grid and all splits at once.

Every array has a leading axis of splits; arrays that differ within the grid have axes [S, R, T] of splits,
rates and precisions. The runs of a split share first weights, batches and random bits, each with its own
rate. They do not influence each other: the loss is a sum over the runs, and Adam works per element. Sharing
makes the comparison fair, and the bits are drawn once.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop
from experiments import splits
from jaxdrop import penalties
from jaxdrop.training import Trainer, TrainState

BATCH = 128
LENGTHSCALE = 1e-2
# Keras's default, as in the original.
LEARNING_RATE = 1e-3
# Training rows that the curves are computed on.
PROBE = 512
# Kernel and bias of each layer, the output last.
Params = tuple[dict[str, Any], ...]
Key = chex.PRNGKey


class Hyper(NamedTuple):
    """Hyperparameters of the grid.

    Attributes:
      rate: The dropout rate, `[S, R]`.
      strength: The strength of the L2 penalty, `[S, R, T]`.
    """

    rate: jax.Array
    strength: jax.Array


def init(rng: np.random.Generator, inputs: int, hidden: int, layers: int = 1) -> Params:
    """First weights of a network of `layers` hidden layers of `hidden` units and one output.

    Glorot's uniform weights, of variance 2 / (inputs + outputs), and biases of 0: Keras's defaults.
    """

    def layer(fan_in: int, fan_out: int) -> dict[str, np.ndarray]:
        limit = np.sqrt(6 / (fan_in + fan_out))
        kernel = rng.uniform(-limit, limit, (fan_in, fan_out)).astype(np.float32)
        return {"kernel": kernel, "bias": np.zeros(fan_out, np.float32)}

    return tuple(map(layer, (inputs, *layers * [hidden]), (*layers * [hidden], 1)))


def apply(params: Params, x: splits.Array, rate: chex.Numeric = 0.0, key: Key | None = None) -> jax.Array:
    """Outputs `[B]` of inputs `[B, D]`; without a key, without noise.

    Inside, examples are along the last axis. Masks and sums then run over full vectors, and XLA's CPU
    backend is fastest at these products (8 ms per step against 12, without masks).
    """
    keys = [None] * len(params) if key is None else list(jax.random.split(key, len(params)))
    h = x.T
    for layer, own in zip(params[:-1], keys, strict=False):
        h = jax.nn.relu(layer["kernel"].T @ _drop(own, h, rate) + layer["bias"][:, None])
    h = _drop(keys[-1], h, rate)
    return (params[-1]["kernel"].T @ h)[0] + params[-1]["bias"][0]


def strength(rate: splits.Array, tau: splits.Array, count: splits.Array) -> splits.Array:
    """Strength of the L2 penalty for model precision `tau` and `count` training rows."""
    return LENGTHSCALE**2 * (1 - rate) / (2 * count * tau)


def hyper(rates: np.ndarray, taus: np.ndarray, count: splits.Array) -> Hyper:
    """Grid of rates `[S, R]` and precisions `[S, T]`, for `count` rows, `[S]`."""
    of = strength(rates[:, :, None], taus[:, None, :], count[:, None, None])
    return Hyper(jnp.asarray(rates, jnp.float32), jnp.asarray(of, jnp.float32))


def trainer(hidden: int, layers: int = 1) -> Trainer:
    """Init/step pair of networks of `layers` hidden layers of `hidden` units; a step is an epoch.

    `init(keys, seeds, hyper, inputs)`: keys have a leading axis of splits; `seeds` seed the first weights of
    each. The loss of a step is the training errors after it.
    """
    optimizer = optax.adam(LEARNING_RATE)

    def start(keys: chex.PRNGKey, seeds: list[tuple[int, ...]], cells: Hyper, inputs: int) -> TrainState:
        own = [init(np.random.default_rng(seed), inputs, hidden, layers) for seed in seeds]
        grid = cells.strength.shape[1:]

        def spread(*leaves: np.ndarray) -> jax.Array:
            stacked = np.stack(leaves)
            shape = (len(seeds), *grid, *stacked.shape[1:])
            return jnp.asarray(np.broadcast_to(stacked[:, None, None], shape))

        params = jax.tree.map(spread, *own)
        steps = jnp.zeros(len(seeds), jnp.int32)
        return TrainState(steps, keys, params, jax.vmap(optimizer.init)(params), cells)

    def step(state: TrainState, part: splits.Part) -> tuple[TrainState, tuple[jax.Array, tuple]]:
        state = jax.vmap(lambda *of: _epoch(optimizer, *of))(state, part.x, part.y, part.size)
        return state, (training_error(state, part), ())

    return Trainer(start, step)


def training_error(state: TrainState, part: splits.Part) -> jax.Array:
    """Mean squared error without noise on the first training rows, `[S, R, T]`; the mean scores 1."""
    rows = min(PROBE, int(part.x.shape[1]) - 1)
    across = jax.vmap(jax.vmap(apply, (0, None)), (0, None))
    outputs = jax.vmap(across)(state.params, part.x[:, :rows])
    return jnp.mean((outputs - part.y[:, None, None, :rows]) ** 2, -1)


def order(key: chex.PRNGKey, size: int, count: jax.Array) -> jax.Array:
    """Shuffles the first `count` of `size` rows; the others follow."""
    place = jnp.where(jnp.arange(size) < count, jax.random.uniform(key, (size,)), 2.0)
    return jnp.argsort(place)


def _epoch(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    x: jax.Array,
    y: jax.Array,
    count: jax.Array,
) -> TrainState:
    """Epoch of one split: shuffled rows in batches of 128; the last batch may be smaller."""
    order_key, noise_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    rows = order(order_key, len(x), count)

    def update(carry: tuple, batch: tuple) -> tuple[tuple, None]:
        index, chosen = batch
        inside = index * BATCH + jnp.arange(len(chosen)) < count
        weights = inside / jnp.maximum(inside.sum(), 1)
        noise = jax.random.fold_in(noise_key, index)
        grads = jax.grad(_loss)(carry[0], noise, x[chosen], y[chosen], weights, state.hyper)
        updates, opt_state = optimizer.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), opt_state), None

    full = len(x) // BATCH
    carry = (state.params, state.opt_state)
    if full:
        batches = rows[: full * BATCH].reshape(full, BATCH)
        carry, _ = jax.lax.scan(update, carry, (jnp.arange(full), batches))
    if len(x) % BATCH:
        after, _ = update(carry, (full, rows[full * BATCH :]))
        # A split with one row less than another may have no rows left; then it skips this batch.
        carry = jax.tree.map(lambda new, old: jnp.where(full * BATCH < count, new, old), after, carry)
    return state._replace(step=state.step + 1, params=carry[0], opt_state=carry[1])


def _loss(
    params: Params, key: chex.PRNGKey, x: jax.Array, y: jax.Array, weights: jax.Array, cells: Hyper
) -> jax.Array:
    """Sum of the losses of a split's runs; each gets its own gradient."""

    def of_cell(own: Params, rate: jax.Array, penalty: jax.Array) -> jax.Array:
        errors = (apply(own, x, rate, key) - y) ** 2
        return jnp.sum(weights * errors) + penalties.l2(own, penalty)

    across_taus = jax.vmap(of_cell, (0, None, 0))
    return jax.vmap(across_taus)(params, cells.rate, cells.strength).sum()


def _drop(key: Key | None, x: splits.Array, rate: chex.Numeric) -> splits.Array:
    return x if key is None else jaxdrop.dropout(key, x, rate)
