"""DropBlock: zeroes contiguous blocks of feature maps. Ghiasi, Lin and Le, 2018."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _draw, _visible
from jaxdrop._types import ArrayLike, Key, Numeric, Rate
from jaxdrop.drops import _remat

__all__ = ["block_mask", "drop_block"]

# Blocks begin rarely, so their small rate needs 24 bits.
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
    """Zeroes blocks of each feature map, a fraction `rate` of it on average, and scales the rest.

    Blocks lie wholly within the map and may overlap. They begin at the rate that makes the expected
    dropped fraction exactly `rate`, for every size of map and block; the usual formula is an
    approximation for small blocks in large maps. Each example is scaled by its number of elements
    divided by the number kept, and by one over the probability that any is kept. This keeps the
    mean, and no example depends on another. Rate 0 is the identity, rate 1 gives zeros. The backward
    pass redraws the mask from the key; no mask is stored.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch, `[B, ..., C]`, with one to three axes between.
      rate: Probability that an element is dropped, in [0, 1]: a scalar, or an array that broadcasts
        to `[B, 1, ..., 1, C]`; may be traced; no gradient.
      block_size: Side of a block, or its sides: odd, at least 1 and at most the map's. Size 1 is
        `dropout` with another scale.
      channel_axis: Axis of the channels; not 0.
      broadcast_dims: Axes along which the blocks are shared, such as that of the channels; not
        those of the map.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point, or a side not an integer.
      ValueError: If a concrete rate is outside [0, 1], a side is even or out of range, or an axis
        is out of range or of the map; or if a concrete rate may drop whole examples so often that the
        mean is not kept to 1 %, with a side that is less than half of the map's.

    References:
      Ghiasi, Lin and Le, "DropBlock: a regularization method for convolutional networks", 2018.

    Examples:
      >>> drop_block(jax.random.key(4), jnp.ones((1, 4, 5, 1)), 0.4, block_size=3)[0, ..., 0]
      Array([[1.820324, 1.820324, 1.820324, 1.820324, 1.820324],
             [0.      , 0.      , 0.      , 1.820324, 1.820324],
             [0.      , 0.      , 0.      , 1.820324, 1.820324],
             [0.      , 0.      , 0.      , 1.820324, 1.820324]], dtype=float32)
    """
    x, rate = _checks.check_floating(x), _checks.check_rate(rate)
    rate, plan = _plan(x.shape, rate, block_size, channel_axis, broadcast_dims)
    if _checks.is_trivial_rate(rate):
        return _remat.all_or_nothing(x, rate)
    draw = _start_draw(rate, plan)
    _check_mean(rate, draw, plan)
    return _drop_block(key, x, draw, plan=plan)


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
      shape: Shape of the batch to be masked, `[B, ..., C]`, with one to three axes between.
      rate: Probability that an element is dropped, in [0, 1]: a scalar, or an array that broadcasts
        to `[B, 1, ..., 1, C]`; may be traced; no gradient.
      block_size: Side of a block, or its sides: odd, at least 1 and at most the map's.
      channel_axis: Axis of the channels; not 0.
      broadcast_dims: Axes along which the blocks are shared, such as that of the channels; not
        those of the map. They have size 1 in the result.

    Returns:
      Boolean array of shape `shape`, with 1 at `broadcast_dims`.

    Raises:
      TypeError: If a side is not an integer.
      ValueError: If a concrete rate is outside [0, 1], a side is even or out of range, or an axis
        is out of range or of the map.

    Examples:
      >>> mask = block_mask(jax.random.key(0), (256, 14, 14, 64), 0.1, block_size=7)
      >>> print(f"{1 - mask.mean():.2f}")  # the usual formula drops 0.093
      0.10
    """
    rate = _checks.check_rate(rate)
    rate, plan = _plan(_checks.check_shape(shape), rate, block_size, channel_axis, broadcast_dims)
    return _block_mask(_checks.check_key(key), _start_draw(rate, plan), plan=plan)


class _Plan(NamedTuple):
    """The shape of the mask, and the pairs (axis of the map, side of the block)."""

    shape: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]


def _plan(
    shape: tuple[int, ...],
    rate: Rate,
    block_size: int | Sequence[int],
    channel_axis: int,
    broadcast_dims: Sequence[int],
) -> tuple[Numeric, _Plan]:
    axes = _checks.feature_map_dims(shape, channel_axis)
    if not 1 <= len(axes) <= 3:
        raise ValueError(f"`x` must be of shape [B, ..., C] with one to three axes between, got {shape}.")
    sides = _checks.check_window(block_size, tuple(shape[axis] for axis in axes), "block_size", odd=True)
    shared = _checks.check_axes(broadcast_dims, len(shape), "broadcast_dims")
    if set(shared) & set(axes):
        raise ValueError(
            f"`broadcast_dims` must not contain axes of the map, {axes}, got {tuple(broadcast_dims)}."
        )
    drawn = _checks.check_shared(shape, shared)
    of_rate = tuple(1 if axis in axes else size for axis, size in enumerate(drawn))
    rate = _checks.check_broadcastable(rate, of_rate, "rate")
    return rate, _Plan(drawn, tuple(zip(axes, sides, strict=True)))


def _start_draw(rate: Rate, plan: _Plan) -> _checks.Draw:
    """The draw whose kept places begin no block."""
    rate = _start_rate(_checks.without_gradient(rate), plan)
    return _checks.draw_of(_checks.realized_keep_prob(rate, _WIDTH), _WIDTH)


