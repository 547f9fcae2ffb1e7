"""Per-unit norms of a kernel, and cosines between units."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxdrop import _checks, _names
from jaxdrop._types import Numeric, UnitAxis


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


def cosines(w: jax.Array, axes: Sequence[int]) -> jax.Array:
    """The matrix of cosines between units, with zeros on its diagonal; `axes` are those of the weights."""
    sharding = jax.typeof(w).sharding
    if any(sharding.spec):  # explicit sharding: all pairs of units must meet on a device
        w = jax.sharding.reshard(w, NamedSharding(sharding.mesh, PartitionSpec()))
    lengths = unit_norm(w, axes)
    units = jnp.moveaxis(w / jnp.where(lengths > 0, lengths, 1), axes, range(-len(axes), 0))
    rows = units.reshape(lengths.size, -1)
    found = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)
    return found * (1 - jnp.eye(lengths.size, dtype=w.dtype))


def _power_of_two(largest: jax.Array) -> jax.Array:
    """The power of two at or below a finite number above 0, and else 1."""
    limits = jnp.finfo(largest.dtype)
    _, exponent = jnp.frexp(largest)
    exponent = jnp.clip(exponent - 1, int(limits.minexp), int(limits.maxexp) - 1)
    return jnp.where((largest > 0) & (largest < jnp.inf), jnp.ldexp(jnp.ones_like(largest), exponent), 1)


def axes_of_unit(w: jax.Array, unit_axis: UnitAxis, path: str = "") -> tuple[int, ...]:
    """The axes of the weights of one unit: all except those that index the units."""
    numbered = _checks.check_axes(_names.units(path, unit_axis, w.ndim), w.ndim, "unit_axis")
    return tuple(axis for axis in range(w.ndim) if axis not in numbered)
