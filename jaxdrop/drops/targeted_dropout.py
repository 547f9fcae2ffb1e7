"""Targeted dropout: drops weights of small magnitude at random. Gomez et al., 2019."""

import math

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw, _unit_norms
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops import _remat

__all__ = ["targeted_dropout"]


def targeted_dropout(
    key: Key,
    kernel: ArrayLike,
    rate: Rate,
    *,
    fraction: float,
    unit: bool = False,
    bits: Bits = None,
) -> jax.Array:
    """Zeroes the smallest weights with probability `rate`, so that they can be pruned later.

    Of the n weights into each output unit, the floor(fraction * n) of smallest magnitude are
    candidates; with `unit`, the units with the smallest norms are. Candidates that tie with a kept
    weight are kept. Nothing is scaled: the network learns to do without the candidates. Rate 0 or
    fraction 0 is the identity; rate 1 is magnitude pruning.

    Args:
      key: A PRNG key, used once.
      kernel: Floating-point weights, `[..., O]`; the last axis is that of the output units.
      rate: Probability of dropping a candidate, in [0, 1]: a scalar; may be traced; no gradient.
      fraction: Fraction of weights, or units, that are candidates, in [0, 1]; a number, not traced.
      unit: Whether to drop whole units instead of single weights.
      bits: Random bits per weight or unit: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape and dtype of `kernel`. Dropped weights have no gradient.

    Raises:
      TypeError: If `kernel` is not floating-point, or `fraction` is traced or an array.
      ValueError: If `kernel` has fewer than two axes, or a rate or fraction is outside [0, 1].

    References:
      Gomez et al., "Learning sparse networks using targeted dropout", 2019.

    Examples:
      >>> targeted_dropout(jax.random.key(0), jnp.array([[1.0, 4.0], [-2.0, 3.0]]), 1.0, fraction=0.5)
      Array([[ 0.,  4.],
             [-2.,  0.]], dtype=float32)
    """
    kernel = _checks.check_rank(_checks.check_floating(kernel, "kernel"), 2, "[..., O]", "kernel")
    rate = _checks.check_scalar(_checks.check_rate(rate), "rate")
    _checks.check_number(_checks.check_rate(fraction, "fraction"), "fraction")
    draw = _checks.prepare(rate, (), bits)
    if _checks.is_scalar(rate, 0) or fraction == 0 or kernel.size == 0:
        return kernel
    return _targeted(key, kernel, draw, fraction=float(fraction), unit=unit)


def _candidates(kernel: jax.Array, fraction: float, unit: bool) -> jax.Array:
    """The mask of candidates: of the shape of the kernel, or of one decision per unit."""
    size = jnp.abs(kernel.astype(_checks.widened(kernel.dtype)))
    axes = tuple(range(kernel.ndim - 1))  # not flattened, as any of them may be sharded
    if unit:
        size, axes = _unit_norms.unit_norm(size, axes), (kernel.ndim - 1,)
    total = math.prod(size.shape[axis] for axis in axes)
    count = int(total * fraction + 1e-6)
    return jnp.ones_like(size, bool) if count == total else size < _order_statistic(size, count, axes)


def _order_statistic(size: jax.Array, count: int, axes: tuple[int, ...]) -> jax.Array:
    """The non-negative size with `count` others below it, over some axes, in one pass per bit.

    Non-negative floats are ordered like their bits. The result is built from the highest bit down:
    it is the largest value with at most `count` sizes below it. A sort takes ten times as long.
    """
    width = 8 * size.dtype.itemsize
    word = jnp.dtype(f"uint{width}")
    ranks = jax.lax.bitcast_convert_type(size, word)

    def settle(step: jax.Array, found: jax.Array) -> jax.Array:
        higher = found | jnp.asarray(1, word) << jnp.asarray(width - 2 - step, word)
        return jnp.where((ranks < higher).sum(axes, keepdims=True) <= count, higher, found)

    # Zeros with the sharding of the result.
    zeros = (ranks ^ ranks).sum(axes, keepdims=True).astype(word)
    found = jax.lax.fori_loop(0, width - 1, settle, zeros)
    return jax.lax.bitcast_convert_type(found, size.dtype)


@_remat.redraw_in_backward("fraction", "unit")
def _targeted(
    seed: _bits.Seed, kernel: jax.Array, draw: _checks.Draw, *, fraction: float, unit: bool
) -> jax.Array:
    small = _candidates(jax.lax.stop_gradient(kernel), fraction, unit)
    keep = _draw.draw_mask(seed, draw, small.shape) | ~small
    return _draw.nan_where_rate_invalid(jnp.where(keep, kernel, 0), draw.keep_prob)
