"""Feature alpha dropout: alpha dropout of whole feature maps. Klambauer et al., 2017."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.alpha_dropout import alpha_dropout

__all__ = ["feature_alpha_dropout"]


def feature_alpha_dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    channel_axis: int = -1,
    bits: Bits = None,
) -> jax.Array:
    """Sets whole channels of each example to SELU's negative saturation, then restores moments.

    Like `alpha_dropout`, with one decision per channel and example. An input of mean 0 and variance
    1 leaves with mean 0 and variance 1. Rate 0 is the identity; rate 1 gives zeros.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch, `[B, ..., C]`, standardized like SELU's activations.
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
      Klambauer et al., "Self-normalizing neural networks", 2017.

    Examples:
      >>> feature_alpha_dropout(jax.random.key(2), jax.numpy.zeros((1, 3, 4)), 0.5)
      Array([[[-0.7791939,  0.7791939,  0.7791939, -0.7791939],
              [-0.7791939,  0.7791939,  0.7791939, -0.7791939],
              [-0.7791939,  0.7791939,  0.7791939, -0.7791939]]], dtype=float32)
    """
    x = _checks.check_floating(x)
    dims = _checks.feature_map_dims(x.shape, channel_axis)
    return alpha_dropout(key, x, rate, broadcast_dims=dims, bits=bits)
