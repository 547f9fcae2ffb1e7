"""Regularizers of attention, and their place in Flax's own attention modules."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.attention import dot_product_attention_weights
from flax.nnx.nn.dtypes import promote_dtype

from jaxdrop import _checks, drops
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.nnx._shell import Rngs, Shell


class AttentionDropout(Shell):
    """`jaxdrop.attention_dropout` as a module, on weights after the softmax.

    Args:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      broadcast_dims: Axes along which one decision is shared.
      bits: Random bits a weight: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    broadcast_dims: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.attention_dropout)


class DropKey(Shell):
    """`jaxdrop.drop_key` as a module, on logits before the softmax; called with a mask, if there is one.

    Where deterministic only what the mask hides is hidden.

    Args:
      rate: The probability of hiding a key, in [0, 1); a scalar or an array; may be traced.
      broadcast_dims: Axes along which one decision is shared; not the last.
      bits: Random bits a decision: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    broadcast_dims: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.drop_key)

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        mask: ArrayLike | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        """Hides keys, never those that `mask` hides already; it is boolean, True is allowed."""
        return self._apply((inputs,), self._rate(rate), deterministic, rngs, mask=mask)

    def _deterministic_output(self, inputs: ArrayLike, *_: Any, mask: ArrayLike | None) -> jax.Array:
        return self._pure(None, inputs, 0.0, mask=mask, **self._options())


class DropHead(Shell):
    """`jaxdrop.drop_head` as a module, on the outputs of the heads before they are mixed.

    Args:
      rate: The probability of dropping a head, in [0, 1]; a scalar or an array; may be traced.
      head_axis: The axis of the heads; not 0, which is the batch.
      bits: Random bits a head: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    head_axis: int = -2
    bits: Bits = None
    _pure = staticmethod(drops.drop_head)


def attention_fn(
    regularizer: Callable[..., jax.Array] = drops.attention_dropout, **options: Any
) -> Callable[..., jax.Array]:
    """Makes an `attention_fn` for Flax's attention, which regularizes in the place of Flax's dropout.

    Rate, key and determinism are those that the attention module hands over: its `dropout_rate`,
    its stream "dropout", its `deterministic`. Its `broadcast_dropout` has no effect: every example
    and head has its own draw, unless the options say `broadcast_dims=(0, 1)`.

    Args:
      regularizer: `jaxdrop.drop_key`, as it is or in a `functools.partial`; or a function of
        `(key, weights, rate)` that keeps the shape, such as `jaxdrop.attention_dropout` or
        `jaxdrop.gaussian_dropout`, applied after the softmax.
      **options: Options of the regularizer, such as `broadcast_dims` and `bits`.

    Returns:
      A function that takes what `flax.nnx.dot_product_attention` takes.

    References:
      Vaswani et al., "Attention is all you need", 2017; Li et al., "DropKey for vision
      transformer", 2023.

    >>> layer = nnx.MultiHeadAttention(
    ...     num_heads=2, in_features=8, dropout_rate=0.1, deterministic=False, decode=False,
    ...     attention_fn=attention_fn(drops.drop_key), rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((1, 5, 8))).shape
    (1, 5, 8)
    """
    if isinstance(regularizer, functools.partial) and regularizer.func is drops.drop_key:
        regularizer, options = regularizer.func, regularizer.keywords | options

    @functools.wraps(nnx.dot_product_attention)
    def attend(
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        bias: jax.Array | None = None,
        mask: jax.Array | None = None,
        broadcast_dropout: bool = True,
        dropout_rng: Key | None = None,
        dropout_rate: Numeric = 0.0,
        deterministic: bool = False,
        **rest: Any,
    ) -> jax.Array:
        if deterministic or _checks.is_scalar(dropout_rate, 0):
            return nnx.dot_product_attention(query, key, value, bias, mask, **rest)
        if dropout_rng is None:
            raise ValueError("`dropout_rng` must be given where not deterministic, got None.")
        draw = functools.partial(regularizer, dropout_rng, rate=dropout_rate, **options)
        if regularizer is not drops.drop_key:
            return _weighted(draw, query, key, value, bias=bias, mask=mask, **rest)
        shape = (*query.shape[:-3], query.shape[-2], query.shape[-3], key.shape[-3])
        seen = None if mask is None else jnp.asarray(mask, bool)
        if rest.pop("is_causal", False):
            causal = jnp.tril(jnp.ones(shape[-2:], bool))
            seen = causal if seen is None else seen & causal
        mask = drops.drop_key_mask(dropout_rng, shape, dropout_rate, mask=seen, **options)
        return nnx.dot_product_attention(query, key, value, bias, mask, **rest)

    return attend


def _weighted(
    draw: Callable[..., jax.Array],
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
    # Queries may share the heads of keys and values among them.
    shared = query.shape[-2] // value.shape[-2]
    value = value if shared == 1 else jnp.repeat(value, shared, axis=-2)
    return jnp.einsum("...hqk,...khd->...qhd", draw(weights), value, precision=precision)
