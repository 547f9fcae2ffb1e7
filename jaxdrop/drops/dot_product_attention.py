"""Attention with dropout at any length: the matrix of weights is never stored. Dao et al., 2022."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdrop import _checks, _parts
from jaxdrop._types import ArrayLike, Bits, BlockSize, Key, Rate
from jaxdrop.drops import _attention, _attention_triton, _ring
from jaxdrop.drops._attention_checks import (
    check_constant,
    check_heads,
    check_like_scores,
    check_per_example,
    check_window,
)
from jaxdrop.drops._attention_dropping import Dropping, make_dropping
from jaxdrop.drops.attention_dropout import attention_dropout

__all__ = ["dot_product_attention"]

# Up to so many scores of a head, one block that keeps them. The batch and the heads do not count: a query or
# a key has at most 256 scores then, so memory is linear in the inputs. The gradient for 32 x 256 x 16 heads
# of 64 in float32 takes 326 ms on two CPU cores; blocks of 16 take 2.5 times less memory, and 481 ms.
_ONE_BLOCK = 2**16
# Scores of a block: as many as fit into a CPU's cache, or as keep a GPU busy.
_ON_CPU, _ELSEWHERE = 2**19, 2**24
_LEAST = 16


def dot_product_attention(
    key: Key,
    queries: ArrayLike,
    keys: ArrayLike,
    values: ArrayLike,
    rate: Rate,
    *,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    is_causal: bool = False,
    local_window_size: int | tuple[int, int] | None = None,
    query_seq_lengths: ArrayLike | None = None,
    key_value_seq_lengths: ArrayLike | None = None,
    query_segment_ids: ArrayLike | None = None,
    key_value_segment_ids: ArrayLike | None = None,
    scale: float | None = None,
    logits_soft_cap: float | None = None,
    regularizer: Callable[..., jax.Array] = attention_dropout,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
    block_size: BlockSize = "auto",
    axis_name: str | None = None,
    precision: lax.PrecisionLike = None,
    implementation: Literal["xla", "cudnn", "triton"] | None = None,
) -> jax.Array:
    """Dot-product attention with dropout of its weights or keys, in memory linear in the length.

    The softmax of `queries @ keys` weighs the values, as in `jax.nn.dot_product_attention`, whose
    options have the same names here. The mask is that of the regularizer on the whole array of
    weights, `[..., H, T, S]`, under the same key, whatever the block size, sharding or backend:
    `drop_key_mask(key, (B, H, T, S), rate)`, or `keep_mask` for `attention_dropout`.

    A block of queries meets all keys. The backward pass computes its weights again, and draws its
    mask again, so neither is stored. Products accumulate in float32, and the softmax is in float32, or
    both in float64 for arrays of float64.
    Queries that may attend to no key give zeros.

    Sequence parallelism: with `axis_name`, each of n devices passes its own parts of the queries, keys,
    values and segment ids. `mask` and `bias` are for its queries and all keys, and broadcast to
    `[..., H, T / n, S]`. Sequence lengths count places of the whole. `rate` is the same for all queries
    and keys, and `key` the same on all devices of the axis. A device stores its own parts, those of one
    other device, and a block of scores. Keys and values travel once around the devices, for `drop_key`
    the keys once more; in the backward pass they travel again, with their gradients in float32.
    There is no forward-mode derivative.

    Args:
      key: A PRNG key, used once.
      queries: Floating-point array, `[..., T, H, D]`.
      keys: Array of the same dtype, `[..., S, K, D]`; H is a multiple of K. Each head of keys serves
        H / K neighboring heads of queries (grouped-query attention; multi-query for K = 1).
      values: Array of the same dtype, `[..., S, K, E]`.
      rate: Probability of dropping, in [0, 1], below 1 for `drop_key`: a scalar, or an array that
        broadcasts to the mask; may be traced; no gradient.
      bias: Is added to the scores; broadcasts to `[..., H, T, S]`.
      mask: Boolean, True where a query may attend to a key; broadcasts to `[..., H, T, S]`.
      is_causal: Whether query t attends to keys 0 to t only.
      local_window_size: How many keys before and after its own place a query attends to: a pair, or
        one number for both.
      query_seq_lengths: The number of queries of each example, `[...]`; those beyond give zeros.
      key_value_seq_lengths: The number of keys of each example, `[...]`.
      query_segment_ids: Segment of each query, integers `[..., T]`: attends to keys of that segment.
      key_value_segment_ids: Segment of each key, `[..., S]`.
      scale: Multiplies the products; None: 1 / sqrt(D).
      logits_soft_cap: Bounds the scores, before the bias, to `cap * tanh(scores / cap)`.
      regularizer: `jaxdrop.attention_dropout` or `jaxdrop.drop_key`.
      broadcast_dims: Axes of the weights, `[..., H, T, S]`, along which one decision is shared.
      bits: Random bits per weight: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.
      block_size: The number of queries of a block, at most. None: all queries; the weights are then
        stored for the backward pass. "auto": about 2**19 scores in a block on a CPU and 2**24
        elsewhere, but at least 16 queries; all queries where T * S is at most 2**16, whatever the batch.
      axis_name: Inside `jax.shard_map`, the mesh axis that T and S are sharded over, each in equal parts.
        Lengths, positions and masks are those of the whole. See "Sequence parallelism" above.
      precision: Of the products, as in `jax.numpy.einsum`.
      implementation: "xla": the blocks. "cudnn": at rate 0, the kernel of
        `jax.nn.dot_product_attention`. "triton": a kernel for NVIDIA GPUs, chosen only by name, with
        the first derivative only; see the README of this folder for its options. None: the blocks; one
        block at rate 0 is `jax.nn`'s.

    Returns:
      Array of the dtype and sharding of `queries`, `[..., T, H, E]`.

    Raises:
      TypeError: If an array is of a wrong dtype.
      ValueError: If shapes do not fit, a concrete rate is outside its range, an axis is out of range,
        or `bits` is not valid or too few to tell a concrete rate from 0 and 1.

    References:
      Dao et al., "FlashAttention: fast and memory-efficient exact attention with IO-awareness", 2022;
      Rabe and Staats, "Self-attention does not need O(n^2) memory", 2021.

    Examples:
      >>> x = jax.random.normal(jax.random.key(0), (1, 1024, 2, 8))
      >>> dot_product_attention(jax.random.key(1), x, x, x, 0.1, is_causal=True).shape
      (1, 1024, 2, 8)
    """
    queries, keys, values = check_heads(queries, keys, values)
    if not isinstance(is_causal, bool | np.bool_):
        raise TypeError(f"`is_causal` must be True or False, got {is_causal!r}.")
    batch, (length, heads), places = queries.shape[:-3], queries.shape[-3:-1], keys.shape[-3]
    devices = 1 if axis_name is None else _devices(axis_name)
    shape = (*batch, heads, devices * length, devices * places)
    own = (*batch, heads, length, devices * places)
    dropping = make_dropping(key, shape, rate, regularizer, broadcast_dims, bits, queries.dtype)
    how = _attention.Attention(
        bias=check_like_scores(bias, own, "bias", np.floating),
        mask=check_like_scores(mask, own, "mask", np.bool_),
        query_segments=check_per_example(query_segment_ids, (*batch, length), "query_segment_ids", (-3, -1)),
        key_segments=check_per_example(
            key_value_segment_ids, (*batch, places), "key_value_segment_ids", (-3, -2)
        ),
        query_lengths=check_per_example(query_seq_lengths, batch, "query_seq_lengths", (-3, -2, -1)),
        key_lengths=check_per_example(key_value_seq_lengths, batch, "key_value_seq_lengths", (-3, -2, -1)),
        dropping=dropping,
        is_causal=bool(is_causal),
        window=check_window(local_window_size),
        scale=max(queries.shape[-1], 1) ** -0.5 if scale is None else check_constant(scale, "scale"),
        soft_cap=None if logits_soft_cap is None else check_constant(logits_soft_cap, "logits_soft_cap"),
        precision=precision,
        shape=shape,
    )
    if (query_segment_ids is None) != (key_value_segment_ids is None):
        raise ValueError(
            "`query_segment_ids` and `key_value_segment_ids` must be given together, got one of them."
        )
    if how.soft_cap is not None and how.soft_cap <= 0:
        raise ValueError(f"`logits_soft_cap` must be above 0, got {how.soft_cap:g}.")
    _checks.check_choice(implementation, (None, "xla", "cudnn", "triton"), "implementation")
    if implementation == "cudnn" and dropping is not None:
        raise ValueError("`implementation` must be None or 'xla' with dropout, got 'cudnn'.")
    size = _block_size(block_size, (*own[:-1], places))
    if axis_name is not None:
        _check_ring(dropping, rate, implementation)
        return _ring.attend(queries, keys, values, how, block_size=size, axis_name=axis_name)
    if implementation == "triton":
        if dropping is not None:
            return _attention_triton.attend(queries, keys, values, how, dropping)
        implementation = None
    if dropping is not None and not _parts.can_draw_parts(dropping.seed, dropping.draw, dropping.shape):
        size = length
    one = dropping is None and size == length and _is_of_jax(how, queries, values)
    if implementation == "cudnn" or (implementation is None and one):
        return _by_jax(queries, keys, values, how, implementation)
    return _attention.attend(queries, keys, values, how, block_size=size)


def _devices(axis_name: str) -> int:
    """The number of devices along a mesh axis of the `shard_map` around."""
    if not isinstance(axis_name, str):
        raise TypeError(f"`axis_name` must be a string, got {type(axis_name).__name__}.")
    try:
        return lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f"`axis_name` must be a mesh axis of a `jax.shard_map` around this call, got {axis_name!r}."
        ) from None


def _check_ring(dropping: Dropping | None, rate: Rate, implementation: str | None) -> None:
    """Raises for what needs the whole mask, or all keys at once."""
    if implementation not in (None, "xla"):
        raise ValueError(f"`implementation` must be None or 'xla' with `axis_name`, got {implementation!r}.")
    if any(size > 1 for size in np.shape(rate)[-2:]):
        raise ValueError(
            f"`rate` must be the same for all queries and keys with `axis_name`, got shape {np.shape(rate)}."
        )
    if dropping is not None and not _parts.can_draw_parts(dropping.seed, dropping.draw, dropping.shape):
        raise ValueError(
            "`bits` must be 8, 16 or 24 with `axis_name` and such a key, got 32: JAX draws no parts of it."
        )


def _is_of_jax(how: _attention.Attention, queries: jax.Array, values: jax.Array) -> bool:
    """Whether JAX's function computes this, too; its softmax is in float32 always."""
    same_size = queries.shape[-1] == values.shape[-1]
    takes = queries.ndim <= 4 and queries.dtype.itemsize in (2, 4) and 0 not in how.shape
    return same_size and takes and how.soft_cap is None and how.precision is None


