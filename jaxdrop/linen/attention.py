"""Dropout of attention: weights, keys or heads."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxdrop import drops
from jaxdrop._modules import attention
from jaxdrop._types import ArrayLike, BlockSize, Key, PyTree, Rate
from jaxdrop.linen._shell import Shell, Stochastic

__all__ = ["AttentionDropout", "DropHead", "DropKey", "attention_fn"]


class AttentionDropout(attention.AttentionDropout, Shell): ...


class DropHead(attention.DropHead, Shell): ...


class DropKey(attention.DropKey, Stochastic):
    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        mask: ArrayLike | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        return self._apply((inputs,), self._rate(rate), deterministic, rng, mask=mask)


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
      A function with the arguments of `flax.linen.dot_product_attention`.

    References:
      Vaswani et al., "Attention is all you need", 2017; Li et al., "DropKey for vision
      transformer", 2023.

    Examples:
      >>> layer = nn.MultiHeadDotProductAttention(
      ...     num_heads=2, dropout_rate=0.1, deterministic=False, attention_fn=attention_fn(drops.drop_key))
      >>> x = jnp.ones((1, 5, 8))
      >>> y, variables = layer.init_with_output(jax.random.key(0), x)
      >>> y.shape
      (1, 5, 8)
    """
    return attention.make_attention(
        nn.dot_product_attention, _weighted, _promoted, regularizer, block_size, options
    )


def _weighted(
    draw: Callable[[jax.Array], jax.Array],
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    dtype: Any = None,
    precision: Any = None,
    einsum_dot_general: Callable[..., jax.Array] | None = None,
    qk_attn_weights_einsum: Callable[..., jax.Array] | None = None,
    attn_weights_value_einsum: Callable[..., jax.Array] | None = None,
    **rest: Any,
) -> jax.Array:
    """Flax's attention with a draw between its weights and its sum."""
    query, key, value = promote_dtype(query, key, value, dtype=dtype)
    ways = {
        "precision": precision,
        "einsum_dot_general": einsum_dot_general,
        "einsum": qk_attn_weights_einsum,
    }
    weights = nn.dot_product_attention_weights(query, key, **ways, **rest)
    product = attn_weights_value_einsum or functools.partial(
        jnp.einsum, precision=precision, _dot_general=einsum_dot_general or jax.lax.dot_general
    )
    return product("...hqk,...khd->...qhd", draw(weights), value)


def _promoted(
    query: jax.Array, key: jax.Array, value: jax.Array, *, dtype: PyTree = None, **rest: PyTree
) -> Sequence[jax.Array]:
    return promote_dtype(query, key, value, dtype=dtype)
