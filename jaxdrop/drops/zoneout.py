"""Zoneout: keeps parts of the old state of a recurrent network. Krueger et al., 2017."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.drops import _remat


def zoneout(key: Key, new: ArrayLike, old: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Takes each element from the old state with probability `rate`, else from the new.

    The mean is `zoneout_mean(new, old, rate)`, which is what evaluation uses. Rate 0 gives the new
    state, rate 1 the old. The backward pass draws the mask again from the key.

    Args:
      key: A PRNG key, used once; a new one for each time step.
      new: The floating-point state that the cell has made, of any shape.
      old: The state before, of the same shape and dtype.
      rate: The probability of staying, in [0, 1]; may be traced, or an array that broadcasts to
        `new`. It has no gradient.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape, dtype and sharding of `new`.

    Raises:
      TypeError: If `new` is not floating-point.
      ValueError: If the two differ in shape or dtype, or a concrete rate is outside [0, 1] or does
        not broadcast.

    References:
      Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2017.

    >>> zoneout(jax.random.key(0), jnp.ones(6), jnp.zeros(6), 0.5)
    Array([1., 1., 1., 0., 1., 1.], dtype=float32)
    """
    new, old, rate = _checked(new, old, rate)
    draw = _draw.prepare(rate, new.shape, bits)
    if _checks.is_trivial_rate(rate):
        return new if _checks.is_scalar(rate, 0) else old
    return _zoneout(key, (new, old), draw)


def zoneout_mean(new: ArrayLike, old: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """The mean of `zoneout` over keys: `(1 - rate) * new + rate * old`, for evaluation.

    Args:
      new: As for `zoneout`.
      old: As for `zoneout`.
      rate: As for `zoneout`, and as realised by so many bits.
      bits: As for `zoneout`.

    Returns:
      An array of the shape and dtype of `new`.

    Raises:
      TypeError: As `zoneout`.
      ValueError: As `zoneout`.

    >>> zoneout_mean(jnp.ones(2), jnp.zeros(2), 0.25)
    Array([0.75, 0.75], dtype=float32)
    """
    new, old, rate = _checked(new, old, rate)
    wide, draw = _draw.widened(new.dtype), _draw.prepare(rate, new.shape, bits)
    if _checks.is_trivial_rate(rate):
        return new if _checks.is_scalar(rate, 0) else old
    keep_prob = jnp.asarray(draw.keep_prob, wide)
    return (keep_prob * new.astype(wide) + (1 - keep_prob) * old.astype(wide)).astype(new.dtype)


@_remat.redraw_in_backward()
def _zoneout(seed: _bits.Seed, states: tuple, draw: _draw.Draw) -> jax.Array:
    new, old = states
    y = _draw.where_like(_draw.draw_mask(seed, draw, new.shape), new, old)
    return _draw.nan_where_rate_invalid(y, draw.keep_prob)


def _checked(new: ArrayLike, old: ArrayLike, rate: Rate) -> tuple[jax.Array, jax.Array, Numeric]:
    new = _checks.check_floating(new, "new")
    old = _checks.check_same_array(jnp.asarray(old), new, "old", "new")
    rate = _checks.check_broadcastable(_checks.check_rate(rate), new.shape, "rate")
    return new, old, rate
