"""Cutout: fills a random box of each image. DeVries and Taylor, 2017."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Key, Numeric, Rate
from jaxdrop.drops import _remat

__all__ = ["cutout"]

# Bits per decision: a decision per example is cheap.
_WIDTH = 24


def cutout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    size: int | Sequence[int],
    fill: Numeric = 0.0,
    channel_axis: int = -1,
) -> jax.Array:
    """Fills one box of each example, at a random place, with probability `rate`.

    As in the paper, the center of the box is uniform over the map and the box is clipped at the
    border; all channels share it. Nothing is scaled. The paper uses rate 1 on standardized inputs
    with `fill` 0, their mean. Rate 0 is the identity.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch, `[B, ..., C]`, with at least one axis between.
      rate: Probability that an example is cut, in [0, 1]: a scalar, or an array that broadcasts to
        `[B, 1, ..., 1]`; may be traced; no gradient.
      size: Side of the box, or its sides, in pixels: at least 1, at most the map's.
      fill: Value of the filled box: a scalar, or an array that broadcasts to `x`.
      channel_axis: Axis of the channels; not 0.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If a concrete rate is outside [0, 1], a side is out of range, or shapes do not
        fit.

    References:
      DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout",
      2017.

    Examples:
      >>> cutout(jax.random.key(1), jnp.ones((1, 4, 4, 1)), 1.0, size=2)[0, :, :, 0]
      Array([[0., 0., 1., 1.],
             [1., 1., 1., 1.],
             [1., 1., 1., 1.],
             [1., 1., 1., 1.]], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 3, "[B, ..., C] with an axis between")
    axes = _checks.feature_map_dims(x.shape, channel_axis)
    sides = _checks.check_window(size, tuple(x.shape[axis] for axis in axes), "size")
    rate = _checks.check_broadcastable(_checks.check_rate(rate), (x.shape[0], *(1,) * (x.ndim - 1)), "rate")
    fill = _checks.check_broadcastable(jnp.asarray(fill, x.dtype), x.shape, "fill")
    if _checks.is_scalar(rate, 0):
        return x
    draw = _checks.draw_of(_checks.realized_keep_prob(rate, _WIDTH), _WIDTH)
    return _cutout(key, x, (draw, fill), axes=axes, sides=sides)


@_remat.redraw_in_backward("axes", "sides")
def _cutout(
    seed: _bits.Seed,
    x: jax.Array,
    level: tuple[_checks.Draw, jax.Array],
    *,
    axes: tuple[int, ...],
    sides: tuple[int, ...],
) -> jax.Array:
    draw, fill = level
    one = (x.shape[0], *(1,) * (x.ndim - 1))
    first, second = _bits.words(seed, (x.shape[0], len(axes)))
    inside = (second[:, :1] >> np.uint32(8)).reshape(one) >= draw.threshold
    for i, (axis, side) in enumerate(zip(axes, sides, strict=True)):
        unit = (first[:, i] >> np.uint32(8)).astype(jnp.float32) * np.float32(2.0**-24)
        start = jnp.floor(unit * x.shape[axis]).astype(jnp.int32).reshape(one) - side // 2
        place = jax.lax.broadcasted_iota(
            jnp.int32, [x.shape[i] if i == axis else 1 for i in range(x.ndim)], axis
        )
        inside = inside & (place >= start) & (place < start + side)
    return _draw.nan_where_rate_invalid(jnp.where(inside, fill, x), draw.keep_prob)
