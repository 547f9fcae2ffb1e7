"""Drop path: zeroes whole residual branches at random. Huang et al., 2016."""

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Rate
from jaxdrop.drops.dropout import dropout


def drop_path(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    mode: str = "row",
    bits: Bits = None,
) -> jax.Array:
    """Zeroes the whole of `x`, a residual branch, for random examples and scales it for the rest.

    Used as `x + drop_path(key, branch(x), rate)`: stochastic depth. The mean and the variance of
    each element are those of `dropout`; so at evaluation nothing is multiplied. What is dropped
    has been computed: `subset_depth` saves that. `jaxdrop.schedules.depth_rates` gives the rates
    of a stack of blocks.

    Args:
      key: A PRNG key, used once.
      x: A floating-point batch, `[B, ...]`.
      rate: The probability of dropping, in [0, 1]; may be traced, or an array that broadcasts to
        the mask `[B, 1, ..., 1]`. It has no gradient.
      mode: "row" for one decision an example, "batch" for one decision in all.
      bits: Random bits a decision: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      An array of the shape, dtype and sharding of `x`.

    Raises:
      TypeError: If `x` is not floating-point.
      ValueError: If `mode` is neither of the two, `x` has no axis, or for the reasons of `dropout`.

    References:
      Huang et al., "Deep networks with stochastic depth", 2016.

    >>> drop_path(jax.random.key(0), jax.numpy.ones((4, 3)), 0.5)[:, 0]
    Array([2., 2., 2., 0.], dtype=float32)
    """
    x = _checks.check_rank(_checks.check_floating(x), 1, "[B, ...]")
    _checks.check_choice(mode, ("row", "batch"), "mode")
    shared = range(1 if mode == "row" else 0, x.ndim)
    return dropout(key, x, rate, broadcast_dims=shared, bits=bits)
