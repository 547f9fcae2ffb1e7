"""Convolutions as matrix products, and a small convolutional network with dropout.

Under `vmap` over runs a product of patches and a kernel stays one product. XLA's own convolution becomes a
grouped one, which is ten times slower on a CPU, as is its gradient in a loop.
"""

import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdrop import linen


class ConvNet(nn.Module):
    """Convolutions of 3 x 3, each with a ReLU and max pooling of 2 x 2, and two dense layers.

    Dropout precedes and follows the hidden dense layer.

    Attributes:
      kernels: The number of kernels of each convolution.
      units: The width of the hidden dense layer.
      outputs: The number of outputs.
      rates: The dropout rates before the hidden dense layer and after it.
    """

    kernels: Sequence[int]
    units: int
    outputs: int
    rates: tuple[float, float]

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Outputs, `[B, outputs]`, for square images as rows `[B, side * side]`."""
        side = round(x.shape[-1] ** 0.5)
        x = x.reshape(-1, side, side, 1)
        for count in self.kernels:
            x = pooled(nn.relu(nn.Dense(count)(patches(x))))
        x = x.reshape(x.shape[0], -1)
        x = linen.Dropout(self.rates[0])(x, deterministic=deterministic)
        x = nn.relu(nn.Dense(self.units)(x))
        x = linen.Dropout(self.rates[1])(x, deterministic=deterministic)
        return nn.Dense(self.outputs)(x)


def patches(x: jax.Array, stride: int = 1) -> jax.Array:
    """3 x 3 neighborhoods of the pixels, with zeros beyond the edge: `[B, H, W, C]` to `[B, H', W', 9 C]`."""
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = itertools.product(range(3), range(3))
    return jnp.concatenate([x[:, i : i + height : stride, j : j + width : stride] for i, j in shifts], -1)


def pooled(x: jax.Array) -> jax.Array:
    """Max pooling of 2 x 2 pixels: `[B, H, W, C]` to `[B, H/2, W/2, C]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
