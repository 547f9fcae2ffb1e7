"""Regularizers that own variables: a rate that is learned, masks that are drawn once."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop import drops
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.nnx._shell import Base, Rngs, params_key


class ConcreteDropout(Base):
    """`jaxdrop.concrete_dropout` as a module that owns its `logit`, a parameter.

    Called with the inputs and the kernel of the layer that takes its result, it gives `(y,
    penalty)`, to be summed into the loss; where deterministic, the inputs and 0.

    Args:
      rate: The rate to begin with, in (0, 1).
      weight_strength: Of the kernel's part of the penalty: finite, at least 0; may be traced.
      dropout_strength: Of the entropy's part; likewise.
      temperature: In (0, 1]; may be traced.
      broadcast_dims: Axes along which one decision is shared.

    >>> model = ConcreteDropout(0.1, rngs=nnx.Rngs(0))
    >>> y, penalty = model(jnp.ones((2, 3)))
    >>> model.logit[...]
    Array(-2.1972246, dtype=float32)
    """

    rate: float = dataclasses.field(default=0.1, kw_only=False)
    weight_strength: Numeric = 1e-6
    dropout_strength: Numeric = 1e-5
    temperature: Numeric = 0.1
    broadcast_dims: Sequence[int] = ()
    _pure = staticmethod(drops.concrete_dropout)

    def __post_init__(self: Any, rngs: Rngs | None):
        super().__post_init__(rngs)
        self.logit = nnx.Param(_log_odds(self.rate))

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self: Any,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        kernel: ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Drops at the learned rate; `kernel` is that of the layer that takes the result."""
        return self._apply((inputs, self.logit[...]), (), deterministic, rngs, kernel=kernel)

    def _deterministic_output(self, inputs: ArrayLike, *_: Any, **__: Any) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(inputs), jnp.zeros(())


class Masks(nnx.Variable):
    """Masks that are kept with a model, apart from its parameters."""


class Masksembles(nnx.Module):
    """`jaxdrop.masksembles` as a module that owns its masks, drawn when it is made.

    They are a variable of the type `Masks`, apart from the parameters, and are active always.

    Args:
      in_features: How many features there are.
      num_masks: How many masks, at least 1.
      scale: How far the masks differ, at least 1.
      channel_axis: The axis of the features; not 0, which is the batch.
      rngs: Where the key of the masks comes from: streams, of which that of parameters, or one stream.
    """

    def __init__(
        self,
        in_features: int,
        num_masks: int,
        scale: float,
        *,
        channel_axis: int = -1,
        rngs: nnx.Rngs | nnx.RngStream,
    ):
        self.channel_axis = channel_axis
        self.masks = Masks(drops.masksembles_masks(params_key(rngs), in_features, num_masks, scale))

    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Gives each part of the batch, a multiple of the masks, its own mask."""
        return drops.masksembles(inputs, self.masks[...], channel_axis=self.channel_axis)


def _log_odds(rate: float) -> jax.Array:
    if not 0 < rate < 1:
        raise ValueError(f"`rate` must lie in (0, 1) to be learned from, got {rate:g}.")
    return jnp.asarray(math.log(rate / (1 - rate)), jnp.float32)
