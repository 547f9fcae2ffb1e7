"""Per-unit norms of a kernel."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdrop import _checks


def unit_norm(w: jax.Array, axes: Sequence[int]) -> jax.Array:
    """The Euclidean norm over some axes, kept with size 1; its gradient at 0 is 0, not NaN."""
    squares = jnp.sum(jnp.square(w), tuple(axes), keepdims=True)
    some = squares > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1)), 0)


def axes_of_unit(w: jax.Array, unit_axis: int | Sequence[int]) -> tuple[int, ...]:
    """The axes of the weights of one unit: all except those that index the units."""
    units = (unit_axis,) if isinstance(unit_axis, int) else unit_axis
    numbered = _checks.check_axes(units, w.ndim, "unit_axis")
    return tuple(axis for axis in range(w.ndim) if axis not in numbered)
