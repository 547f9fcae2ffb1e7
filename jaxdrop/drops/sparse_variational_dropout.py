"""Sparse variational dropout: learned Gaussian noise that prunes weights. Molchanov et al., 2017."""

import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.drops._products import check_product, noisy_product

__all__ = ["sparse_kernel", "sparse_variational_dropout"]

# Height, offset and slope of the sigmoid in log(alpha) that approximates -KL.
_SIGMOID = (0.63576, 1.87320, 1.48695)
# Where log(alpha) is clipped: the penalty hardly changes beyond.
_LOG_ALPHA_LIMIT = 8.0
# Keeps the logarithm of W**2 and its derivatives finite at 0; changes only weights below 1e-7.
_TINY = 1e-16


def sparse_variational_dropout(
    key: Key, x: ArrayLike, kernel: ArrayLike, log_variance: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Multiplies `x` by weights from N(W, exp(log_variance)), sampled as noise on the product.

    The result is `x @ W + sqrt(x**2 @ exp(log_variance)) * eps`, with one standard normal eps per
    element of the result. Here alpha = exp(log_variance) / W**2 has no bound: the penalty favors a
    large alpha, which marks a weight that is only noise and can be pruned. After training use
    `x @ sparse_kernel(kernel, log_variance)`. The backward pass redraws the noise from the key.

    The penalty is the paper's approximation of the KL divergence of the weights from a log-uniform
    prior: the sum over all weights of
    `0.63576 * sigmoid(-(1.8732 + 1.48695 * log(alpha))) + log(1 + 1 / alpha) / 2`, with log(alpha)
    clipped to [-8, 8]. Per weight it is positive, within 0.01 of the exact value, and near 0 for a
    large alpha. Add it to the mean loss over N examples as `penalty / N`. Warm it up by a factor
    that grows from 0 to 1, and decay the learning rate at the end: large steps bring pruned weights
    back over the threshold.

    Args:
      key: A PRNG key, used once.
      x: Floating-point inputs, `[..., I]`.
      kernel: Floating-point weights W, `[I, O]`.
      log_variance: Logarithm of the weights' variance, floating-point, `[I, O]`; the paper's code
        starts at -10.

    Returns:
      Product, `[..., O]`, in the dtype of `x`, and the penalty, a scalar summed in float32 or wider.
      Gradients are finite, also at weights and variances of 0.

    Raises:
      TypeError: If `x`, `kernel` or `log_variance` is not floating-point.
      ValueError: If the shapes do not fit.

    References:
      Molchanov, Ashukha and Vetrov, "Variational dropout sparsifies deep neural networks", 2017.

    Examples:
      >>> kernel, log_variance = jnp.array([[1.0], [0.1]]), jnp.array([[-10.0], [0.0]])
      >>> y, penalty = sparse_variational_dropout(jax.random.key(0), jnp.ones((2, 2)), kernel, log_variance)
      >>> print(f"{y[0, 0]:.3f} {y[1, 0]:.3f} {penalty:.3f}")
      0.894 1.355 4.641
    """
    x, kernel = check_product(x, kernel)
    log_alpha = _log_alpha(kernel, log_variance)
    log_variance = jnp.asarray(log_variance, log_alpha.dtype)
    y = noisy_product(key, x, kernel, jnp.exp(log_variance))
    return y, jnp.sum(_divergence(jnp.clip(log_alpha, -_LOG_ALPHA_LIMIT, _LOG_ALPHA_LIMIT)))


def sparse_kernel(kernel: ArrayLike, log_variance: ArrayLike, *, threshold: Numeric = 3.0) -> jax.Array:
    """Zeroes the weights whose log(alpha) exceeds the threshold, for evaluation.

    Args:
      kernel: Floating-point weights W, of any shape.
      log_variance: Logarithm of the weights' variance, floating-point, of the shape of `kernel`.
      threshold: Largest log(alpha) that is kept: a scalar; may be traced. The paper's 3 corresponds
        to a binary dropout rate above 0.95.

    Returns:
      Array of the shape and dtype of `kernel`; pruned weights are 0.

    Raises:
      TypeError: If `kernel` or `log_variance` is not floating-point.
      ValueError: If the shapes differ, or `threshold` is not a scalar.

    References:
      Molchanov, Ashukha and Vetrov, "Variational dropout sparsifies deep neural networks", 2017.

    Examples:
      >>> sparse_kernel(jnp.array([[1.0], [0.1]]), jnp.array([[-10.0], [0.0]]))
      Array([[1.],
             [0.]], dtype=float32)
    """
    kernel = _checks.check_floating(kernel, "kernel")
    _checks.check_scalar(threshold, "threshold")
    return jnp.where(_log_alpha(kernel, log_variance) > threshold, 0, kernel)


def _log_alpha(kernel: jax.Array, log_variance: ArrayLike) -> jax.Array:
    log_variance = _checks.check_floating(log_variance, "log_variance")
    _checks.check_same_shape(log_variance, kernel, "log_variance", "kernel")
    wide = _checks.widest(kernel, log_variance)
    return log_variance.astype(wide) - jnp.log(kernel.astype(wide) ** 2 + _TINY)


def _divergence(log_alpha: jax.Array) -> jax.Array:
    """The approximate KL divergence of one weight from the prior."""
    height, offset, slope = _SIGMOID
    return height * jax.nn.sigmoid(-(offset + slope * log_alpha)) + 0.5 * jax.nn.softplus(-log_alpha)
