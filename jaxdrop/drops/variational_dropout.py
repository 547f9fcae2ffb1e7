"""Variational dropout: Gaussian noise on the weights, whose size is learned. Kingma et al., 2015."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _draw
from jaxdrop._types import ArrayLike, Key
from jaxdrop.drops import _remat

# The cubic of -KL in alpha, beside half its logarithm.
_CUBIC = (1.16145124, -1.50204118, 0.58629921)


def variational_dropout(
    key: Key, x: ArrayLike, kernel: ArrayLike, log_alpha: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """A product with weights from N(W, alpha * W**2), drawn as the product's own noise.

    The result is `x @ W + sqrt(x**2 @ (alpha * W**2)) * eps` with one standard normal eps for each
    element of the result, which has the mean and variance of a weight draw for each example
    (local reparameterisation). As the paper restricts alpha to at most 1, alpha is
    `exp(min(log_alpha, 0))`: above 0 the penalty is flat, while the result passes its gradient on
    to `log_alpha`, so that the data can bring it back. At evaluation use `x @ kernel`. The
    backward pass draws again from the key.

    The penalty is the divergence of the weights from a log-uniform prior, up to its constant, by
    the paper's approximation: the sum over all weights of
    `-(log(alpha) / 2 + 1.16145124 * alpha - 1.50204118 * alpha**2 + 0.58629921 * alpha**3)`, which
    for each weight is within 0.021 of the exact one less the best constant. Add it to the mean loss
    over N examples as `penalty / N`.

    Args:
      key: A PRNG key, used once.
      x: The floating-point inputs, `[..., I]`.
      kernel: The floating-point weights W, `[I, O]`.
      log_alpha: The logarithm of alpha, floating-point; broadcasts to `[I, O]`: a scalar for one
        of the layer, `[I, 1]` for each input, `[O]` for each output, `[I, O]` for each weight.

    Returns:
      The product, `[..., O]`, in the dtype of `x`, and the penalty, a scalar summed in float32 at
      least. Gradients are finite, also where the variance is 0.

    Raises:
      TypeError: If `x`, `kernel` or `log_alpha` is not floating-point.
      ValueError: If the shapes do not fit.

    References:
      Kingma, Salimans and Welling, "Variational dropout and the local reparameterization trick",
      2015.

    >>> x, kernel, log_alpha = jnp.ones((2, 3)), jnp.ones((3, 1)), jnp.array(0.0)
    >>> y, penalty = variational_dropout(jax.random.key(0), x, kernel, log_alpha)
    >>> print(f"{y[0, 0]:.3f} {y[1, 0]:.3f} {penalty:.3f}")
    2.643 3.441 -0.737
    """
    x, kernel = check_product(x, kernel)
    log_alpha = _checks.check_floating(log_alpha, "log_alpha")
    log_alpha = _checks.check_broadcastable(log_alpha, kernel.shape, "log_alpha")
    log_alpha = log_alpha.astype(_draw.widened(log_alpha.dtype))
    excess = jax.lax.stop_gradient(jnp.maximum(log_alpha, 0))
    wide = kernel.astype(_draw.widened(kernel.dtype))
    y = noisy_product(key, x, kernel, jnp.exp(log_alpha - excess) * wide**2)
    return y, kernel.size * jnp.mean(_divergence(jnp.minimum(log_alpha, 0)))


def noisy_product(key: Key, x: jax.Array, kernel: jax.Array, variance: jax.Array) -> jax.Array:
    """`x @ kernel` and the noise that independent weights of that variance make in it."""
    wide = _draw.widened(jnp.result_type(x, kernel))
    x_wide, variance = x.astype(wide), variance.astype(wide)
    deviation = _safe_sqrt(x_wide**2 @ variance)
    return _noisy(key, x_wide @ kernel.astype(wide), deviation).astype(x.dtype)


def check_product(x: ArrayLike, kernel: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The inputs of a matrix product."""
    x, kernel = _checks.check_floating(x), _checks.check_floating(kernel, "kernel")
    if x.ndim < 1 or kernel.ndim != 2 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"`kernel` must be of shape [I, O] for `x` of [..., I], got {kernel.shape} and {x.shape}."
        )
    return x, kernel


@_remat.redraw_in_backward()
def _noisy(seed: _bits.Seed, mean: jax.Array, deviation: jax.Array) -> jax.Array:
    return mean + deviation * _bits.normal(seed, mean.shape)


def _safe_sqrt(value: jax.Array) -> jax.Array:
    """The square root with the gradient 0 at 0."""
    some = value > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, value, 1)), value)


def _divergence(log_alpha: jax.Array) -> jax.Array:
    """The divergence of one weight from the prior, less its constant."""
    alpha, (first, second, third) = jnp.exp(log_alpha), _CUBIC
    return -(0.5 * log_alpha + alpha * (first + alpha * (second + alpha * third)))
