"""Masks: who is kept, drawn from a key; and the act of applying one.

To draw and to act are separate: `apply_mask(x, keep_mask(key, x.shape, rate), rate)` is
`jaxdrop.dropout(key, x, rate)`, so a mask can be kept, shared or inspected.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks

_FLAX_BITS = 32


def keep_mask(
    key: chex.PRNGKey,
    shape: Sequence[int],
    rate: chex.Numeric,
    *,
    broadcast_dims: Sequence[int] = (),
    bits: int | None = None,
) -> jax.Array:
    """Draws a boolean mask that keeps each element with probability `1 - rate`.

    An element is a function of the key and of its own index alone: the mask is the same on every
    backend, under `jit` or not, and however it is sharded. Axes of size one do not count, so a
    mask of shape `[B, C, 1, 1]` holds the values of one of shape `[B, 1, 1, C]`.

    An element takes 16 random bits, or 24 where 16 would realise a rate that is off by more than
    0.1 % of the smaller of rate and 1 - rate (rates below about 0.01 or above 0.99);
    `apply_mask` corrects for what the realised rate differs by. A traced rate cannot be looked at
    and takes 16 bits; `bits=` settles it for any rate.

    Args:
      key: A PRNG key, used once.
      shape: The shape of the array to be masked.
      rate: The probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the
        mask. May be traced.
      broadcast_dims: Axes along which one decision is shared; they have size 1 in the result.
      bits: Random bits an element: 8, 16, 24, or None to choose by the rate. With 32 the mask is
        the one that Flax's Dropout draws from the same key, bit for bit; it promises what
        `jax.random.bernoulli` does, which for keys other than Threefry's is less. Each number of
        bits has masks of its own.

    Returns:
      A boolean array of shape `shape`, with 1 at `broadcast_dims`; True is kept.

    Raises:
      ValueError: If a concrete rate is outside [0, 1], an axis is out of range, or `bits` is not
        one of the above or too few to tell a concrete rate from 0 and 1.

    References:
      Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    >>> mask = keep_mask(jax.random.key(0), (2, 3, 4), 0.5, broadcast_dims=(1,))
    >>> mask.shape, mask.dtype.name
    ((2, 1, 4), 'bool')
    """
    sizes = _checks.check_shape(shape)
    shared = _checks.check_axes(broadcast_dims, len(sizes), "broadcast_dims")
    mask_shape = tuple(1 if axis in shared else size for axis, size in enumerate(sizes))
    rate = _checks.check_broadcastable(_checks.check_rate(rate), mask_shape, "rate")
    width = _checks.check_bits(bits, rate)
    return _draw_once(key, threshold(realised(rate, width), width), shape=mask_shape, width=width)


def spatial_mask(
    key: chex.PRNGKey,
    shape: Sequence[int],
    rate: chex.Numeric,
    *,
    channel_axis: int = -1,
    bits: int | None = None,
) -> jax.Array:
    """Draws a mask that keeps or drops whole feature maps: one decision an example and channel.

    Args:
      key: A PRNG key, used once.
      shape: The shape of the batch to be masked, `[B, ..., C]`: axis 0 is the batch.
      rate: The probability of dropping a channel, in [0, 1]; as for `keep_mask`.
      channel_axis: The axis of the channels; not 0.
      bits: As for `keep_mask`.

    Returns:
      A boolean array of shape `[B, 1, ..., 1, C]`; True is kept.

    Raises:
      ValueError: If the shape has fewer than two axes, `channel_axis` is out of range or the
        batch axis, or for the reasons of `keep_mask`.

    References:
      Tompson et al., "Efficient object localization using convolutional networks", 2015.

    >>> spatial_mask(jax.random.key(0), (8, 28, 28, 16), 0.2).shape
    (8, 1, 1, 16)
    """
    sizes = _checks.check_shape(shape)
    dims = feature_map_dims(sizes, channel_axis)
    return keep_mask(key, sizes, rate, broadcast_dims=dims, bits=bits)


def apply_mask(x: chex.Array, mask: chex.Array, rate: chex.Numeric, *, bits: int | None = None) -> jax.Array:
    """Zeroes what the mask drops and scales what it keeps, so that the mean is kept.

    The scale is one over the keep probability that a mask of this rate and these bits really has.
    What is dropped is selected away, not multiplied: an infinity or a NaN there is gone.

    Args:
      x: A floating-point array.
      mask: A boolean array that broadcasts to the shape of `x`; True is kept.
      rate: The rate that the mask was drawn with, in [0, 1]; a scalar or an array that broadcasts
        to the shape of `x`. It has no gradient.
      bits: The bits that the mask was drawn with, as given to `keep_mask`; 32 for a mask from
        elsewhere, whose scale is then `1 / (1 - rate)`.

    Returns:
      An array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point or the mask not boolean.
      ValueError: If a concrete rate is outside [0, 1] or the shapes do not fit.

    >>> apply_mask(jnp.arange(1.0, 5.0), jnp.array([True, False, True, False]), 0.5)
    Array([2., 0., 6., 0.], dtype=float32)
    """
    x, mask = _checks.check_floating(x), jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"`mask` must be a boolean array, got {mask.dtype}.")
    mask = _checks.check_broadcastable(mask, x.shape, "mask")
    rate = _checks.check_broadcastable(_checks.check_rate(rate), x.shape, "rate")
    width = _checks.check_bits(bits, rate)
    share = realised(rate, width)
    return act(x, mask & (share != 0), scale(share, width, x.dtype), width)


def feature_map_dims(shape: Sequence[int], channel_axis: int) -> tuple[int, ...]:
    """The axes of a feature map: all but the batch and the channels."""
    channel = _checks.check_channel_axis(channel_axis, shape)
    return tuple(axis for axis in range(1, len(shape)) if axis != channel)


def realised(rate: chex.Numeric, width: int) -> chex.Array:
    """The keep probability that a mask of so many bits really has, as float32 without a gradient.

    In Flax's mode that is Flax's own, of its dtype and rounding. A traced rate outside [0, 1]
    cannot raise: it gives NaN, and so NaN all over the result. Of a concrete rate this is a
    concrete NumPy value, and so is all that follows from it: nothing is left to compute in a
    program, forward or backward.
    """
    if width == _FLAX_BITS:
        own = isinstance(rate, int | float)
        return jnp.asarray(1.0 - rate) if own else 1 - jnp.asarray(without_gradient(rate))
    keep = 1 - without_gradient(rate)
    return _namespace(keep).round(keep * np.float32(2**width)) * np.float32(2.0**-width)


def threshold(share: chex.Array, width: int) -> chex.Array:
    """What `draw` takes: how many of the 2**width draws are kept; in Flax's mode, their share.

    All are kept where there is no probability, so that the NaN of the scale is seen.
    """
    xp = _namespace(share)
    sure = xp.where(xp.isnan(share), xp.ones_like(share), share)
    return sure if width == _FLAX_BITS else (sure * np.float32(2**width)).astype(np.uint32)


def scale(share: chex.Array, width: int, dtype: np.dtype) -> chex.Array:
    """What `act` takes: one over the keep probability, and zero where nothing is kept.

    Flax divides, and its mode gives its numbers; a multiplication is the cheaper one.
    """
    xp = _namespace(share)
    safe = xp.where(share == 0, xp.ones_like(share), share)
    return safe if width == _FLAX_BITS else 1 / safe.astype(widened(dtype))


def draw(seed: _bits.Seed, threshold: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """The mask of a threshold, from a seed: may be repeated with the same result."""
    if width == _FLAX_BITS:
        return _bits.flax_uniform_below(seed, threshold, shape)
    return _bits.below(seed, threshold, shape, width)


def act(x: jax.Array, mask: chex.Array, scale: chex.Array, width: int) -> jax.Array:
    """Selects and scales, in float32 at least."""
    wide = x.astype(widened(x.dtype))
    scaled = wide / scale if width == _FLAX_BITS else wide * scale
    return jnp.where(mask, scaled, 0).astype(x.dtype)


def choose(mask: jax.Array, kept: jax.Array, other: jax.Array) -> jax.Array:
    """`jnp.where` between two arrays; the conjunction gives the mask the sharding of what is kept."""
    return jnp.where(mask & jnp.ones_like(kept, bool), kept, other)


def loud(y: jax.Array, share: chex.Array) -> jax.Array:
    """For a member that does not scale: NaN where a traced rate was out of range, as `act` gives."""
    return jnp.where(jnp.isnan(share), jnp.nan, y).astype(y.dtype) if isinstance(share, jax.Array) else y


def widened(dtype: np.dtype) -> np.dtype:
    """Float32 for half precision, so that no scale is rounded to eight bits of mantissa."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def without_gradient(rate: chex.Numeric) -> chex.Array:
    """A rate as float32, without a gradient; NaN where a traced one lies outside [0, 1]."""
    if _checks.is_concrete(rate):
        return np.asarray(rate, np.float32)
    rate = jax.lax.stop_gradient(jnp.asarray(rate, jnp.float32))
    return jnp.where((rate >= 0) & (rate <= 1), rate, jnp.nan)


def _namespace(value: chex.Array) -> Any:
    """NumPy for what can be computed now, `jax.numpy` for what cannot."""
    return jnp if isinstance(value, jax.Array) else np


@partial(jax.jit, static_argnames=("shape", "width"))
def _draw_once(key: chex.PRNGKey, threshold: jax.Array, *, shape: tuple[int, ...], width: int) -> jax.Array:
    return draw(_bits.consume(key), threshold, shape, width)
