"""Attention dropout: dropout of attention weights, after the softmax. Vaswani et al., 2017."""

from collections.abc import Sequence

import jax

from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops import _remat
from jaxdrop.drops._kept_masks import drop_with_kept_mask

__all__ = ["attention_dropout"]


def attention_dropout(
    key: Key,
    weights: ArrayLike,
    rate: Rate,
    *,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Zeroes attention weights with probability `rate` and scales the rest; the numbers of `dropout`.

    On a GPU the mask is kept for the backward pass: after a softmax XLA must write it anyway, and drawing
    it twice would write it twice. It takes two bits per weight with `bits=16` and a last axis that is a
    multiple of four, and up to a byte otherwise. On a CPU it is redrawn, as by `dropout`; outside
    `jit` the backward pass holds zeros of that size there, too.

    Every example, head, query and key has its own decision. Flax's attention shares decisions over
    batch and heads by default (`broadcast_dims=(0, 1)` here). In Flax's own attention modules, use
    `attention_fn` of `jaxdrop.linen` or `jaxdrop.nnx`.

    Args:
      key: A PRNG key, used once.
      weights: Floating-point weights that sum to one along the last axis, `[B, H, Q, K]`.
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask;
        may be traced; no gradient.
      broadcast_dims: Axes along which one decision is shared.
      bits: Random bits per weight: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `weights`; a row sums to one only on average.

    Raises:
      TypeError: If `weights` are not floating-point.
      ValueError: If a concrete rate is outside [0, 1], an axis is out of range, or `bits` is not
        valid or too few to tell a concrete rate from 0 and 1.

    References:
      Vaswani et al., "Attention is all you need", 2017.

    Examples:
      >>> attention_dropout(jax.random.key(0), jax.numpy.full((1, 1, 1, 4), 0.25), 0.5)
      Array([[[[0.5, 0.5, 0.5, 0. ]]]], dtype=float32)
    """
    return _remat.drop_elements(drop_with_kept_mask, key, weights, rate, broadcast_dims, bits)
