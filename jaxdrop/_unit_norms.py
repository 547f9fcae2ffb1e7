"""Per-unit norms of a kernel, and cosines between units."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

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


def cosines(w: jax.Array, layers: Sequence[int], units: Sequence[int]) -> jax.Array:
    """The matrices of cosines between the units of each layer, `[layers, units, units]`.

    The diagonals are zeros. `layers` and `units` are the axes that index them; the others are those of
    the weights of a unit.
    """
    w = _gathered(w, layers)
    weights = [axis for axis in range(w.ndim) if axis not in (*layers, *units)]
    lengths = unit_norm(w, weights)
    ordered = jnp.transpose(w / jnp.where(lengths > 0, lengths, 1), (*layers, *units, *weights))
    count = math.prod(w.shape[axis] for axis in units)
    size = math.prod(w.shape[axis] for axis in weights)
    rows = ordered.reshape(*ordered.shape[: len(layers)], count, size)
    found = jnp.matmul(rows, jnp.swapaxes(rows, -1, -2), precision=jax.lax.Precision.HIGHEST)
    others = 1 - jnp.eye(count, dtype=w.dtype)
    return found * others.reshape((1,) * len(layers) + others.shape)


def _gathered(w: jax.Array, layers: Sequence[int]) -> jax.Array:
    """The weights with all pairs of units of a layer on one device, if their sharding is explicit."""
    sharding = jax.typeof(w).sharding
    kept = [name if axis in layers else None for axis, name in enumerate(sharding.spec)]
    if list(sharding.spec) == kept:
        return w
    return jax.sharding.reshard(w, NamedSharding(sharding.mesh, PartitionSpec(*kept)))


def _power_of_two(largest: jax.Array) -> jax.Array:
    """The power of two at or below a finite number above 0, and else 1."""
    limits = jnp.finfo(largest.dtype)
    _, exponent = jnp.frexp(largest)
    exponent = jnp.clip(exponent - 1, int(limits.minexp), int(limits.maxexp) - 1)
    return jnp.where((largest > 0) & (largest < jnp.inf), jnp.ldexp(jnp.ones_like(largest), exponent), 1)
