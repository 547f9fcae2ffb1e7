"""Mask draws: `prepare` checks the rate, `draw_mask` draws the mask, `select_and_scale` applies it."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike, Bits, Ints, Numeric

_FLAX_WIDTH = 32


@partial(jax.tree_util.register_dataclass, data_fields=["threshold", "keep_prob"], meta_fields=["width"])
@dataclass(frozen=True)
class Draw:
    """The threshold and realized keep probability of a rate, for a number of bits.

    For a concrete rate both are NumPy values, so the compiled program computes neither.

    Attributes:
      threshold: The number of the 2**width random values that are kept; with 32 bits, a fraction.
      keep_prob: The realized keep probability, without a gradient; NaN where a traced rate is invalid.
      width: Random bits per element.
    """

    threshold: ArrayLike
    keep_prob: ArrayLike
    width: int


def prepare(rate: Numeric, shape: Ints, bits: Bits) -> Draw:
    """The draw of a checked rate that broadcasts to the mask's shape; checks `bits` too."""
    rate = _checks.check_broadcastable(rate, shape, "rate")
    width = _checks.choose_width(bits, rate)
    return draw_of(realized_keep_prob(rate, width), width)


def draw_of(keep_prob: ArrayLike, width: int) -> Draw:
    """The draw of a realized keep probability; a NaN keeps all elements, so that the result shows it."""
    xp = _namespace(keep_prob)
    valid = xp.where(xp.isnan(keep_prob), xp.ones_like(keep_prob), keep_prob)
    threshold = valid if width == _FLAX_WIDTH else (valid * np.float32(2**width)).astype(np.uint32)
    return Draw(threshold, keep_prob, width)


def realized_keep_prob(rate: Numeric, width: int) -> ArrayLike:
    """The keep probability of a mask of `width` bits, as float32 without a gradient.

    With 32 bits it has Flax's dtype and rounding. A traced rate outside [0, 1] cannot raise: it
    gives NaN, and the whole result is NaN.
    """
    if width == _FLAX_WIDTH:
        as_flax = isinstance(rate, int | float)
        return jnp.asarray(1.0 - rate) if as_flax else 1 - jnp.asarray(without_gradient(rate))
    keep = 1 - without_gradient(rate)
    return _namespace(keep).round(keep * np.float32(2**width)) * np.float32(2.0**-width)


def scale_of(draw: Draw, dtype: np.dtype) -> ArrayLike:
    """The scale for `select_and_scale`: one over the keep probability.

    With 32 bits it is the keep probability itself, because Flax divides and its numbers are matched.
    """
    keep_prob = draw.keep_prob
    xp = _namespace(keep_prob)
    safe = xp.where(keep_prob == 0, xp.ones_like(keep_prob), keep_prob)
    return safe if draw.width == _FLAX_WIDTH else 1 / safe.astype(widened(dtype))


def draw_mask(seed: _bits.Seed, draw: Draw, shape: tuple[int, ...]) -> jax.Array:
    """Draws a mask; True is kept. The same seed gives the same mask."""
    if draw.width == _FLAX_WIDTH:
        return _bits.bernoulli_like_flax(seed, draw.threshold, shape)
    return _bits.bernoulli_packed(seed, draw.threshold, shape, draw.width)


def select_and_scale(x: jax.Array, mask: ArrayLike, scale: ArrayLike, width: int) -> jax.Array:
    """Zeroes dropped elements and scales the others, in float32 or wider."""
    wide = x.astype(widened(x.dtype))
    scaled = wide / scale if width == _FLAX_WIDTH else wide * scale
    return jnp.where(mask, scaled, 0).astype(x.dtype)


def where_like(mask: jax.Array, kept: jax.Array, other: jax.Array) -> jax.Array:
    """`jnp.where(mask, kept, other)`, with the mask sharded like `kept`."""
    return jnp.where(mask & jnp.ones_like(kept, bool), kept, other)


def nan_where_rate_invalid(y: jax.Array, keep_prob: ArrayLike) -> jax.Array:
    """Sets the result to NaN where a traced rate is out of range; for regularizers without a scale."""
    if not isinstance(keep_prob, jax.Array):
        return y
    return jnp.where(jnp.isnan(keep_prob), jnp.nan, y).astype(y.dtype)


def widened(dtype: np.dtype) -> np.dtype:
    """Float32 for narrower dtypes, so that a scale is not rounded to half precision."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def without_gradient(rate: Numeric) -> ArrayLike:
    """The rate as float32, without a gradient; NaN where a traced rate is outside [0, 1]."""
    if _checks.is_concrete(rate):
        return np.asarray(rate, np.float32)
    rate = jax.lax.stop_gradient(jnp.asarray(rate, jnp.float32))
    return jnp.where((rate >= 0) & (rate <= 1), rate, jnp.nan)


def _namespace(value: ArrayLike) -> Any:
    """NumPy for concrete values, `jax.numpy` for others."""
    return jnp if isinstance(value, jax.Array) else np
