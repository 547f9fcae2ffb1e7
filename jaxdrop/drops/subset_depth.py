"""Subset depth: computes a residual branch on a part of the batch only. Oquab et al., 2023."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Key, Rate


def subset_depth(
    key: Key, x: ArrayLike, rate: Rate, *, branch: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Adds `branch(x)` for a random part of the batch, scaled so that the mean is kept.

    Stochastic depth that saves what it drops, in time and in memory: `branch` sees
    k = max(1, floor(B * (1 - rate))) examples, chosen without replacement, and B / k times its
    result is added to theirs; the other examples stay as they are. Every example is chosen with
    probability k / B, so the mean is `x + branch(x)` exactly. At evaluation use that sum itself.
    To take examples across devices costs talk between them; inside `jax.shard_map`, with a key for
    each device, it costs none.

    Args:
      key: A PRNG key, used once.
      x: A floating-point batch, `[B, ...]`.
      rate: The share of the batch to leave out, in [0, 1). It decides a shape: a number, not
        traced.
      branch: A function of `[k, ...]` that keeps shape and dtype. It may close over parameters.

    Returns:
      An array of the shape and dtype of `x`.

    Raises:
      TypeError: If `x` is not floating-point, or `rate` is traced or an array.
      ValueError: If `rate` is outside [0, 1), the batch is empty, or `branch` changes the shape
        or dtype.

    References:
      Oquab et al., "DINOv2: learning robust visual features without supervision", 2023.

    >>> subset_depth(jax.random.key(0), jnp.ones((4, 1)), 0.5, branch=lambda x: 10 * x)[:, 0]
    Array([21., 21.,  1.,  1.], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 1, "[B, ...]")
    rate = _checks.check_static_rate(rate)
    size = x.shape[0]
    count = kept_count(size, rate, "x")
    if rate == 0:
        return x + _of_branch(branch, x)
    rows = _rows(key, size=size, count=count)
    y = _of_branch(branch, x[rows])
    added = (y.astype(_draw.widened(x.dtype)) * (size / count)).astype(x.dtype)
    return x.at[rows].add(added, indices_are_sorted=True, unique_indices=True)


def kept_count(total: int, rate: float, name: str) -> int:
    """How many of `total` things a share of `1 - rate` is: rounded down, and at least one.

    The slack is for rates that a float cannot hold: of ten, a rate of 0.7 keeps three.
    """
    if total < 1:
        raise ValueError(f"`{name}` must hold at least one thing to keep, got {total}.")
    return max(1, int(total * (1 - rate) + 1e-6))


@partial(jax.jit, static_argnames=("size", "count"))
def _rows(key: Key, *, size: int, count: int) -> jax.Array:
    """The examples that are kept, in their order."""
    return jnp.sort(_bits.order(_bits.consume(key), (size,))[:count])


def _of_branch(branch: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    y = jnp.asarray(branch(x))
    return _checks.check_same_array(y, x, "branch(x)", "x")
