"""Standard normal quantiles of random bits."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# The quantile of (1 + x) / 2 is x * P(r - 1), where r = (1 - x**2) ** (1 / 8). A polynomial in x
# cannot follow the logarithm at x = 1; one in this root can, and three square roots cost less than a
# logarithm. Coefficients of P, highest order first, from a linear program: their largest error is
# 0.08 gaps (see `normal_quantile`), the least possible.
_COEFFICIENTS = (
    *(-12.7501952, -28.8089104, -23.785144, -5.9968158, -1.08929312),
    *(-1.95670786, -0.25488059, 2.35663142, -2.62495842, 1.25331401),
)


def normal_quantile(draws: jax.Array) -> jax.Array:
    """The standard normal quantile of (draw + 0.5) / 2**24, for draws of 24 bits.

    It is symmetric about zero, strictly increasing, and within 5.41. A gap is the distance to the
    quantile of the next draw, 2**-24 divided by the normal density: 1.5e-7 at zero, 1.3e-5 at 3,
    0.4 at the ends. The error is about one gap or less, as with float32's `erf_inv`; relative to
    the quantile it is below 2**-20 up to 3, and 0.003 at the ends.

    Args:
      draws: Array of uint32 below 2**24.

    Returns:
      Float32 array of the shape of `draws`.
    """
    # (2 * draw + 1 - 2**24) * 2**7, which is exact in float32.
    odd = lax.bitcast_convert_type((draws << np.uint32(8)) ^ np.uint32(0x80000080), jnp.int32)
    x = lax.abs(odd.astype(jnp.float32)) * np.float32(2.0**-31)
    place = lax.sqrt(lax.sqrt(lax.sqrt((1 - x) * (1 + x)))) - 1
    slope = jnp.full_like(x, _COEFFICIENTS[0])
    for coefficient in _COEFFICIENTS[1:]:
        slope = slope * place + coefficient
    size = x * slope
    # The sign comes last and as a bit. After a chain of products alone, XLA for CPUs would compute
    # the chain in the loop of a following sum, in a form three times as slow.
    sign = odd & np.int32(-(2**31))
    return lax.bitcast_convert_type(lax.bitcast_convert_type(size, jnp.int32) | sign, jnp.float32)
