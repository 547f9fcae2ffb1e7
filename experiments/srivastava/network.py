"""The network of Srivastava et al., 2014: layers of ReLU, with dropout of the input and of the hidden units.

Written for many runs at once: everything here goes under `vmap`, with a leading axis of runs on
the parameters, the rates and the keys.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop

Params = dict[str, dict[str, Any]]

MOMENTUM = 0.95
FIRST_MOMENTUM = 0.5
# The share of the steps over which the momentum rises.
RISE = 0.1
# How many examples are evaluated at a time.
CHUNK = 500


def init(rng: np.random.Generator, widths: Sequence[int]) -> Params:
    """He's normal weights, of variance 2 / inputs, which keep the size of ReLUs; biases of 0."""
    return {
        f"layer_{i}": {
            "kernel": rng.normal(0, (2 / inputs) ** 0.5, (inputs, units)).astype(np.float32),
            "bias": np.zeros(units, np.float32),
        }
        for i, (inputs, units) in enumerate(itertools.pairwise(widths))
    }


def apply(
    params: Params, x: jax.Array, rates: Any = None, key: chex.PRNGKey | None = None
) -> tuple[jax.Array, list[jax.Array]]:
    """The logits, `[..., classes]`, and what each hidden layer gives before its dropout.

    With a key `rates[0]` of the inputs and `rates[1]` of the hidden units are dropped; without one
    it is the network of the mean weights ("weight scaling": those kept were scaled in training).
    """
    *hidden, last = (params[f"layer_{i}"] for i in range(len(params)))
    keys = [None] * len(params) if key is None else list(jax.random.split(key, len(params)))
    units = []
    x = _drop(keys[0], x, rates, 0)
    for layer, noise in zip(hidden, keys[1:], strict=True):
        units.append(jax.nn.relu(x @ layer["kernel"] + layer["bias"]))
        x = _drop(noise, units[-1], rates, 1)
    return x @ last["kernel"] + last["bias"], units


def error_rate(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """The share of wrong predictions, without noise, a few hundred examples at a time."""

    def wrong(example: tuple[jax.Array, jax.Array]) -> jax.Array:
        return apply(params, example[0])[0].argmax(-1) != example[1]

    return jnp.mean(jax.lax.map(wrong, (x, y), batch_size=min(CHUNK, len(x))))


def learning_rate(first: chex.Numeric, steps: int) -> optax.Schedule:
    """From the first rate down to 0, along a line."""
    return lambda step: first * (1 - jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1))


def momentum(steps: int) -> optax.Schedule:
    """From .5 up to .95 over the first tenth of the steps."""
    return optax.linear_schedule(FIRST_MOMENTUM, MOMENTUM, max(round(RISE * steps), 1))


def optimiser(first: chex.Numeric, steps: int) -> optax.GradientTransformation:
    """SGD with momentum that rises and a learning rate that falls.

    A step is `learning_rate` times the running mean of the gradients, `(1 - momentum) * g` each, as
    in Hinton et al., 2012: so the rate means the same at every momentum, and `proximal_l1` may
    be given it. In the form of `optax.sgd` it would be `(1 - momentum) * learning_rate`.
    """
    mean = optax.inject_hyperparams(optax.ema, static_args=("debias",))
    slow = mean(decay=momentum(steps), debias=False)
    return optax.chain(slow, optax.scale_by_learning_rate(learning_rate(first, steps)))


def _drop(key: chex.PRNGKey | None, x: jax.Array, rates: Any, which: int) -> jax.Array:
    return x if key is None else jaxdrop.dropout(key, x, rates[which])
