"""Flax MLP with dropout after each hidden layer."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import numpy as np

from jaxdrop import linen


class MLP(nn.Module):
    """Dense layers; an activation and dropout follow each but the last.

    Attributes:
      hidden: The widths of the hidden layers.
      outputs: The number of outputs.
      activation: The activation of the hidden layers.
      rate: The dropout rate; may be traced.
      kernel_init: The initializer of the kernels.
    """

    hidden: Sequence[int]
    outputs: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    rate: chex.Numeric = 0.5
    kernel_init: jax.nn.initializers.Initializer = nn.linear.default_kernel_init

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Outputs, `[B, outputs]`, for rows `[B, D]`."""
        for width in self.hidden:
            x = self.activation(nn.Dense(width, kernel_init=self.kernel_init)(x))
            x = linen.Dropout(self.rate)(x, deterministic=deterministic)
        return nn.Dense(self.outputs, kernel_init=self.kernel_init)(x)


def init(
    rng: np.random.Generator, model: MLP, inputs: int, gain: float = 2.0, bias: float = 0.0
) -> dict[str, Any]:
    """First weights: normal of variance `gain / inputs` of their layer, LeCun's for the last.

    They are drawn in NumPy: compiling Flax's initializers takes longer than a smoke test's training.

    Args:
      rng: The generator.
      model: The network.
      inputs: The number of inputs.
      gain: The gain: 2 is He's, for ReLUs, 1 is LeCun's.
      bias: The standard deviation of the biases of the hidden layers; those of the last are 0.

    Returns:
      Variables of the same structure as those of `model.init`.
    """
    widths = (inputs, *model.hidden, model.outputs)
    layers = {}
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        hidden = i < len(model.hidden)
        kernel = rng.normal(0, ((gain if hidden else 1.0) / before) ** 0.5, (before, after))
        biases = rng.normal(0, bias, after) if hidden and bias else np.zeros(after)
        layers[f"Dense_{i}"] = {"kernel": kernel.astype(np.float32), "bias": biases.astype(np.float32)}
    return {"params": layers}
