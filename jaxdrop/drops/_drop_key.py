"""What DropKey and attention in blocks share: the checks, and the keys that a row keeps."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Rate


def prepare_keys(
    shape: tuple[int, ...],
    rate: Rate,
    mask: ArrayLike | None,
    broadcast_dims: Sequence[int],
    bits: Bits,
) -> tuple[_checks.Draw, ArrayLike | np.bool_, tuple[int, ...]]:
    """The draw, the allowed keys, and the shape of the decisions."""
    if not shape:
        raise ValueError("`logits` must be of shape [..., Q, K], got ().")
    shared = _checks.check_axes(broadcast_dims, len(shape), "broadcast_dims")
    if len(shape) - 1 in shared:
        raise ValueError(
            f"`broadcast_dims` must not contain the last axis, that of the keys, got {tuple(broadcast_dims)}."
        )
    drawn = _checks.check_shared(shape, shared)
    rate = _checks.check_below_one(rate)
    draw = _checks.prepare(rate, drawn, bits)
    if isinstance(draw.keep_prob, jax.Array):
        draw = _checks.draw_of(jnp.where(draw.keep_prob == 0, jnp.nan, draw.keep_prob), draw.width)
    allowed = np.True_ if mask is None else _checked_mask(mask, shape)
    return draw, allowed, drawn


def some_kept(drawn: jax.Array, logits: jax.Array) -> jax.Array:
    """The keys that a row keeps: those drawn, or all where none of these has a weight.

    Args:
      drawn: The decisions, which broadcast to the logits.
      logits: Logits, -inf where a key must not be attended to.

    Returns:
      Boolean array, True for keys with a weight, at least one in each row that has one.
    """
    weighty = have_weight(logits)
    kept = drawn & weighty
    return jnp.where(kept.any(-1, keepdims=True), kept, weighty)


def have_weight(logits: jax.Array) -> jax.Array:
    """Whether the softmax gives a key a weight above zero, in the dtype of the logits.

    Zero is what the dtype does not hold, or what a device may flush to zero: below 1e-38, or 6e-8 in
    float16.
    """
    logits = lax.stop_gradient(logits)
    # What is not finite may be dropped, and then leaves the others as they are.
    finite = jnp.where(jnp.isfinite(logits), logits, -jnp.inf)
    lowest = lowest_with_weight(finite.max(-1, keepdims=True, initial=-jnp.inf))
    # A NaN compares false to all, so it is kept and seen.
    return ~(logits < lowest) & (logits != -jnp.inf)


def _checked_mask(mask: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    mask = _checks.check_array(mask, "mask", "a boolean array")
    if mask.dtype != bool:
        raise TypeError(f"`mask` must be a boolean array, got {mask.dtype}.")
    return _checks.check_broadcastable(mask, shape, "mask")


def lowest_with_weight(largest: jax.Array) -> jax.Array:
    """The lowest logit with a weight, in rows of these largest logits."""
    least = max(float(jnp.finfo(largest.dtype).smallest_subnormal), float(np.finfo(np.float32).tiny))
    return largest + np.asarray(math.log(least), largest.dtype)
