"""Shakeout: reverses or strengthens each input's weights at random. Kang et al., 2016."""

import jax
import jax.numpy as jnp

from jaxdrop import _checks, _draw
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.drops.dropout import dropout
from jaxdrop.drops.variational_dropout import check_product


def shakeout(
    key: Key,
    x: ArrayLike,
    kernel: ArrayLike,
    rate: Rate,
    *,
    constant: Numeric,
    bits: Bits = None,
) -> jax.Array:
    """A matrix product in which a dropped input meets `-c * sign(W)` in the place of zero weights.

    With c = `constant`, p = `rate` and s = sign(W): where an input is dropped its weights are
    `-c * s`, and else `(W + c * p * s) / (1 - p)`; the mean is `x @ W`. It penalises as a blend
    of L1 and L2 does: c = 0 is dropout before the product, and p = 0 is the plain product. The
    sign counts as a constant: it has no gradient. At evaluation use `x @ kernel`.

    Args:
      key: A PRNG key, used once.
      x: The floating-point inputs, `[..., I]`.
      kernel: The floating-point weights, `[I, O]`.
      rate: The probability of dropping an input, in [0, 1]; may be traced, or an array that
        broadcasts to `x`. It has no gradient.
      constant: The strength of the reversal, finite and at least 0: a scalar; may be traced.
      bits: Random bits an input: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate; see `keep_mask`.

    Returns:
      The product, `[..., O]`, in the dtype of `x`.

    Raises:
      TypeError: If `x` or `kernel` is not floating-point.
      ValueError: If the shapes do not fit, a concrete rate is outside [0, 1], or a concrete
        constant is negative or not finite.

    References:
      Kang, Li and Tao, "Shakeout: a new approach to regularized deep neural network training",
      2016.

    >>> shakeout(jax.random.key(0), jnp.ones((1, 2)), jnp.array([[2.0], [-3.0]]), 0.5, constant=0.1)
    Array([[-2.]], dtype=float32)
    """
    x, kernel = check_product(x, kernel)
    constant = jnp.asarray(_checks.check_nonnegative(constant, "constant"), _draw.widened(x.dtype))
    kept = dropout(key, x, rate, bits=bits)
    sign = jax.lax.stop_gradient(jnp.sign(kernel)).astype(x.dtype)
    product, reversal = kept @ kernel.astype(x.dtype), (kept - x) @ sign
    # At 0 it is dropout, of infinities too.
    reversal = jnp.where(constant == 0, 0, constant * reversal.astype(constant.dtype))
    return (product.astype(constant.dtype) + reversal).astype(x.dtype)
