"""Regularizers that own variables: a learned rate, or fixed masks."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

from typing import Any

import flax.linen as nn
import jax

from jaxdrop import _checks, drops
from jaxdrop._modules import learned
from jaxdrop._modules.base import document
from jaxdrop._types import ArrayLike, Key
from jaxdrop.linen._shell import ARGUMENTS, FIELDS, Stochastic

__all__ = ["ConcreteDropout", "Masksembles"]


class ConcreteDropout(learned.ConcreteDropout, Stochastic):
    """Examples:
    >>> import jax.numpy as jnp
    >>> model = ConcreteDropout(0.1, deterministic=False)
    >>> (y, penalty), variables = model.init_with_output(jax.random.key(0), jnp.ones((2, 3)))
    >>> variables
    {'params': {'logit': Array(-2.1972246, dtype=float32)}}
    """

    @nn.compact
    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        kernel: ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        logit = self.param("logit", lambda _: learned.log_odds(self.rate))
        return self._apply((inputs, logit), (), deterministic, rng, kernel=kernel)


class Masksembles(learned.Masksembles, nn.Module, kw_only=True):
    @nn.compact
    def __call__(self, inputs: ArrayLike) -> jax.Array:
        inputs = _checks.check_floating(inputs)
        channel = _checks.check_channel_axis(self.channel_axis, inputs.shape)
        masks: Any = self.variable("masks", "masks", self._drawn, inputs.shape[channel])
        if self.is_initializing() and len(inputs) % self.num_masks != 0:
            # Its variables are made, often from one example, which is no batch for the masks.
            return inputs
        return drops.masksembles(inputs, masks.value, channel_axis=self.channel_axis)

    @nn.nowrap
    def _drawn(self, features: int) -> jax.Array:
        return drops.masksembles_masks(self.make_rng("params"), features, self.num_masks, self.scale)


document(Masksembles, None, FIELDS, ARGUMENTS)
