"""Stochastic depth on subsets: computes a residual branch on part of the batch. Oquab et al., 2023."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxdrop import _bits, _checks, _meshes
from jaxdrop._types import ArrayLike, Key, Rate
from jaxdrop.drops._subsets import kept_count

__all__ = ["subset_depth"]


def subset_depth(
    key: Key, x: ArrayLike, rate: Rate, *, branch: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Adds `branch(x)` for a random subset of the batch, scaled so that the mean is kept.

    Stochastic depth that saves the time and memory of dropped examples: `branch` sees
    k = max(1, floor(B * (1 - rate))) examples, chosen without replacement, and its result times
    B / k is added to them; the other examples are unchanged. Every example is chosen with
    probability k / B, so the mean is exactly `x + branch(x)`. Use that sum at evaluation. Gathering
    examples across devices needs communication; inside `jax.shard_map`, with one key per device,
    it needs none.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch, `[B, ...]`.
      rate: Fraction of the batch to skip, in [0, 1). It decides a shape: a number, not traced.
      branch: Function of `[k, ...]` that keeps shape and dtype. It may close over parameters.

    Returns:
      Array of the shape and dtype of `x`.

    Raises:
      TypeError: If `x` is not floating-point, or `rate` is traced or an array.
      ValueError: If `rate` is outside [0, 1), the batch is empty, or `branch` changes the shape
        or dtype.

    References:
      Oquab et al., "DINOv2: learning robust visual features without supervision", 2023.

    Examples:
      >>> subset_depth(jax.random.key(0), jnp.ones((4, 1)), 0.5, branch=lambda x: 10 * x)[:, 0]
      Array([21., 21.,  1.,  1.], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 1, "[B, ...]")
    rate = _checks.check_static_rate(rate)
    size = x.shape[0]
    count = kept_count(size, rate, "x")
    if rate == 0:
        return x + _of_branch(branch, x)
    rows = _rows(_checks.check_key(key), size=size, count=count)
    batch, *others = _meshes.partition(x) or (None,)
    fits = batch is None or count % _meshes.shards(batch, x) == 0
    chosen = PartitionSpec(batch if fits else None, *others)
    y = _of_branch(branch, _meshes.on_automatic_axes(lambda x, rows: x[rows], x, rows, out=chosen))
    added = (y.astype(_checks.widened(x.dtype)) * (size / count)).astype(x.dtype)
    return _meshes.on_automatic_axes(_add, x, rows, added, out=_meshes.partition(x))


@partial(jax.jit, static_argnames=("size", "count"))
def _rows(key: Key, *, size: int, count: int) -> jax.Array:
    """The indices of the kept examples, in ascending order."""
    return jnp.sort(_bits.order(_bits.consume(key), (size,))[:count])


def _add(x: jax.Array, rows: jax.Array, added: jax.Array) -> jax.Array:
    return x.at[rows].add(added, indices_are_sorted=True, unique_indices=True)


def _of_branch(branch: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    y = jnp.asarray(branch(x))
    return _checks.check_same_array(y, x, "branch(x)", "x")
