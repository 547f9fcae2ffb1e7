"""ReLU network of Srivastava et al., 2014, with dropout of inputs and hidden units, and its optimizer.

Everything here works under `vmap`, with a leading axis of runs on the parameters, the rates and the keys.
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
# Dropout rates of the inputs and of the hidden units.
Rates = tuple[chex.Numeric, chex.Numeric] | jax.Array

MOMENTUM = 0.95
FIRST_MOMENTUM = 0.5
# Share of the steps over which the momentum rises.
RISE = 0.1
# Examples evaluated at a time, to bound the memory.
CHUNK = 500


def init(rng: np.random.Generator, widths: Sequence[int]) -> Params:
    """He's normal weights, of variance 2 / inputs, and biases of 0."""
    return {
        f"layer_{i}": {
            "kernel": rng.normal(0, (2 / inputs) ** 0.5, (inputs, units)).astype(np.float32),
            "bias": np.zeros(units, np.float32),
        }
        for i, (inputs, units) in enumerate(itertools.pairwise(widths))
    }


def apply(
    params: Params, x: jax.Array, rates: Rates | None = None, key: chex.PRNGKey | None = None
) -> tuple[jax.Array, list[jax.Array]]:
    """Logits, `[..., classes]`, and the activations of each hidden layer before its dropout.

    With a key, inputs are dropped at `rates[0]` and hidden units at `rates[1]`. Without one there is no
    noise ("weight scaling": kept units were scaled up in training).
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
    """Error rate without noise, computed a few hundred examples at a time."""

    def wrong(example: tuple[jax.Array, jax.Array]) -> jax.Array:
        return apply(params, example[0])[0].argmax(-1) != example[1]

    return jnp.mean(jax.lax.map(wrong, (x, y), batch_size=min(CHUNK, len(x))))


def learning_rate(first: chex.Numeric, steps: int) -> optax.Schedule:
    """Linear decay from the first rate to 0."""
    return lambda step: first * (1 - jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1))


def momentum(steps: int) -> optax.Schedule:
    """Momentum that rises from .5 to .95 over the first tenth of the steps."""
    return optax.linear_schedule(FIRST_MOMENTUM, MOMENTUM, max(round(RISE * steps), 1))


def optimizer(first: chex.Numeric, steps: int) -> optax.GradientTransformation:
    """SGD with rising momentum and a falling learning rate.

    A step is `learning_rate` times the running mean of the gradients, as in Hinton et al., 2012. The rate
    then means the same at every momentum, and `proximal_l1` can use it. In the form of `optax.sgd` it
    would be `(1 - momentum) * learning_rate`.
    """
    mean = optax.inject_hyperparams(optax.ema, static_args=("debias",))
    slow = mean(decay=momentum(steps), debias=False)
    return optax.chain(slow, optax.scale_by_learning_rate(learning_rate(first, steps)))


def _drop(key: chex.PRNGKey | None, x: jax.Array, rates: Rates | None, which: int) -> jax.Array:
    return x if key is None or rates is None else jaxdrop.dropout(key, x, rates[which])
