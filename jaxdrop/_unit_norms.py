"""Per-unit norms of a kernel."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import Numeric


def unit_norm(w: jax.Array, axes: Sequence[int]) -> jax.Array:
    """The Euclidean norm over some axes, kept with size 1; its gradient at 0 is 0, not NaN.

    Squares neither overflow nor underflow: they are taken after division by a power of two near the
    largest entry, which rounds nothing.
    """
    axes = tuple(axes)
    scale = _power_of_two(jax.lax.stop_gradient(jnp.max(jnp.abs(w), axes, keepdims=True, initial=0)))
    squares = jnp.sum(jnp.square(w / scale), axes, keepdims=True)
    some = squares != 0
    return scale * jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1)), 0)


def scaled_to(w: jax.Array, lengths: jax.Array, norm: Numeric) -> jax.Array:
    """The weights of norms `lengths`, which are not 0, at another norm."""
    ratio, limits = norm / lengths, jnp.finfo(w.dtype)
    fits = (ratio >= limits.tiny) & (ratio <= limits.max)
    return jnp.where(fits, w * jnp.where(fits, ratio, 1), (w / lengths) * norm)


def _power_of_two(largest: jax.Array) -> jax.Array:
    """The power of two at or below a finite number above 0, and else 1."""
    limits = jnp.finfo(largest.dtype)
    _, exponent = jnp.frexp(largest)
    exponent = jnp.clip(exponent - 1, int(limits.minexp), int(limits.maxexp) - 1)
    return jnp.where((largest > 0) & (largest < jnp.inf), jnp.ldexp(jnp.ones_like(largest), exponent), 1)


def axes_of_unit(w: jax.Array, unit_axis: int | Sequence[int]) -> tuple[int, ...]:
    """The axes of the weights of one unit: all except those that index the units."""
    units = (unit_axis,) if isinstance(unit_axis, int) else unit_axis
    numbered = _checks.check_axes(units, w.ndim, "unit_axis")
    return tuple(axis for axis in range(w.ndim) if axis not in numbered)