def _start_rate(rate: ArrayLike, plan: _Plan) -> ArrayLike:
    """The rate g of block starts that drops the fraction `rate`: 1 - mean((1 - g)**n) = rate, by bisection.

    n is the number of possible blocks that cover an element; it is smaller near the border.
    """
    covers = np.ones((), np.int64)
    for axis, side in plan.windows:
        place, last = np.arange(plan.shape[axis]), plan.shape[axis] - side
        covers = np.multiply.outer(covers, np.minimum(place, last) - np.maximum(place - side + 1, 0) + 1)
    n, count = np.unique(covers, return_counts=True)
    traced = isinstance(rate, jax.Array)
    xp: Any = jnp if traced else np  # a module with NumPy's interface has no type
    dtype = np.float32 if traced else np.float64
    rate = xp.asarray(rate, dtype)
    covering = n.astype(dtype).reshape((1,) * rate.ndim + (-1,))
    weights = (count / count.sum()).astype(dtype)

    def half(_: ArrayLike | int, bounds: tuple[ArrayLike, ArrayLike]) -> tuple[ArrayLike, ArrayLike]:
        low, high = bounds
        middle = (low + high) / 2
        dropped = -xp.expm1(covering * xp.log1p(-middle[..., None])) @ weights
        return xp.where(dropped < rate, middle, low), xp.where(dropped < rate, high, middle)

    bounds = xp.zeros_like(rate), xp.ones_like(rate)
    if traced:
        bounds = jax.lax.fori_loop(0, 40, half, bounds)
    else:
        bounds = reduce(lambda bounds, i: half(i, bounds), range(60), bounds)
    # An invalid traced rate is NaN and stays NaN.
    return xp.where((rate > 0) & (rate < 1), (bounds[0] + bounds[1]) / 2, rate)


def _drops_all(draw: _checks.Draw, plan: _Plan) -> ArrayLike:
    """The probability that an example is dropped wholly; an upper bound if `_is_bound`.

    A corner of the map is covered only by the block that begins there. If no side is less than half
    of the map's, the blocks of the corners cover all of it.
    """
    # The batch axis may be symbolic.
    needed, drawn = 1, [*(np.shape(draw.keep_prob)[:1] or (1,)), *plan.shape[1:]]
    for axis, side in plan.windows:
        needed *= plan.shape[axis] if side == 1 else min(2, plan.shape[axis] - side + 1)
        drawn[axis] = 1
    xp: Any = jnp if isinstance(draw.keep_prob, jax.Array) else np
    begin = xp.broadcast_to((1 - draw.keep_prob) ** needed, drawn)
    return begin.prod(tuple(range(1, len(drawn))), keepdims=True)


def _is_bound(plan: _Plan) -> bool:
    return any(1 < side < plan.shape[axis] / 2 for axis, side in plan.windows)


def _check_mean(rate: Numeric, draw: _checks.Draw, plan: _Plan) -> None:
    """Raises if a mean is lost that cannot be known."""
    if not (_is_bound(plan) and _checks.is_concrete(rate)):
        return
    lost = np.asarray(_drops_all(draw, plan))
    if ((lost > 0.01) & (np.asarray(rate) < 1)).any():
        raise ValueError(
            "`block_size` must be at least half of the map's sides at a rate that may drop whole examples, "
            f"got sides {tuple(side for _, side in plan.windows)} and a rate of {np.max(rate):g}."
        )


def _keep(seed: _bits.Seed, draw: _checks.Draw, plan: _Plan) -> jax.Array:
    starts = list(plan.shape)
    for axis, side in plan.windows:
        starts[axis] -= side - 1
    begins = ~_draw.draw_mask(seed, draw, tuple(starts))
    if seed.impl == _visible.IMPL:
        return ~_spread_at_once(begins, plan.windows)
    return ~reduce(lambda block, window: _spread(block, *window), plan.windows, begins)


def _spread_at_once(marks: jax.Array, windows: Sequence[tuple[int, int]]) -> jax.Array:
    """`_spread` along all axes as one pooling layer, whose moments are known."""
    sides = [dict(windows).get(axis, 1) for axis in range(marks.ndim)]
    padding = [(side - 1, side - 1) for side in sides]
    return jax.lax.reduce_window(marks, False, jax.lax.max, sides, (1,) * marks.ndim, padding)


def _spread(marks: jax.Array, axis: int, side: int) -> jax.Array:
    """Extends each mark to `side` places along the axis, in log2(side) steps."""
    padding = [(side - 1, side - 1, 0) if i == axis else (0, 0, 0) for i in range(marks.ndim)]
    marks, reach = jax.lax.pad(marks, False, padding), 1
    while reach < side:
        step, size = min(reach, side - reach), marks.shape[axis]
        cut: Callable = partial(jax.lax.slice_in_dim, marks, axis=axis)
        marks, reach = cut(0, size - step) | cut(step, size), reach + step
    return marks


@_remat.redraw_in_backward("plan")
def _drop_block(seed: _bits.Seed, x: jax.Array, draw: _checks.Draw, *, plan: _Plan) -> jax.Array:
    keep = _keep(seed, draw, plan)
    mean = keep.mean(tuple(range(1, x.ndim)), keepdims=True, dtype=_checks.widened(x.dtype))
    any_kept = 1 if _is_bound(plan) else 1 - _drops_all(draw, plan).astype(mean.dtype)
    y = x.astype(mean.dtype) / jnp.where(mean > 0, mean * any_kept, 1)
    return _draw.nan_where_rate_invalid(jnp.where(keep, y, 0), draw.keep_prob).astype(x.dtype)


@partial(jax.jit, static_argnames="plan")
def _block_mask(key: Key, draw: _checks.Draw, *, plan: _Plan) -> jax.Array:
    return _keep(_bits.consume(key), draw, plan)
