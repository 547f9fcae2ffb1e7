"""DropKey: drops keys of attention before the softmax. Li et al., 2023."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops import _remat


def drop_key(
    key: Key,
    logits: ArrayLike,
    rate: Rate,
    *,
    mask: ArrayLike | None = None,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Hides keys from queries with probability `rate`, before the softmax.

    The softmax that follows shares the weight among the keys that are left, so nothing is scaled.
    A row that would lose every key that it may see keeps them all, so the softmax is never of
    nothing. What is hidden gets the smallest finite number of the dtype, which is safe in half
    precision. Rate 0 hides only what `mask` hides.

    Hand over as `mask` what a query may not see, so that it is not counted as a key that is left.
    Of logits that are -inf already this is made good (the softmax then goes to the keys that it
    may see and that are hidden); of others it cannot be known.

    Args:
      key: A PRNG key, used once.
      logits: Floating-point logits, `[..., Q, K]`, as they go into the softmax over the last axis.
      rate: The probability of hiding a key, in [0, 1); may be traced, or an array that broadcasts
        to `logits`. It has no gradient.
      mask: Which keys a query may see at all: boolean, True is allowed; it broadcasts to `logits`.
      broadcast_dims: Axes along which one decision is shared; not the last.
      bits: Random bits a decision: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape, dtype and sharding of `logits`.

    Raises:
      TypeError: If `logits` are not floating-point or `mask` not boolean.
      ValueError: If a concrete rate is outside [0, 1), or shapes or axes do not fit.

    References:
      Li et al., "DropKey for vision transformer", 2023.

    >>> jax.nn.softmax(drop_key(jax.random.key(0), jnp.zeros((2, 4)), 0.5))
    Array([[0.33333334, 0.33333334, 0.33333334, 0.        ],
           [0.        , 0.5       , 0.5       , 0.        ]], dtype=float32)
    """
    logits, rate = _checks.check_floating(logits, "logits"), _checks.check_rate(rate)
    draw, allowed, shape = _prepare(logits.shape, rate, mask, broadcast_dims, bits)
    if _checks.is_scalar(rate, 0):
        return logits if mask is None else jnp.where(allowed, logits, jnp.finfo(logits.dtype).min)
    return _drop_key(key, logits, (draw, allowed), shape=shape)


def drop_key_mask(
    key: Key,
    shape: Sequence[int],
    rate: Rate,
    *,
    mask: ArrayLike | None = None,
    broadcast_dims: Sequence[int] = (),
    bits: Bits = None,
) -> jax.Array:
    """Draws the mask of `drop_key`: True is a key that a query still sees.

    Args:
      key: A PRNG key, used once.
      shape: The shape of the logits, `[..., Q, K]`.
      rate: The probability of hiding a key, in [0, 1); as for `drop_key`.
      mask: Which keys a query may see at all; it broadcasts to `shape`.
      broadcast_dims: Axes along which one decision is shared; not the last.
      bits: As for `drop_key`.

    Returns:
      A boolean array of shape `shape`: within `mask`, and with a key in each row that had one.

    Raises:
      TypeError: If `mask` is not boolean.
      ValueError: As `drop_key`.

    >>> drop_key_mask(jax.random.key(0), (2, 4), 0.5)
    Array([[ True,  True,  True, False],
           [False,  True,  True, False]], dtype=bool)
    """
    sizes, rate = _checks.check_shape(shape), _checks.check_rate(rate)
    draw, allowed, drawn = _prepare(sizes, rate, mask, broadcast_dims, bits)
    if _checks.is_scalar(rate, 0):
        return jnp.broadcast_to(allowed, sizes)
    return jnp.broadcast_to(_drop_key_mask(key, (draw, allowed), shape=drawn), sizes)


def _prepare(
    shape: tuple[int, ...],
    rate: Rate,
    mask: ArrayLike | None,
    broadcast_dims: Sequence[int],
    bits: Bits,
) -> tuple[_draw.Draw, ArrayLike | np.bool_, tuple[int, ...]]:
    """The draw, the keys that may be seen, and the shape of the decisions."""
    if not shape:
        raise ValueError("`logits` must be of shape [..., Q, K], got ().")
    shared = _checks.check_axes(broadcast_dims, len(shape), "broadcast_dims")
    if len(shape) - 1 in shared:
        raise ValueError("`broadcast_dims` must not hold the last axis, that of the keys.")
    drawn = tuple(1 if axis in shared else size for axis, size in enumerate(shape))
    rate = _checks.check_below_one(rate)
    draw = _draw.prepare(rate, drawn, bits)
    if isinstance(draw.keep_prob, jax.Array):
        draw = _draw.draw_of(jnp.where(draw.keep_prob == 0, jnp.nan, draw.keep_prob), draw.width)
    allowed = np.True_ if mask is None else _checked_mask(mask, shape)
    return draw, allowed, drawn


def _kept(seed: _bits.Seed, level: tuple, shape: tuple) -> jax.Array:
    draw, allowed = level
    kept = _draw.draw_mask(seed, draw, shape) & allowed
    return jnp.where(kept.any(-1, keepdims=True), kept, allowed)


@_remat.redraw_in_backward("shape")
def _drop_key(seed: _bits.Seed, logits: jax.Array, level: tuple, *, shape: tuple) -> jax.Array:
    # What is infinitely unlikely already stays so.
    hidden = jnp.where(logits == -jnp.inf, -jnp.inf, jnp.finfo(logits.dtype).min).astype(logits.dtype)
    y = _draw.where_like(_kept(seed, level, shape), logits, hidden)
    return _draw.nan_where_rate_invalid(y, level[0].keep_prob)


@partial(jax.jit, static_argnames="shape")
def _drop_key_mask(key: Key, level: tuple, *, shape: tuple) -> jax.Array:
    return _kept(_bits.consume(key), level, shape)


def _checked_mask(mask: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"`mask` must be a boolean array, got {mask.dtype}.")
    return _checks.check_broadcastable(mask, shape, "mask")
