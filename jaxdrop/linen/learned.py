"""Regularizers that own variables: a rate that is learned, masks that are drawn once."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdrop import _checks, drops
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.linen._shell import Stochastic


class ConcreteDropout(Stochastic):
    """`jaxdrop.concrete_dropout` as a module that owns its `logit`, a parameter.

    Called with the inputs and the kernel of the layer that takes its result, it gives `(y,
    penalty)`, to be summed into the loss; where deterministic, the inputs and 0.

    Attributes:
      rate: The rate to begin with, in (0, 1).
      weight_strength: Of the kernel's part of the penalty: finite, at least 0; may be traced.
      dropout_strength: Of the entropy's part; likewise.
      temperature: In (0, 1]; may be traced.
      broadcast_dims: Axes along which one decision is shared.

    >>> model = ConcreteDropout(0.1, deterministic=False)
    >>> (y, penalty), variables = model.init_with_output(jax.random.key(0), jnp.ones((2, 3)))
    >>> variables
    {'params': {'logit': Array(-2.1972246, dtype=float32)}}
    """

    rate: float = dataclasses.field(default=0.1, kw_only=False)
    weight_strength: Numeric = 1e-6
    dropout_strength: Numeric = 1e-5
    temperature: Numeric = 0.1
    broadcast_dims: Sequence[int] = ()
    _pure = staticmethod(drops.concrete_dropout)

    @nn.compact
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        kernel: ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Drops at the learned rate; `kernel` is that of the layer that takes the result."""
        logit = self.param("logit", lambda _: _log_odds(self.rate))
        return self._apply((inputs, logit), (), deterministic, rng, kernel=kernel)

    def _deterministic_output(self, inputs: ArrayLike, *_: Any, **__: Any) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(inputs), jnp.zeros(())


class Masksembles(nn.Module):
    """`jaxdrop.masksembles` as a module that owns its masks, drawn at initialisation.

    They lie in the collection "masks", apart from the parameters, and are active always.

    Attributes:
      num_masks: How many masks, at least 1.
      scale: How far the masks differ, at least 1.
      channel_axis: The axis of the features; not 0, which is the batch.
    """

    num_masks: int
    scale: float
    channel_axis: int = dataclasses.field(default=-1, kw_only=True)

    @nn.compact
    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Gives each part of the batch, a multiple of the masks, its own mask."""
        channel = _checks.check_channel_axis(self.channel_axis, inputs.shape)
        masks: Any = self.variable("masks", "masks", self._drawn, inputs.shape[channel])
        return drops.masksembles(inputs, masks.value, channel_axis=self.channel_axis)

    def _drawn(self, features: int) -> jax.Array:
        return drops.masksembles_masks(self.make_rng("params"), features, self.num_masks, self.scale)


def _log_odds(rate: float) -> jax.Array:
    if not 0 < rate < 1:
        raise ValueError(f"`rate` must lie in (0, 1) to be learned from, got {rate:g}.")
    return jnp.asarray(math.log(rate / (1 - rate)), jnp.float32)
