"""Dropout: zeroes elements at random. Srivastava et al., 2014."""

from collections.abc import Sequence

import jax

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops import _remat

__all__ = ["dropout"]


def dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Zeroes elements with probability `rate` and scales the rest, so that the mean is kept.

    Each element of the result is 0 with probability p = `rate`, and else `x / (1 - p)`: the mean
    is x, the variance x**2 * p / (1 - p). The mask is `keep_mask(key, x.shape, rate, ...)`.
    Rate 0 is the identity, rate 1 gives zeros. The backward pass redraws the mask from the key; no
    mask is stored.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array of any shape.
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask;
        may be traced; no gradient.
      broadcast_dims: Axes along which one decision is shared, as in Flax.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If a concrete rate is outside [0, 1], an axis is out of range, or `bits` is not
        valid or too few to tell a concrete rate from 0 and 1.

    References:
      Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Examples:
      >>> dropout(jax.random.key(0), jax.numpy.ones(6), 0.5)
      Array([2., 2., 2., 0., 2., 2.], dtype=float32)
    """
    return _remat.drop_elements(_dropout, key, x, rate, broadcast_dims, bits)


@_remat.redraw_in_backward("shape")
def _dropout(
    seed: _bits.Seed, x: jax.Array, scaled: tuple[_checks.Draw, ArrayLike], *, shape: tuple[int, ...]
) -> jax.Array:
    draw, scale = scaled
    return _draw.select_and_scale(x, _draw.draw_mask(seed, draw, shape), scale, draw.width)
