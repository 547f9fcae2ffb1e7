"""Zoneout: keeps random elements of a recurrent network's old state. Krueger et al., 2017."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.drops import _remat

__all__ = ["zoneout", "zoneout_mean"]


def zoneout(key: Key, new: ArrayLike, old: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """Takes each element from the old state with probability `rate`, else from the new.

    The mean is `zoneout_mean(new, old, rate)`; use it at evaluation. Rate 0 gives the new state,
    rate 1 the old. The backward pass redraws the mask from the key.

    Args:
      key: A PRNG key, used once; a new one for each time step.
      new: Floating-point new state, of any shape.
      old: Old state, of the same shape and dtype.
      rate: Probability of keeping the old element, in [0, 1]: a scalar, or an array that broadcasts
        to `new`; may be traced; no gradient.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `new`.

    Raises:
      TypeError: If `new` is not floating-point.
      ValueError: If the states differ in shape or dtype, or a concrete rate is outside [0, 1] or
        does not broadcast.

    References:
      Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2017.

    Examples:
      >>> zoneout(jax.random.key(0), jnp.ones(6), jnp.zeros(6), 0.5)
      Array([1., 1., 1., 0., 1., 1.], dtype=float32)
    """
    new, old, rate = _checked(new, old, rate)
    draw = _checks.prepare(rate, new.shape, bits)
    if _checks.is_trivial_rate(rate):
        return new if _checks.is_scalar(rate, 0) else old
    return _zoneout(key, (new, old), draw)


def zoneout_mean(new: ArrayLike, old: ArrayLike, rate: Rate, *, bits: Bits = None) -> jax.Array:
    """The mean of `zoneout` over keys: `(1 - rate) * new + rate * old`, for evaluation.

    Args:
      new: Floating-point new state, of any shape.
      old: Old state, of the same shape and dtype.
      rate: Probability of keeping the old element, in [0, 1]: a scalar, or an array that broadcasts
        to `new`; may be traced; no gradient. It is rounded as `bits` random bits realize it.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape and dtype of `new`.

    Raises:
      TypeError: If `new` is not floating-point.
      ValueError: If the states differ in shape or dtype, or a concrete rate is outside [0, 1] or
        does not broadcast.

    Examples:
      >>> zoneout_mean(jnp.ones(2), jnp.zeros(2), 0.25)
      Array([0.75, 0.75], dtype=float32)
    """
    new, old, rate = _checked(new, old, rate)
    wide, draw = _checks.widened(new.dtype), _checks.prepare(rate, new.shape, bits)
    if _checks.is_trivial_rate(rate):
        return new if _checks.is_scalar(rate, 0) else old
    keep_prob = jnp.asarray(draw.keep_prob, wide)
    return (keep_prob * new.astype(wide) + (1 - keep_prob) * old.astype(wide)).astype(new.dtype)


@_remat.redraw_in_backward()
def _zoneout(seed: _bits.Seed, states: tuple[jax.Array, jax.Array], draw: _checks.Draw) -> jax.Array:
    new, old = states
    y = _draw.where_like(_draw.draw_mask(seed, draw, new.shape), new, old)
    return _draw.nan_where_rate_invalid(y, draw.keep_prob)


def _checked(new: ArrayLike, old: ArrayLike, rate: Rate) -> tuple[jax.Array, jax.Array, Numeric]:
    new = _checks.check_floating(new, "new")
    old = _checks.check_same_array(_checks.check_array(old, "old"), new, "old", "new")
    rate = _checks.check_broadcastable(_checks.check_rate(rate), new.shape, "rate")
    return new, old, rate