def _by_jax(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: _attention.Attention,
    implementation: Literal["cudnn"] | None,
) -> jax.Array:
    """Attention without dropout, by `jax.nn`; queries that see nothing give zeros, as elsewhere here."""
    if not _is_of_jax(how, queries, values):
        raise ValueError(
            "`implementation` must be None or 'xla' with `logits_soft_cap`, `precision`, values of another "
            "size than keys, and arrays that are empty, of 8 or 64 bits or of more than four axes, "
            f"got {implementation!r}."
        )
    mask, bias = how.mask, how.bias
    if how.query_segments is not None:
        same = how.query_segments == how.key_segments
        mask = same if mask is None else mask & same
    if bias is not None:
        bias = jnp.where(bias == -jnp.inf, 0.7 * jnp.finfo(bias.dtype).min, bias)
    lengths = (
        None if n is None else n.reshape(-1).astype(np.int32) for n in (how.query_lengths, how.key_lengths)
    )
    query_lengths, key_lengths = lengths
    y = jax.nn.dot_product_attention(
        queries,
        keys,
        values,
        bias,
        mask,
        scale=how.scale,
        is_causal=how.is_causal,
        query_seq_lengths=query_lengths,
        key_value_seq_lengths=key_lengths,
        local_window_size=how.window,
        implementation=implementation,
    )
    allowed = how.visible(0, queries.shape[-3])
    if how.bias is not None:
        finite = how.bias != -jnp.inf
        allowed = finite if allowed is None else allowed & finite
    if allowed is None:
        return y
    return jnp.where(jnp.swapaxes(allowed.any(-1, keepdims=True), -3, -2), y, 0)


def _block_size(block_size: BlockSize, shape: tuple[int, ...]) -> int:
    """The number of queries in a block; all of them where one block is cheaper, or the length unknown."""
    *leading, length, places = shape
    size = length
    if block_size == "auto":
        # A symbolic size, as of a batch in an exported function, counts as one.
        known = [size for size in (*leading, places) if isinstance(size, int)]
        scores = _ON_CPU if jax.default_backend() == "cpu" else _ELSEWHERE
        if isinstance(length, int) and length * (places if isinstance(places, int) else 1) > _ONE_BLOCK:
            size = max(_LEAST, scores // max(math.prod(known), 1))
    elif block_size is not None:
        size = _checks.check_count(block_size, "block_size")
    return min(size, length) if isinstance(length, int) else length
