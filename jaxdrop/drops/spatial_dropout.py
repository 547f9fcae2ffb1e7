"""Spatial dropout: zeroes whole feature maps at random. Tompson et al., 2015."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout

__all__ = ["spatial_dropout"]


def spatial_dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    channel_axis: int = -1,
    bits: Bits = None,
) -> jax.Array:
    """Zeroes whole channels of each example with probability `rate` and scales the rest.

    Neighboring pixels are strongly correlated, so dropping them one by one regularizes little. Each
    element has the mean and variance of `dropout`; the elements of one feature map share a decision.
    The mask is `spatial_mask(key, x.shape, rate, ...)`. Axis 0 is always the batch; for a single
    example use `jax.vmap` or `x[None]`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch, `[B, ..., C]`, of two axes or more.
      rate: Probability of dropping a channel, in [0, 1]: a scalar, or an array that broadcasts to
        the mask `[B, 1, ..., 1, C]`; may be traced; no gradient.
      channel_axis: Axis of the channels; not 0.
      bits: Random bits per channel: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `x` has fewer than two axes, `channel_axis` is out of range or the batch axis, a
        concrete rate is outside [0, 1], or `bits` is not valid or too few to tell a concrete rate
        from 0 and 1.

    References:
      Tompson et al., "Efficient object localization using convolutional networks", 2015.

    Examples:
      >>> y = spatial_dropout(jax.random.key(2), jax.numpy.ones((2, 8, 8, 4)), 0.5)
      >>> y[0, 0, 0], y[0, 7, 3]
      (Array([0., 2., 2., 0.], dtype=float32), Array([0., 2., 2., 0.], dtype=float32))
    """
    x = _checks.check_floating(x)
    dims = _checks.feature_map_dims(x.shape, channel_axis)
    return dropout(key, x, rate, broadcast_dims=dims, bits=bits)
