"""Shakeout: reverses or strengthens the weights of each input at random. Kang et al., 2016."""

import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.drops._products import check_product, product
from jaxdrop.drops.dropout import dropout

__all__ = ["shakeout"]


def shakeout(
    key: Key,
    x: ArrayLike,
    kernel: ArrayLike,
    rate: Rate,
    *,
    constant: Numeric,
    bits: Bits = None,
) -> jax.Array:
    """Multiplies `x @ kernel`, where a dropped input meets the reversed weights `-c * sign(W)`.

    With W = `kernel`, c = `constant`, p = `rate` and s = sign(W): the weights of a dropped input are
    `-c * s`, and else `(W + c * p * s) / (1 - p)`; the mean is `x @ W`. It acts as a mixture of L1
    and L2 penalties: c = 0 is dropout before the product, and p = 0 is the plain product. The sign
    has no gradient. At evaluation use `x @ kernel`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point inputs, `[..., I]`.
      kernel: Floating-point weights, `[I, O]`.
      rate: Probability of dropping an input, in [0, 1]: a scalar, or an array that broadcasts to
        `x`; may be traced; no gradient.
      constant: Strength of the reversal, finite and at least 0: a scalar; may be traced.
      bits: Random bits per input: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      The product, `[..., O]`, in the dtype of `x`.

    Raises:
      TypeError: If `x` or `kernel` is not floating-point.
      ValueError: If the shapes do not fit, a concrete rate is outside [0, 1], or a concrete
        constant is negative or not finite.

    References:
      Kang, Li and Tao, "Shakeout: a new approach to regularized deep neural network training",
      2016.

    Examples:
      >>> shakeout(jax.random.key(0), jnp.ones((1, 2)), jnp.array([[2.0], [-3.0]]), 0.5, constant=0.1)
      Array([[-2.]], dtype=float32)
    """
    x, kernel = check_product(x, kernel)
    constant = jnp.asarray(_checks.check_nonnegative(constant, "constant"), _checks.widened(x.dtype))
    kept = dropout(key, x, rate, bits=bits)
    sign = jax.lax.stop_gradient(jnp.sign(kernel)).astype(x.dtype)
    mean, reversal = product(kept, kernel.astype(x.dtype)), product(kept - x, sign)
    # A constant of 0 is exactly dropout: 0 times an infinite reversal would be NaN.
    reversal = jnp.where(constant == 0, 0, constant * reversal.astype(constant.dtype))
    return (mean.astype(constant.dtype) + reversal).astype(x.dtype)
