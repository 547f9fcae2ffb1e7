"""Variational dropout: Gaussian weight noise with a learned variance. Kingma et al., 2015."""

import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key
from jaxdrop.drops._products import check_product, noisy_product

__all__ = ["variational_dropout"]

# Coefficients of alpha, alpha**2 and alpha**3 in the approximation of -KL.
_CUBIC = (1.16145124, -1.50204118, 0.58629921)


def variational_dropout(
    key: Key, x: ArrayLike, kernel: ArrayLike, log_alpha: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Multiplies `x` by weights from N(W, alpha * W**2), sampled as noise on the product.

    The result is `x @ W + sqrt(x**2 @ (alpha * W**2)) * eps`, with one standard normal eps per
    element of the result. It has the mean and variance of one weight draw per example (local
    reparameterization). As in the paper, alpha is at most 1: alpha = `exp(min(log_alpha, 0))`.
    Above 0 the penalty is flat, but the result still passes its gradient to `log_alpha`, so that
    the data can bring it back. At evaluation use `x @ kernel`. The backward pass redraws the noise
    from the key.

    The penalty is the paper's approximation of the KL divergence of the weights from a log-uniform
    prior, up to a constant: the sum over all weights of
    `-(log(alpha) / 2 + 1.16145124 * alpha - 1.50204118 * alpha**2 + 0.58629921 * alpha**3)`. Per
    weight it is within 0.021 of the exact value minus the best constant. Add it to the mean loss
    over N examples as `penalty / N`.

    Args:
      key: A PRNG key, used once.
      x: Floating-point inputs, `[..., I]`.
      kernel: Floating-point weights W, `[I, O]`.
      log_alpha: Logarithm of alpha, floating-point; broadcasts to `[I, O]`: a scalar for one alpha
        per layer, `[I, 1]` per input, `[O]` per output, `[I, O]` per weight.

    Returns:
      Product, `[..., O]`, in the dtype of `x`, and the penalty, a scalar summed in float32 or wider.
      Gradients are finite, also where the variance is 0.

    Raises:
      TypeError: If `x`, `kernel` or `log_alpha` is not floating-point.
      ValueError: If the shapes do not fit.

    References:
      Kingma, Salimans and Welling, "Variational dropout and the local reparameterization trick",
      2015.

    Examples:
      >>> x, kernel, log_alpha = jnp.ones((2, 3)), jnp.ones((3, 1)), jnp.array(0.0)
      >>> y, penalty = variational_dropout(jax.random.key(0), x, kernel, log_alpha)
      >>> print(f"{y[0, 0]:.3f} {y[1, 0]:.3f} {penalty:.3f}")
      2.643 3.441 -0.737
    """
    x, kernel = check_product(x, kernel)
    log_alpha = _checks.check_floating(log_alpha, "log_alpha")
    log_alpha = _checks.check_broadcastable(log_alpha, kernel.shape, "log_alpha")
    log_alpha = log_alpha.astype(_checks.widened(log_alpha.dtype))
    excess = jax.lax.stop_gradient(jnp.maximum(log_alpha, 0))
    wide = kernel.astype(_checks.widened(kernel.dtype))
    y = noisy_product(key, x, kernel, jnp.exp(log_alpha - excess) * wide**2)
    return y, kernel.size * jnp.mean(_divergence(jnp.minimum(log_alpha, 0)))


def _divergence(log_alpha: jax.Array) -> jax.Array:
    """The approximate KL divergence of one weight from the prior, minus its constant."""
    alpha, (first, second, third) = jnp.exp(log_alpha), _CUBIC
    return -(0.5 * log_alpha + alpha * (first + alpha * (second + alpha * third)))
