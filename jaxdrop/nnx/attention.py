"""Dropout of attention: weights, keys or heads."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.attention import dot_product_attention_weights
from flax.nnx.nn.dtypes import promote_dtype

from jaxdrop import drops
from jaxdrop._modules import attention
from jaxdrop._types import ArrayLike, BlockSize, PyTree, Rate
from jaxdrop.nnx._shell import Base, Shell, Source

__all__ = ["AttentionDropout", "DropHead", "DropKey", "attention_fn"]


class AttentionDropout(attention.AttentionDropout, Shell): ...


class DropHead(attention.DropHead, Shell): ...


class DropKey(attention.DropKey, Base):
    def __call__(
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Source = None,
        mask: ArrayLike | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        return self._apply((inputs,), self._rate(rate), deterministic, rngs, mask=mask)


def attention_fn(
    regularizer: Callable[..., jax.Array] = drops.attention_dropout,
    *,
    block_size: BlockSize = None,
    **options: Any,
) -> Callable[..., jax.Array]:
    """Makes an `attention_fn` for Flax's attention that regularizes instead of Flax's dropout.

    The attention module supplies rate, key and mode: its `dropout_rate`, its stream "dropout", its
    `deterministic`. Its `broadcast_dropout` has no effect: every example and head has its own draw,
    unless the options say `broadcast_dims=(0, 1)`.

    Args:
      regularizer: `jaxdrop.drop_key`, bare or in a `functools.partial`; or a function of
        `(key, weights, rate)` that keeps the shape, such as `jaxdrop.attention_dropout` or
        `jaxdrop.gaussian_dropout`, applied after the softmax.
      block_size: Queries at a time. None: all weights are stored. A number or "auto":
        `jaxdrop.dot_product_attention` in blocks of that size, in memory linear in the length, at rate
        0 too; for `attention_dropout` and `drop_key`.
      **options: Options of the regularizer, such as `broadcast_dims` and `bits`.

    Returns:
      A function with the arguments of `flax.nnx.dot_product_attention`.

    References:
      Vaswani et al., "Attention is all you need", 2017; Li et al., "DropKey for vision
      transformer", 2023.

    Examples:
      >>> layer = nnx.MultiHeadAttention(
      ...     num_heads=2, in_features=8, dropout_rate=0.1, deterministic=False, decode=False,
      ...     attention_fn=attention_fn(drops.drop_key), rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((1, 5, 8))).shape
      (1, 5, 8)
    """
    return attention.make_attention(
        nnx.dot_product_attention, _weighted, _promoted, regularizer, block_size, options
    )


def _weighted(
    draw: Callable[[jax.Array], jax.Array],
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    dtype: Any = None,
    precision: Any = None,
    promote_dtype: Callable[..., Any] = promote_dtype,
    **rest: Any,
) -> jax.Array:
    """Flax's attention with a draw between its weights and its sum."""
    query, key, value = promote_dtype((query, key, value), dtype=dtype)
    weights = dot_product_attention_weights(query, key, precision=precision, **rest)
    # Several heads of queries may share one head of keys and values.
    shared = query.shape[-2] // value.shape[-2]
    value = value if shared == 1 else jnp.repeat(value, shared, axis=-2)
    return jnp.einsum("...hqk,...khd->...qhd", draw(weights), value, precision=precision)


def _promoted(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    dtype: PyTree = None,
    promote_dtype: Callable[..., PyTree] = promote_dtype,
    **rest: PyTree,
) -> Sequence[jax.Array]:
    return promote_dtype((query, key, value), dtype=dtype)
