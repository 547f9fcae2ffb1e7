"""A Flax network of dense layers, with dropout after each hidden one."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import numpy as np

from jaxdrop import linen


class MLP(nn.Module):
    """Dense layers, each but the last followed by an activation and dropout.

    Attributes:
      hidden: The widths of the hidden layers.
      outputs: How many outputs.
      activation: What follows each hidden layer.
      rate: The dropout rate; may be traced.
    """

    hidden: Sequence[int]
    outputs: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    rate: chex.Numeric = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Outputs, `[B, outputs]`, of rows `[B, D]`."""
        for width in self.hidden:
            x = self.activation(nn.Dense(width)(x))
            x = linen.Dropout(self.rate)(x, deterministic=deterministic)
        return nn.Dense(self.outputs)(x)


def init(
    rng: np.random.Generator, model: MLP, inputs: int, gain: float = 2.0, bias: float = 0.0
) -> dict[str, Any]:
    """Normal weights of variance `gain / inputs` of their layer, LeCun's for the last.

    In NumPy: to compile Flax's own draws takes longer than a quick training.

    Args:
      rng: The generator.
      model: The network.
      inputs: How many inputs it has.
      gain: 2 keeps the size of ReLUs (He), 1 that of sums (LeCun).
      bias: The standard deviation of the biases of the hidden layers; those of the last are 0.

    Returns:
      The variables, as the model's own `init` returns them.
    """
    widths = (inputs, *model.hidden, model.outputs)
    layers = {}
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        hidden = i < len(model.hidden)
        kernel = rng.normal(0, ((gain if hidden else 1.0) / before) ** 0.5, (before, after))
        biases = rng.normal(0, bias, after) if hidden and bias else np.zeros(after)
        layers[f"Dense_{i}"] = {"kernel": kernel.astype(np.float32), "bias": biases.astype(np.float32)}
    return {"params": layers}
