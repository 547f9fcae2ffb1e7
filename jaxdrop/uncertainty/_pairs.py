"""Sums in two floating-point numbers, `[2, ...]`: a rounded sum, and what the rounding left out.

In float32 a pair has 48 bits, and about 38 after a million additions: a difference of large sums has digits
left. Pairs also add as plain arrays, at the precision of one number.
"""

import jax
import jax.numpy as jnp

Pair = tuple[jax.Array, jax.Array]


def total(high: jax.Array, low: jax.Array | None = None) -> jax.Array:
    """The sum along the first axis of numbers, or of pairs of numbers."""
    zero = jnp.zeros((), high.dtype)
    low = jnp.zeros_like(high) if low is None else low
    return jnp.stack(jax.lax.reduce((high, low), (zero, zero), _added, (0,)))


def of_squares(values: jax.Array) -> jax.Array:
    """The sum of squares along the first axis, whose rounding errors count too."""
    return total(*_product(values, values))


def of_count(count: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """An integer as a pair."""
    high = count.astype(dtype)
    return jnp.stack([high, (count - high.astype(count.dtype)).astype(dtype)])


@jax.jit
def add(a: jax.Array, b: jax.Array) -> jax.Array:
    """The sum of two pairs."""
    return jnp.stack(_added((a[0], a[1]), (b[0], b[1])))


def scaled(pair: jax.Array, by: jax.Array) -> jax.Array:
    """A pair times a number."""
    high, low = _product(pair[0], by)
    return jnp.stack(_two_sum(high, low + pair[1] * by))


def _added(a: Pair, b: Pair) -> Pair:
    high, low = _two_sum(a[0], b[0])
    return _two_sum(high, low + (a[1] + b[1]))


def _two_sum(a: jax.Array, b: jax.Array) -> Pair:
    """The sum and its rounding error, exactly (Knuth); an infinite sum has none."""
    high = a + b
    part = high - a
    low = (a - (high - part)) + (b - part)
    return high, jnp.where(jnp.isinf(high), 0, low)


def _product(a: jax.Array, b: jax.Array) -> Pair:
    """The product and its rounding error, exactly (Dekker), unless it underflows."""
    high = a * b
    (a, rest_a), (b, rest_b) = _halves(a), _halves(b)
    low = ((a * b - high) + (a * rest_b + rest_a * b)) + rest_a * rest_b
    return high, jnp.where(jnp.isfinite(high), low, 0)


def _halves(x: jax.Array) -> Pair:
    """A number as a sum of two with half of its bits, whose products are exact."""
    kind = jnp.finfo(x.dtype)
    upper = jax.lax.reduce_precision(x, kind.nexp, kind.nmant // 2)
    return upper, x - upper
