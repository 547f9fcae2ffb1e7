"""Regularizers that own variables: a learned rate, or fixed masks."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrop import drops
from jaxdrop._modules.base import Regularizer
from jaxdrop._types import ArrayLike, Numeric


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class ConcreteDropout(Regularizer):
    """Concrete dropout: learns its rate. Module form of `jaxdrop.concrete_dropout`.

    It owns `logit`, a parameter, and returns `(y, penalty)`. Add the penalty to the loss. The call
    also takes the kernel of the layer that takes `y`. If deterministic, returns the inputs and 0.

    Attributes:
      rate: Initial rate, in (0, 1).
      weight_strength: Weight of the kernel's part of the penalty: finite, at least 0; may be traced.
      dropout_strength: Weight of the entropy's part of the penalty: finite, at least 0; may be traced.
      temperature: Temperature of the relaxed decisions, in (0, 1]; may be traced.
      broadcast_dims: Axes along which one decision is shared.
    """

    rate: float = dataclasses.field(default=0.1, kw_only=False)
    weight_strength: Numeric = 1e-6
    dropout_strength: Numeric = 1e-5
    temperature: Numeric = 0.1
    broadcast_dims: Sequence[int] = ()
    _pure = staticmethod(drops.concrete_dropout)
    _call_doc = """Drops at the learned rate.

    Args:
      inputs: Floating-point inputs.
      kernel: Kernel of the layer that takes the result, for the penalty.

    Returns:
      The output, and the penalty, a scalar.
    """

    def _deterministic_output(self, inputs: ArrayLike, *_: Any, **__: Any) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(inputs), jnp.zeros(())


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Masksembles:
    """Masksembles: a fixed mask for each part of the batch. Module form of `jaxdrop.masksembles`.

    The masks are drawn when the variables are made, are kept apart from the parameters, and are always
    active. The batch must be a multiple of `num_masks`.

    Attributes:
      num_masks: Number of masks, at least 1.
      scale: How much the masks differ, at least 1.
      channel_axis: Axis of the features; not 0, the batch axis.
    """

    num_masks: int = dataclasses.field(kw_only=False)
    scale: float = dataclasses.field(kw_only=False)
    channel_axis: int = -1
    _call_doc = """Applies one mask to each part of the batch.

    Args:
      inputs: Floating-point batch; its size is a multiple of `num_masks`.

    Returns:
      Array of the shape and dtype of the inputs.
    """


def log_odds(rate: float) -> jax.Array:
    """The logit of an initial rate."""
    if not 0 < rate < 1:
        raise ValueError(f"`rate` must lie in (0, 1), got {rate:g}.")
    return jnp.asarray(math.log(rate / (1 - rate)), jnp.float32)
