"""Masks from a seed and a `Draw`, and their application to arrays."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike


def draw_mask(seed: _bits.Seed, draw: _checks.Draw, shape: tuple[int, ...]) -> jax.Array:
    """Draws a mask; True is kept. The same seed gives the same mask."""
    if draw.width == _checks.FLAX_WIDTH:
        return _bits.bernoulli_like_flax(seed, draw.threshold, shape)
    return _bits.bernoulli_packed(seed, draw.threshold, shape, draw.width)


def select_and_scale(x: jax.Array, mask: ArrayLike, scale: ArrayLike, width: int) -> jax.Array:
    """Zeroes dropped elements and scales the others, in float32 or wider."""
    wide = x.astype(_checks.widened(x.dtype))
    scaled = wide / scale if width == _checks.FLAX_WIDTH else wide * scale
    return jnp.where(mask, scaled, 0).astype(x.dtype)


def where_like(mask: jax.Array, kept: jax.Array, other: jax.Array) -> jax.Array:
    """`jnp.where(mask, kept, other)`, with the mask sharded like `kept`."""
    return jnp.where(mask & jnp.ones_like(kept, bool), kept, other)


def nan_where_rate_invalid(y: jax.Array, keep_prob: ArrayLike) -> jax.Array:
    """Sets the result to NaN where a traced rate is out of range; for regularizers without a scale."""
    if not isinstance(keep_prob, jax.Array):
        return y
    return jnp.where(jnp.isnan(keep_prob), jnp.nan, y).astype(y.dtype)
