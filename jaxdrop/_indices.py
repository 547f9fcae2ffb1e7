"""Indices of the elements of an array, in uint32: what a draw depends on beside its key."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LIMIT = 2**32
_U32 = np.uint32


def coordinates(shape: tuple[int, ...]) -> list[jax.Array]:
    """The index along each axis, per element."""
    return [lax.broadcasted_iota(_U32, shape, axis) for axis in range(len(shape))]


def row_major(coordinates: Sequence[jax.Array], sizes: Sequence[int]) -> jax.Array:
    """The row-major index of coordinates in axes of these sizes, modulo 2**32."""
    index, stride = jnp.zeros((), _U32), 1
    for coordinate, size in zip(reversed(coordinates), reversed(sizes), strict=True):
        # A symbolic size, as in an exported function, is known only when called.
        known = isinstance(stride, int)
        index = index + coordinate * (_U32(stride % LIMIT) if known else jnp.asarray(stride).astype(_U32))
        stride *= size
    return index


def row_and_place(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The row index and the place along the last axis, per element."""
    known = all(isinstance(size, int) for size in shape)
    if known and (math.prod(shape[:-1]) > LIMIT or shape[-1] > LIMIT):
        raise ValueError(f"`shape` must have at most 2**32 rows of at most 2**32 elements, got {shape}.")
    *leading, place = coordinates(shape)
    return row_major(leading, shape[:-1]), place


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without its axes of size one; a scalar counts as one element."""
    return tuple(size for size in shape if size != 1) or (1,)
