"""DropPath, or stochastic depth: zeroes whole residual branches at random. Huang et al., 2016."""

from typing import Literal

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout

__all__ = ["drop_path"]


def drop_path(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    mode: Literal["row", "batch"] = "row",
    bits: Bits = None,
) -> jax.Array:
    """Zeroes a residual branch `x` for random examples and scales it for the rest.

    Used as `x + drop_path(key, branch(x), rate)`. Each element has the mean and variance of
    `dropout`, so evaluation needs no scale. The branch is computed for all examples;
    `subset_depth` computes it only for the kept ones. `jaxdrop.schedules.depth_rates` gives the
    rates of a stack of blocks.

    Args:
      key: A PRNG key, used once.
      x: Floating-point batch, `[B, ...]`.
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask
        `[B, 1, ..., 1]`; may be traced; no gradient.
      mode: "row" for one decision per example, "batch" for one decision per batch.
      bits: Random bits per decision: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      Array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `mode` is neither "row" nor "batch", `x` has no axis, a concrete rate is outside
        [0, 1], or `bits` is not valid or too few to tell a concrete rate from 0 and 1.

    References:
      Huang et al., "Deep networks with stochastic depth", 2016.

    Examples:
      >>> drop_path(jax.random.key(0), jax.numpy.ones((4, 3)), 0.5)[:, 0]
      Array([2., 2., 2., 0.], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 1, "[B, ...]")
    _checks.check_choice(mode, ("row", "batch"), "mode")
    shared = range(1 if mode == "row" else 0, x.ndim)
    return dropout(key, x, rate, broadcast_dims=shared, bits=bits)
