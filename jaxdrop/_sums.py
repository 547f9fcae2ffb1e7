"""Sums of penalties."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp


def total(sizes: Iterable[jax.Array]) -> jax.Array:
    """The sum of scalars; 0 of none."""
    return functools.reduce(jnp.add, sizes) if (sizes := list(sizes)) else jnp.zeros((), jnp.float32)


def absolute(w: jax.Array) -> jax.Array:
    """`sum(|w|)` with gradient 0 at 0; that of `jnp.abs` is 1 there and would move zeros."""
    return jnp.sum(w * jax.lax.stop_gradient(jnp.sign(w)))


def squares(w: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(w))
