"""What the functions that mix examples share: partners, weights, and the mixture."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks, _meshes
from jaxdrop._types import ArrayLike, Key, Numeric


def check_batch(x: ArrayLike, y: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Inputs and soft labels of the same examples."""
    x = _checks.check_rank(_checks.check_floating(x), 1, "[B, ...]")
    y = _checks.check_array(y, "y", "a floating-point array")
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(
            f"`y` must be a floating-point array, such as `jax.nn.one_hot(y, num_classes)`, got {y.dtype}."
        )
    if _checks.check_rank(y, 1, "[B, ...]", "y").shape[0] != x.shape[0]:
        raise ValueError(
            f"`y` must have as many examples as `x`, got shape {y.shape} and `x` of shape {x.shape}."
        )
    return x, y


def check_alpha(alpha: Numeric) -> ArrayLike | float:
    """A scalar, finite and at least 0, as float32; NaN where a traced one is not; 0 stays a number."""
    alpha = _checks.check_nonnegative(_checks.check_scalar(alpha, "alpha"), "alpha")
    if _checks.is_concrete(alpha):
        return 0.0 if _checks.is_scalar(alpha, 0) else np.asarray(alpha, np.float32)
    alpha = jax.lax.stop_gradient(jnp.asarray(alpha, jnp.float32))
    return jnp.where((alpha >= 0) & jnp.isfinite(alpha), alpha, jnp.nan)


class Pairs(NamedTuple):
    """Partners of a batch, and how they are mixed.

    Attributes:
      rows: The index of each example's partner, a uniformly random permutation, int32 `[B]`.
      part: The smaller part of each mixture, in [0, 1/2], float32 `[B]` or, for one per batch, `[1]`.
      words: Two random words of each part, of shape `[B or 1, 1 + more]`. Of the first column the high
        23 bits are used.
    """

    rows: jax.Array
    part: jax.Array
    words: tuple[jax.Array, jax.Array]


@partial(jax.jit, static_argnames=("size", "per_example", "more"))
def draw(key: Key, alpha: ArrayLike, *, size: int, per_example: bool, more: int = 0) -> Pairs:
    """The pairs of a batch of this size, the same for any number of words."""
    pair = _bits.words(_bits.consume(key), (size, 2 + more))
    first, second = (word[:, 0] for word in pair)
    rows = jnp.lexsort((second, first)).astype(jnp.int32)
    count = size if per_example else 1
    first, second = (word[:count, 1:] for word in pair)
    return Pairs(rows, smaller_part(first[:, 0], second[:, 0], alpha), (first, second))


def smaller_part(first: jax.Array, second: jax.Array, alpha: ArrayLike) -> jax.Array:
    """The smaller of b and 1 - b, for b from Beta(alpha, alpha), from two random words; float32.

    b = (1 + t / sqrt(2 alpha + t**2)) / 2, where t has Student's distribution with 2 alpha degrees of
    freedom, drawn by Bailey's polar method ("Polar generation of random variates with the
    t-distribution", 1994). It needs no rejection and is accurate for every alpha.
    """
    exponent = -jnp.log1p(-uniform(first)) / alpha
    # t**2 / (2 alpha). The bound keeps it finite; at it, the part is below 1e-14.
    square = jnp.expm1(jnp.minimum(exponent, 64)) * jnp.sin(np.float32(np.pi / 2) * uniform(second)) ** 2
    part = 0.5 / ((1 + square) * (1 + jnp.sqrt(square / (1 + square))))
    return jnp.where(alpha == 0, 0, part)


def uniform(word: jax.Array) -> jax.Array:
    """Float32 in the open interval (0, 1), from the high 23 bits: odd multiples of 2**-24."""
    return ((word >> np.uint32(9)).astype(jnp.float32) + 0.5) * np.float32(2.0**-23)


def per_example(values: jax.Array, x: jax.Array) -> jax.Array:
    """Values of shape [B] or [1], with axes of size one for the other axes of `x`."""
    return values.reshape(values.shape + (1,) * (x.ndim - 1))


def taken(x: jax.Array, rows: jax.Array) -> jax.Array:
    """`x[rows]` for a permutation, sharded like `x`."""

    def gather(x: jax.Array, rows: jax.Array) -> jax.Array:
        return x.at[rows].get(unique_indices=True, mode="promise_in_bounds")

    return _meshes.on_automatic_axes(gather, x, rows, out=_meshes.partition(x))


def mixed(x: jax.Array, rows: jax.Array, part: jax.Array) -> jax.Array:
    """`(1 - part) * x + part * x[rows]`, in float32 or wider; exactly `x` where the part is 0."""
    wide = _checks.widened(x.dtype)
    own, other = x.astype(wide), taken(x, rows).astype(wide)
    part = per_example(part.astype(wide), x)
    return jnp.where(part == 0, own, own + part * (other - own)).astype(x.dtype)
