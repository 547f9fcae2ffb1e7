"""Networks with dropout: for images as rows `[B, side * side]`, and Gal's for rows of a table.

Each has the attribute `drop`, the class of its dropout modules: `jaxdrop.linen.Dropout`, or Flax's own for
the comparison. Batch statistics are those of the batch only where they are mutable, which is in training.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from experiments import conv_net
from jaxdrop import linen

# From a rate, and axes that share one decision, to a module.
Drop = Callable[..., Any]
CLASSES = 10


class MLP(nn.Module):
    """Dense layers with ReLU; dropout of the inputs and after each hidden layer.

    Attributes:
      widths: The widths of the hidden layers.
      outputs: The number of outputs.
      rates: The dropout rates of the inputs and of the hidden units.
      drop: The class of the dropout modules.
    """

    widths: tuple[int, ...]
    outputs: int
    rates: tuple[float, float]
    drop: Drop = linen.Dropout

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Outputs, `[B, outputs]`, for rows `[B, D]`."""
        x = self.drop(self.rates[0])(x, deterministic=deterministic)
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
            x = self.drop(self.rates[1])(x, deterministic=deterministic)
        return nn.Dense(self.outputs)(x)


class Conv(nn.Module):
    """Convolution of 3 x 3.

    Attributes:
      kernels: The number of kernels.
      products: Whether it is a product of patches and kernels, whose gradient in a loop is ten times as fast
        on a CPU.
    """

    kernels: int
    products: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The next map, `[B, H, W, kernels]`."""
        shape = (3, 3, x.shape[-1], self.kernels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.kernels,))
        if self.products:
            return conv_net.patches(x) @ kernel.reshape(-1, self.kernels) + bias
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) + bias


class CNN(nn.Module):
    """Two convolutions with max pooling, dropout, batch normalization and spatial dropout; two dense layers.

    Attributes:
      kernels: The number of kernels of each convolution.
      units: The width of the hidden dense layer.
      rates: The rates of dropout, of spatial dropout, and of dropout of the dense layer.
      drop: The class of the dropout modules.
      products: Whether convolutions are products of patches, for training.
    """

    kernels: tuple[int, int]
    units: int
    rates: tuple[float, float, float] = (0.25, 0.1, 0.5)
    drop: Drop = linen.Dropout
    products: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Logits, `[B, classes]`."""
        side = round(x.shape[-1] ** 0.5)
        x = nn.relu(Conv(self.kernels[0], self.products)(x.reshape(-1, side, side, 1)))
        x = self.drop(self.rates[0])(self.pooled(x), deterministic=deterministic)
        learning = self.is_mutable_collection("batch_stats")
        x = nn.BatchNorm(use_running_average=not learning)(Conv(self.kernels[1], self.products)(x))
        x = self.pooled(nn.relu(x))
        x = self.drop(self.rates[1], broadcast_dims=(1, 2))(x, deterministic=deterministic)
        x = nn.relu(nn.Dense(self.units)(x.reshape(x.shape[0], -1)))
        x = self.drop(self.rates[2])(x, deterministic=deterministic)
        return nn.Dense(CLASSES)(x)

    def pooled(self, x: jax.Array) -> jax.Array:
        """Max pooling of 2 x 2 pixels."""
        return conv_net.pooled(x) if self.products else nn.max_pool(x, (2, 2), (2, 2))


class Residual(nn.Module):
    """Pre-norm residual blocks of two dense layers and a GELU, dropout after each layer.

    Attributes:
      width: The width of the stream.
      depth: The number of blocks.
      rate: The dropout rate.
      drop: The class of the dropout modules.
    """

    width: int
    depth: int
    rate: float = 0.1
    drop: Drop = linen.Dropout

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Logits, `[B, classes]`."""
        x = nn.Dense(self.width)(x)
        for _ in range(self.depth):
            h = nn.gelu(nn.Dense(self.width)(nn.LayerNorm()(x)))
            h = nn.Dense(self.width)(self.drop(self.rate)(h, deterministic=deterministic))
            x = x + self.drop(self.rate)(h, deterministic=deterministic)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x))


class ViT(nn.Module):
    """Pre-norm vision transformer of 4 x 4 patches, with Flax's attention and its dropout.

    Attributes:
      width: The width of a token.
      depth: The number of blocks.
      heads: The heads of attention.
      rate: The dropout rate of embeddings, attention weights and branches.
      drop: The class of the dropout modules.
    """

    width: int
    depth: int = 2
    heads: int = 4
    rate: float = 0.1
    drop: Drop = linen.Dropout

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Logits, `[B, classes]`."""
        batch, side = len(x), round(x.shape[-1] ** 0.5) // 4
        x = x.reshape(batch, 4, side, 4, side).swapaxes(2, 3).reshape(batch, 16, side * side)
        place = self.param("place", nn.initializers.normal(0.02), (16, self.width))
        x = nn.Dense(self.width)(x) + place[None]
        x = self.drop(self.rate)(x, deterministic=deterministic)
        for _ in range(self.depth):
            h = nn.MultiHeadDotProductAttention(
                self.heads, dropout_rate=self.rate, broadcast_dropout=False, deterministic=deterministic
            )(nn.LayerNorm()(x))
            x = x + self.drop(self.rate)(h, deterministic=deterministic)
            h = nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x))))
            x = x + self.drop(self.rate)(h, deterministic=deterministic)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


class LSTM(nn.Module):
    """Two LSTM layers that read an image row by row, dropout after each.

    Attributes:
      width: The width of the states.
      rate: The dropout rate.
      drop: The class of the dropout modules.
    """

    width: int
    rate: float = 0.2
    drop: Drop = linen.Dropout

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Logits, `[B, classes]`."""
        side = round(x.shape[-1] ** 0.5)
        h: Any = nn.RNN(nn.LSTMCell(self.width))(x.reshape(-1, side, side))
        h = self.drop(self.rate)(h, deterministic=deterministic)
        h = nn.RNN(nn.LSTMCell(self.width))(h)
        h = self.drop(self.rate)(h[:, -1], deterministic=deterministic)
        return nn.Dense(CLASSES)(h)
