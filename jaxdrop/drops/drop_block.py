"""DropBlock: zeroes contiguous blocks of feature maps. Ghiasi, Lin and Le, 2018."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Key, Numeric, Rate
from jaxdrop.drops import _remat

# Seeds are rare, so their rate takes the bits of a small one.
_WIDTH = 24


def drop_block(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    block_size: int | Sequence[int],
    channel_axis: int = -1,
    broadcast_dims: Sequence[int] = (),
) -> jax.Array:
    """Zeroes blocks of each feature map, so that a share `rate` of it is dropped, and scales the rest.

    Blocks lie whole within the map and may overlap. They are sown at the rate that makes the
    expected share of dropped elements `rate` exactly, for every size of map and block; the usual
    formula is an approximation for small blocks in large maps. What is kept is scaled, in each
    example by itself, by its number of elements over those kept, so that the sum over an example
    of ones is kept exactly (but where all of it is dropped), and no example depends on another.
    Rate 0 is the identity, rate 1 gives zeros. The backward pass draws the mask again from the
    key; nothing is stored for it.

    Args:
      key: A PRNG key, used once.
      x: A floating-point batch, `[B, ..., C]`, with one to three axes between.
      rate: The share to drop, in [0, 1]; may be traced, or an array that broadcasts to
        `[B, 1, ..., 1, C]`. It has no gradient.
      block_size: The side of a block, or its sides: odd, at least 1 and at most the map's. With 1
        it is `dropout`, but for the scale.
      channel_axis: The axis of the channels; not 0.
      broadcast_dims: Axes along which the blocks are shared, such as that of the channels; not
        those of the map.

    Returns:
      An array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point, or a side not an integer.
      ValueError: If a concrete rate is outside [0, 1], a side is even or out of range, or an axis
        is out of range or of the map.

    References:
      Ghiasi, Lin and Le, "DropBlock: a regularization method for convolutional networks", 2018.

    >>> drop_block(jax.random.key(4), jnp.ones((1, 4, 5, 1)), 0.4, block_size=3)[0, ..., 0]
    Array([[1.8181818, 1.8181818, 1.8181818, 1.8181818, 1.8181818],
           [0.       , 0.       , 0.       , 1.8181818, 1.8181818],
           [0.       , 0.       , 0.       , 1.8181818, 1.8181818],
           [0.       , 0.       , 0.       , 1.8181818, 1.8181818]],      dtype=float32)
    """
    x, rate = _checks.check_floating(x), _checks.check_rate(rate)
    rate, plan = _plan(x.shape, rate, block_size, channel_axis, broadcast_dims)
    if _checks.is_trivial_rate(rate):
        return _remat.all_or_nothing(x, rate)
    return _drop_block(key, x, _sowing(rate, plan), plan=plan)


def block_mask(
    key: Key,
    shape: Sequence[int],
    rate: Rate,
    *,
    block_size: int | Sequence[int],
    channel_axis: int = -1,
    broadcast_dims: Sequence[int] = (),
) -> jax.Array:
    """Draws the mask of `drop_block`: True is kept.

    Args:
      key: A PRNG key, used once.
      shape: The shape of the batch to be masked, `[B, ..., C]`.
      rate: The expected share of False; as for `drop_block`.
      block_size: As for `drop_block`.
      channel_axis: As for `drop_block`.
      broadcast_dims: As for `drop_block`; they have size 1 in the result.

    Returns:
      A boolean array of shape `shape`, with 1 at `broadcast_dims`.

    Raises:
      TypeError: As `drop_block`.
      ValueError: As `drop_block`.

    >>> mask = block_mask(jax.random.key(0), (256, 14, 14, 64), 0.1, block_size=7)
    >>> print(f"{1 - mask.mean():.2f}")  # the usual formula drops 0.093
    0.10
    """
    rate = _checks.check_rate(rate)
    rate, plan = _plan(_checks.check_shape(shape), rate, block_size, channel_axis, broadcast_dims)
    return _block_mask(key, _sowing(rate, plan), plan=plan)


# The shape of the mask, and for each axis of the map its block's side.
Plan = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]


def _plan(
    shape: tuple[int, ...],
    rate: Rate,
    block_size: int | Sequence[int],
    channel_axis: int,
    broadcast_dims: Sequence[int],
) -> tuple[Numeric, Plan]:
    axes = _checks.feature_map_dims(shape, channel_axis)
    if not 1 <= len(axes) <= 3:
        raise ValueError(f"`x` must be of shape [B, ..., C] with one to three axes between, got {shape}.")
    sides = _checks.check_window(block_size, tuple(shape[axis] for axis in axes), "block_size", odd=True)
    shared = _checks.check_axes(broadcast_dims, len(shape), "broadcast_dims")
    if set(shared) & set(axes):
        raise ValueError(
            f"`broadcast_dims` must not hold axes of the map, {axes}, got {tuple(broadcast_dims)}."
        )
    drawn = tuple(1 if axis in shared else size for axis, size in enumerate(shape))
    of_rate = tuple(1 if axis in axes else size for axis, size in enumerate(drawn))
    rate = _checks.check_broadcastable(rate, of_rate, "rate")
    return rate, (drawn, tuple(zip(axes, sides, strict=True)))


def _sowing(rate: Rate, plan: Plan) -> _draw.Draw:
    """The draw of the places where no block begins."""
    rate = _sowing_rate(_draw.without_gradient(rate), plan)
    return _draw.draw_of(_draw.realized_keep_prob(rate, _WIDTH), _WIDTH)


def _sowing_rate(rate: ArrayLike, plan: Plan) -> ArrayLike:
    """The rate g of blocks that drops the asked share: 1 - mean((1 - g)**n) = rate, by bisection.

    n is how many blocks cover an element: in each direction it is smaller near the border.
    """
    shape, windows = plan
    covers = np.ones((), np.int64)
    for axis, side in windows:
        place, last = np.arange(shape[axis]), shape[axis] - side
        covers = np.multiply.outer(covers, np.minimum(place, last) - np.maximum(place - side + 1, 0) + 1)
    n, count = np.unique(covers, return_counts=True)
    traced = isinstance(rate, jax.Array)
    xp: Any = jnp if traced else np
    dtype = np.float32 if traced else np.float64
    rate = xp.asarray(rate, dtype)
    covering = n.astype(dtype).reshape((1,) * rate.ndim + (-1,))
    weights = (count / count.sum()).astype(dtype)

    def half(_: Any, bounds: tuple) -> tuple:
        low, high = bounds
        middle = (low + high) / 2
        dropped = -xp.expm1(covering * xp.log1p(-middle[..., None])) @ weights
        return xp.where(dropped < rate, middle, low), xp.where(dropped < rate, high, middle)

    bounds = xp.zeros_like(rate), xp.ones_like(rate)
    if traced:
        bounds = jax.lax.fori_loop(0, 40, half, bounds)
    else:
        bounds = reduce(lambda bounds, i: half(i, bounds), range(60), bounds)
    # Out of range it stays what it is: NaN.
    return xp.where((rate > 0) & (rate < 1), (bounds[0] + bounds[1]) / 2, rate)


def _keep(seed: _bits.Seed, draw: _draw.Draw, plan: Plan) -> jax.Array:
    shape, windows = plan
    sown = list(shape)
    for axis, side in windows:
        sown[axis] -= side - 1
    begins = ~_draw.draw_mask(seed, draw, tuple(sown))
    return ~reduce(lambda block, window: _spread(block, *window), windows, begins)


def _spread(marks: jax.Array, axis: int, side: int) -> jax.Array:
    """Marks the `side` places that follow from each mark on, in log2(side) steps."""
    padding = [(side - 1, side - 1, 0) if i == axis else (0, 0, 0) for i in range(marks.ndim)]
    marks, reach = jax.lax.pad(marks, False, padding), 1
    while reach < side:
        step, size = min(reach, side - reach), marks.shape[axis]
        cut: Callable = partial(jax.lax.slice_in_dim, marks, axis=axis)
        marks, reach = cut(0, size - step) | cut(step, size), reach + step
    return marks


@_remat.redraw_in_backward("plan")
def _drop_block(seed: _bits.Seed, x: jax.Array, draw: _draw.Draw, *, plan: Plan) -> jax.Array:
    keep = _keep(seed, draw, plan)
    mean = keep.mean(tuple(range(1, x.ndim)), keepdims=True, dtype=_draw.widened(x.dtype))
    y = x.astype(mean.dtype) / jnp.where(mean > 0, mean, 1)
    return _draw.nan_where_rate_invalid(jnp.where(keep, y, 0), draw.keep_prob).astype(x.dtype)


@partial(jax.jit, static_argnames="plan")
def _block_mask(key: Key, draw: _draw.Draw, *, plan: Plan) -> jax.Array:
    return _keep(_bits.consume(key), draw, plan)
