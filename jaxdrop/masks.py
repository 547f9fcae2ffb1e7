"""Masks: drawn from a key first, applied later.

`apply_mask(x, keep_mask(key, x.shape, rate), rate)` is `jaxdrop.dropout(key, x, rate)`, so a mask
can be kept, shared or inspected.
"""

from collections.abc import Sequence
from functools import partial

import jax

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Rate

__all__ = ["apply_mask", "keep_mask", "spatial_mask"]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


def keep_mask(
    key: Key,
    shape: Sequence[int],
    rate: Rate,
    *,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Draws a boolean mask that keeps each element with probability `1 - rate`.

    An element depends only on the key and its own index: the mask is the same on every backend,
    with or without `jit`, and under any sharding. Axes of size one do not count, so a mask of shape
    `[B, C, 1, 1]` holds the values of one of shape `[B, 1, 1, C]`.

    An element takes 16 random bits, or 24 where 16 would realize a rate that is off by more than
    0.1 % of the smaller of rate and 1 - rate (rates below about 0.01 or above 0.99). `apply_mask`
    scales by the realized rate. A traced rate has no value to inspect and takes 16 bits; set `bits`
    to take the same number for every rate.

    Args:
      key: A PRNG key, used once.
      shape: Shape of the array to be masked.
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask;
        may be traced.
      broadcast_dims: Axes along which one decision is shared; they have size 1 in the result.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1. Each number of bits gives different masks. With 32, keys other than
        Threefry's have only the guarantees of `jax.random.bernoulli`.

    Returns:
      Boolean array of shape `shape`, with 1 at `broadcast_dims`; True is kept.

    Raises:
      ValueError: If a concrete rate is outside [0, 1], an axis is out of range, or `bits` is not
        valid or too few to tell a concrete rate from 0 and 1.

    References:
      Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Examples:
      >>> mask = keep_mask(jax.random.key(0), (2, 3, 4), 0.5, broadcast_dims=(1,))
      >>> mask.shape, mask.dtype.name
      ((2, 1, 4), 'bool')
    """
    mask_shape = _checks.check_shared(_checks.check_shape(shape), broadcast_dims)
    return _draw_once(
        _checks.check_key(key), _checks.prepare(_checks.check_rate(rate), mask_shape, bits), shape=mask_shape
    )


def spatial_mask(
    key: Key,
    shape: Sequence[int],
    rate: Rate,
    *,
    channel_axis: int = -1,
    bits: Bits = None,
) -> jax.Array:
    """Draws a mask of whole feature maps: one decision per example and channel.

    Args:
      key: A PRNG key, used once.
      shape: Shape of the batch to be masked, `[B, ..., C]`: axis 0 is the batch.
      rate: Probability of dropping a channel, in [0, 1]: a scalar, or an array that broadcasts to
        the mask; may be traced.
      channel_axis: Axis of the channels; not 0.
      bits: Random bits per channel: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Boolean array of shape `[B, 1, ..., 1, C]`; True is kept.

    Raises:
      ValueError: If the shape has fewer than two axes, `channel_axis` is out of range or the batch
        axis, a concrete rate is outside [0, 1], or `bits` is not valid or too few to tell a concrete
        rate from 0 and 1.

    References:
      Tompson et al., "Efficient object localization using convolutional networks", 2015.

    Examples:
      >>> spatial_mask(jax.random.key(0), (8, 28, 28, 16), 0.2).shape
      (8, 1, 1, 16)
    """
    sizes = _checks.check_shape(shape)
    dims = _checks.feature_map_dims(sizes, channel_axis)
    return keep_mask(key, sizes, rate, broadcast_dims=dims, bits=bits)


def apply_mask(x: ArrayLike, mask: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Zeroes dropped elements and scales kept ones, so that the mean is kept.

    The scale is one over the realized keep probability of a mask with this rate and these bits.
    Dropped elements are replaced, not multiplied by 0: an infinity or a NaN there becomes 0.

    Args:
      x: Floating-point array of any shape.
      mask: Boolean array that broadcasts to `x`; True is kept.
      rate: Probability of dropping that the mask was drawn with, in [0, 1]: a scalar, or an array
        that broadcasts to `x`; may be traced; no gradient.
      bits: Random bits per element that the mask was drawn with, as given to `keep_mask`. Use 32 for
        a mask from elsewhere: the scale is then `1 / (1 - rate)`.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point or `mask` not boolean.
      ValueError: If a concrete rate is outside [0, 1] or the shapes do not fit.

    Examples:
      >>> apply_mask(jax.numpy.arange(1.0, 5.0), jax.numpy.array([True, False, True, False]), 0.5)
      Array([2., 0., 6., 0.], dtype=float32)
    """
    x, mask = _checks.check_floating(x), _checks.check_array(mask, "mask", "a boolean array")
    if mask.dtype != bool:
        raise TypeError(f"`mask` must be a boolean array, got {mask.dtype}.")
    mask = _checks.check_broadcastable(mask, x.shape, "mask")
    draw = _checks.prepare(_checks.check_rate(rate), x.shape, bits)
    return _draw.select_and_scale(
        x, mask & (draw.keep_prob != 0), _checks.scale_of(draw, x.dtype), draw.width
    )


@partial(jax.jit, static_argnames="shape")
def _draw_once(key: Key, draw: _checks.Draw, *, shape: tuple[int, ...]) -> jax.Array:
    return _draw.draw_mask(_bits.consume(key), draw, shape)
