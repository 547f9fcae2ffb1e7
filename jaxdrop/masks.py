"""Masks: who is kept, drawn from a key; and the act of applying one.

To draw and to act are separate: `apply_mask(x, keep_mask(key, x.shape, rate), rate)` is
`jaxdrop.dropout(key, x, rate)`, so a mask can be kept, shared or inspected.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Rate


def keep_mask(
    key: Key,
    shape: Sequence[int],
    rate: Rate,
    *,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
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
    return _draw_once(key, _draw.prepare(_checks.check_rate(rate), mask_shape, bits), shape=mask_shape)


def spatial_mask(
    key: Key,
    shape: Sequence[int],
    rate: Rate,
    *,
    channel_axis: int = -1,
    bits: Bits = None,
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
    dims = _checks.feature_map_dims(sizes, channel_axis)
    return keep_mask(key, sizes, rate, broadcast_dims=dims, bits=bits)


def apply_mask(x: ArrayLike, mask: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
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
    draw = _draw.prepare(_checks.check_rate(rate), x.shape, bits)
    return _draw.select_and_scale(x, mask & (draw.keep_prob != 0), _draw.scale_of(draw, x.dtype), draw.width)


@partial(jax.jit, static_argnames="shape")
def _draw_once(key: Key, draw: _draw.Draw, *, shape: tuple[int, ...]) -> jax.Array:
    return _draw.draw_mask(_bits.consume(key), draw, shape)
