"""A small network as a pure function, bound to its weights."""

import jax
import jax.numpy as jnp

import jaxdrop
from tests.normals import standard_normal

INPUTS, HIDDEN, CLASSES, BATCH = 6, 16, 3, 8


def logits(params: tuple, key: jax.Array, x: jax.Array) -> jax.Array:
    hidden, last = params
    return jaxdrop.dropout(key, jax.nn.relu(x @ hidden), 0.5) @ last


def bound(fun=logits) -> jax.tree_util.Partial:
    keys = jax.random.split(jax.random.key(11))
    hidden = jax.random.normal(keys[0], (INPUTS, HIDDEN)) / INPUTS**0.5
    return jax.tree_util.Partial(fun, (hidden, jax.random.normal(keys[1], (HIDDEN, CLASSES)) / HIDDEN**0.5))


def inputs(batch: int = BATCH) -> jax.Array:
    return standard_normal(12, (batch, INPUTS))


def labels(batch: int = BATCH) -> jax.Array:
    return jnp.arange(batch) % CLASSES
