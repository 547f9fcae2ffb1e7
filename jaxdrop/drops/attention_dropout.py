"""Attention dropout: dropout of attention weights, after the softmax. Vaswani et al., 2017."""

from collections.abc import Sequence

import jax

from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout


def attention_dropout(
    key: Key,
    weights: ArrayLike,
    rate: Rate,
    *,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Zeroes attention weights with probability `rate` and scales the rest: `dropout`, by its other name.

    Every example, head, query and key has its own decision, where Flax's attention shares them
    over batch and heads unless told otherwise (`broadcast_dims=(0, 1)` here). Inside Flax's own
    attention modules it is `attention_fn` of `jaxdrop.linen` and `jaxdrop.nnx`.

    Args:
      key: A PRNG key, used once.
      weights: Floating-point weights that sum to one along the last axis, `[B, H, Q, K]`.
      rate: The probability of dropping, in [0, 1]; as for `dropout`.
      broadcast_dims: Axes along which one decision is shared.
      bits: Random bits a weight: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape, dtype and sharding of `weights`; a row sums to one in the mean only.

    Raises:
      TypeError: If `weights` are not floating-point.
      ValueError: For the reasons of `dropout`.

    References:
      Vaswani et al., "Attention is all you need", 2017.

    >>> attention_dropout(jax.random.key(0), jax.numpy.full((1, 1, 1, 4), 0.25), 0.5)
    Array([[[[0.5, 0.5, 0.5, 0. ]]]], dtype=float32)
    """
    return dropout(key, weights, rate, broadcast_dims=broadcast_dims, bits=bits)
