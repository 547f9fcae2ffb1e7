"""Covariance of the outputs by pulling each of them back to the sources of randomness.

With J the derivatives of the outputs in the sources, of variances r, it is `J diag(r) J^T`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

# From perturbations of the sources to the mean path `[K]`, and the variances of the sources.
Path = Callable[[list[jax.Array]], tuple[jax.Array, list[jax.Array]]]


class Found(NamedTuple):
    """Moments of K outputs.

    Attributes:
      mean: The means, `[K]`.
      variance: The variances, `[K]`.
      covariance: The covariance, `[K, K]`, or None.
      shares: The parts of the variances that each group of sources makes, `[G, K]`.
    """

    mean: jax.Array
    variance: jax.Array
    covariance: jax.Array | None
    shares: jax.Array


class _Strip(NamedTuple):
    """The result for b of the outputs: shares `[G, b]`, and covariances with all `[b, K]` or None."""

    shares: jax.Array
    covariance: jax.Array | None


def moments(
    path: Path,
    shapes: Sequence[tuple[int, ...]],
    groups: Sequence[int],
    count: int,
    covariance: bool,
    block: int,
) -> Found:
    """The moments of the outputs of a mean path.

    Args:
      path: The mean path.
      shapes: The shapes of the sources.
      groups: The group of each source, from 0 on.
      count: The number of groups.
      covariance: Whether to compute covariances, or variances alone.
      block: How many outputs are pulled back at once. With covariances, K outputs in n blocks are pulled
        back n + 1 times, as each block meets each other one, unless n is 1.
    """
    zeros = [jnp.zeros(shape, jnp.float32) for shape in shapes]
    mean, pull, variances = jax.vjp(path, zeros, has_aux=True)
    # Otherwise XLA would compute the slopes and the variances anew for each output.
    pull, roots = jax.lax.optimization_barrier((pull, [jnp.sqrt(variance) for variance in variances]))

    def rows(units: jax.Array) -> list[jax.Array]:
        """The derivatives of some outputs in the sources, scaled to unit variance: `[b, n]` each."""
        (slopes,) = jax.vmap(pull)(units)
        scaled = [slope * root[None] for slope, root in zip(slopes, roots, strict=True)]
        # Otherwise XLA would reshape element by element, which is ten times slower for a pooling layer.
        return [one.reshape(len(units), -1) for one in jax.lax.optimization_barrier(scaled)]

    def strip(units: jax.Array, blocks: jax.Array) -> _Strip:
        own = rows(units)
        parts = [jnp.zeros(len(units), jnp.float32)] * count
        for group, row in zip(groups, own, strict=True):
            parts[group] = parts[group] + jnp.sum(row**2, 1)
        if not covariance:
            return _Strip(jnp.stack(parts), None)
        if len(blocks) == 1:
            return _Strip(jnp.stack(parts), _products(own, own))
        others = jax.lax.map(lambda units: _products(rows(units), own), blocks)
        return _Strip(jnp.stack(parts), others.reshape(-1, len(units)).T)

    outputs = mean.size
    padded = -(-outputs // block) * block
    blocks = jnp.eye(padded, outputs, dtype=jnp.float32).reshape(-1, block, outputs)
    if len(blocks) == 1:
        found = strip(blocks[0], blocks)
    else:
        strips = jax.lax.map(lambda units: strip(units, blocks), blocks)
        found = _Strip(*jax.tree.map(_joined, (strips.shares.swapaxes(1, 2), strips.covariance)))
        found = found._replace(shares=found.shares.T)
    shares = found.shares[:, :outputs]
    every = None if found.covariance is None else found.covariance[:outputs, :outputs]
    return Found(mean, shares.sum(0), every, shares)


def _joined(blocks: jax.Array) -> jax.Array:
    return blocks.reshape(-1, *blocks.shape[2:])


def _products(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> jax.Array:
    """The inner products of the rows of two matrices, given by parts of their columns."""
    parts = [jnp.einsum("ki,li->kl", one, two, precision="highest") for one, two in zip(a, b, strict=True)]
    return sum(parts[1:], parts[0])
