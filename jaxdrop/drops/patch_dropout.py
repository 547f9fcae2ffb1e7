"""PatchDropout: keeps a random subset of the tokens of a sequence. Liu et al., 2022."""

from functools import partial
from typing import Literal, overload

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike, Key, Rate
from jaxdrop.drops._subsets import kept_count

__all__ = ["patch_dropout"]


@overload
def patch_dropout(
    key: Key, x: ArrayLike, rate: Rate, *, prefix_tokens: int = 0, return_indices: Literal[False] = False
) -> jax.Array: ...
@overload
def patch_dropout(
    key: Key, x: ArrayLike, rate: Rate, *, prefix_tokens: int = 0, return_indices: Literal[True]
) -> tuple[jax.Array, jax.Array]: ...
@overload
def patch_dropout(
    key: Key, x: ArrayLike, rate: Rate, *, prefix_tokens: int = 0, return_indices: bool
) -> jax.Array | tuple[jax.Array, jax.Array]: ...
def patch_dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    prefix_tokens: int = 0,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Keeps a random subset of the tokens of each example, in their order, and the whole prefix.

    Of n = L - prefix_tokens tokens, k = max(1, floor(n * (1 - rate))) are kept, uniformly at random
    and independently per example. Later layers see shorter sequences. Nothing is scaled. Add
    position embeddings before. Rate 0 is the identity.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch of tokens, `[B, L, ...]`.
      rate: Fraction of tokens to drop, in [0, 1). It decides a shape: a number, not traced.
      prefix_tokens: Number of leading tokens, such as a class token, that are always kept.
      return_indices: Whether to return the positions of the kept tokens too.

    Returns:
      Kept tokens, `[B, prefix_tokens + k, ...]`, in the dtype of `x`; with `return_indices` also
      their positions along axis 1, int32 `[B, prefix_tokens + k]`, ascending.

    Raises:
      TypeError: If `x` is not floating-point, or `rate` is traced or an array.
      ValueError: If `rate` is outside [0, 1), or `prefix_tokens` leaves no token.

    References:
      Liu et al., "PatchDropout: economizing vision transformers using patch dropout", 2022.

    Examples:
      >>> x = jnp.arange(12.0).reshape(2, 6, 1)
      >>> patch_dropout(jax.random.key(0), x, 0.5, prefix_tokens=1)[..., 0]
      Array([[ 0.,  1.,  2.],
             [ 6., 10., 11.]], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 2, "[B, L, ...]")
    rate = _checks.check_static_rate(rate)
    size, length = x.shape[:2]
    prefix_tokens = _checks.check_integer(prefix_tokens, "prefix_tokens")
    if not 0 <= prefix_tokens < length:
        raise ValueError(f"`prefix_tokens` must lie in [0, {length - 1}], got {prefix_tokens}.")
    if rate == 0:
        places = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (size, length))
        return (x, places) if return_indices else x
    count = kept_count(length - prefix_tokens, rate, "x")
    places = _places(_checks.check_key(key), shape=(size, length), count=count, prefix_tokens=prefix_tokens)
    y = jnp.take_along_axis(x, places.reshape(places.shape + (1,) * (x.ndim - 2)), axis=1)
    return (y, places) if return_indices else y


@partial(jax.jit, static_argnames=("shape", "count", "prefix_tokens"))
def _places(key: Key, *, shape: tuple[int, int], count: int, prefix_tokens: int) -> jax.Array:
    """The kept positions in ascending order: the prefix, and `count` of the others."""
    size, length = shape
    order = _bits.order(_bits.consume(key), (size, length - prefix_tokens))
    kept = jnp.sort(order[:, :count], axis=1) + prefix_tokens
    prefix = jnp.broadcast_to(jnp.arange(prefix_tokens, dtype=jnp.int32), (size, prefix_tokens))
    return jnp.concatenate([prefix, kept], axis=1)
