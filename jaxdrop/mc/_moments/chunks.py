"""How many examples and outputs are analyzed at once.

An example takes about `4 * (K + 6) * S + 4 * R * N` bytes: the derivatives of K outputs in S random numbers,
the arrays of the forward pass and, of a program with attention, N numbers of its arrays along R directions.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop._types import PyTree

# Bytes of a chunk. Larger ones leave a CPU's cache; smaller ones have many small steps.
_CHUNK_BYTES = 24 * 2**20
# The forward pass takes as many bytes as the derivatives of so many outputs.
_FORWARD = 6
# Above so many bytes of derivatives per example, outputs are pulled back in blocks, and repeatedly.
_MOST_BYTES = 2**30


class Plan(NamedTuple):
    """How many examples, and how many outputs of each, are pulled back at once."""

    examples: int
    outputs: int


def plan(
    batch: int,
    outputs: int,
    numbers: int,
    covariance: bool,
    chunk_size: int | None = None,
    surveyed: int = 0,
) -> Plan:
    """Chooses the sizes of chunks.

    Args:
      batch: How many examples there are.
      outputs: How many outputs each has.
      numbers: How many random numbers they depend on.
      covariance: Whether all derivatives are needed at once.
      chunk_size: How many examples to take at once; None to choose.
      surveyed: How many numbers the deviations along directions have.
    """
    row = 4 * max(numbers, 1)
    if not covariance:
        block = _even(outputs, _CHUNK_BYTES // row - _FORWARD)
    elif outputs * row <= _MOST_BYTES:
        block = outputs
    else:  # two blocks meet for their covariances
        block = _even(outputs, _MOST_BYTES // 2 // row)
    return Plan(_even(batch, chunk_size or _CHUNK_BYTES // ((block + _FORWARD) * row + 4 * surveyed)), block)


def mapped(fun: Callable[[PyTree], PyTree], x: PyTree, size: int) -> PyTree:
    """The results of a function of one example for each example of a batch, `size` at a time."""
    batch = jax.tree.leaves(x)[0].shape[0]
    if size >= batch:
        return jax.vmap(fun)(x)
    count = -(-batch // size)

    def divided(leaf: jax.Array) -> jax.Array:
        last = jnp.broadcast_to(leaf[-1:], (size * count - batch, *leaf.shape[1:]))
        return jnp.concatenate([leaf, last]).reshape(size, count, *leaf.shape[1:]).swapaxes(0, 1)

    # Neighbors are in different chunks: where a batch is sharded, so is each chunk.
    found = jax.lax.map(jax.vmap(fun), jax.tree.map(divided, x))
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:])[:batch], found)


def _even(count: int, most: int) -> int:
    """The least size of the fewest parts of at most `most`."""
    parts = -(-count // max(most, 1))
    return -(-count // parts)
