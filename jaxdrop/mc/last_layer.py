"""Dropout before a last linear layer, in closed form: no sampling and no Monte-Carlo error."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike, Bits, Rate
from jaxdrop.mc import _devices

__all__ = ["LastLayer", "last_layer"]


class LastLayer(NamedTuple):
    """The exact moments of the outputs of a linear layer, of which the inputs or the weights are random.

    Attributes:
      mean: The means, `[B, K]`.
      covariance: The covariances, `[B, K, K]`.
    """

    mean: jax.Array
    covariance: jax.Array


def last_layer(
    h: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    rate: Rate,
    bits: Bits = None,
) -> LastLayer:
    """Exact mean and covariance of `jaxdrop.dropout(key, h, rate) @ kernel + bias` over the keys.

    The mean is `h @ kernel + bias`. The covariance of outputs k and l is the sum over the inputs i of
    `h[i]**2 * rate / (1 - rate) * kernel[i, k] * kernel[i, l]`, with the rate realized by a mask of
    that many bits. The mean and covariance of samples converge to these.

    Args:
      h: The floating-point inputs of the layer before their dropout, `[B, D]`.
      kernel: The weights of the layer, `[D, K]`.
      bias: The biases of the layer, `[K]`, or None.
      rate: Probability of dropping, in [0, 1): a scalar, or an array that broadcasts to `h`. May be
        traced. It has no gradient.
      bits: Random bits per element: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
        rates near 0 or 1.

    Returns:
      A `LastLayer` of the mean and covariance, in float32 at least. On an explicit mesh they are sharded
      as the examples of `h`, and whole otherwise.

    Raises:
      TypeError: If `h`, `kernel` or `bias` is not floating-point.
      ValueError: If the shapes do not match, or a concrete rate is outside [0, 1).

    References:
      Wang and Manning, "Fast dropout training", 2013.

    Examples:
      >>> found = last_layer(jnp.ones((1, 4)), jnp.eye(4)[:, :2], rate=0.5)
      >>> found.covariance[0]
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    h, kernel = _predictions.as_wide(h, "h"), _predictions.as_wide(kernel, "kernel")
    if h.ndim != 2:
        raise ValueError(f"`h` must have shape [B, D], got {h.shape}.")
    if kernel.ndim != 2 or h.shape[1] != kernel.shape[0]:
        raise ValueError(f"`kernel` must have shape [D, K] with D = {h.shape[1]}, got {kernel.shape}.")
    if bias is not None:
        bias = _predictions.as_wide(bias, "bias")
        if bias.shape != kernel.shape[1:]:
            raise ValueError(f"`bias` must have shape [K], {kernel.shape[1:]}, got {bias.shape}.")
    rate = _checks.check_below_one(_checks.check_rate(rate))
    keep_prob = jnp.asarray(_checks.prepare(rate, h.shape, bits).keep_prob)
    batch = PartitionSpec(*jax.typeof(h).sharding.spec[:1])
    return _devices.on_automatic_axes(_moments, h, kernel, bias, keep_prob, out=batch)


def _moments(h: jax.Array, kernel: jax.Array, bias: jax.Array | None, keep_prob: jax.Array) -> LastLayer:
    spread = h**2 * ((1 - keep_prob) / keep_prob)
    mean = jnp.matmul(h, kernel, precision="highest")
    covariance = jnp.einsum("bi,ik,il->bkl", spread, kernel, kernel, precision="highest")
    return LastLayer(mean if bias is None else mean + bias[None], covariance)
