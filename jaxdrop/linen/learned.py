"""Regularizers that own variables: a learned rate, or fixed masks."""
# ruff: noqa: D101 - a module without a docstring has that of its fields.

from typing import Any

import flax.linen as nn
import jax

from jaxdrop import _checks, drops
from jaxdrop._modules import learned
from jaxdrop._types import ArrayLike, Key
from jaxdrop.linen._shell import Stochastic

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
        """Drops at the learned rate.

        Args:
          inputs: Floating-point inputs.
          deterministic: If true, no noise. Set here or in the constructor, not both.
          rng: A key; by default one of the collection `rng_collection`.
          kernel: Kernel of the layer that takes the result, for the penalty.

        Returns:
          The output, and the penalty, a scalar.
        """
        logit = self.param("logit", lambda _: learned.log_odds(self.rate))
        return self._apply((inputs, logit), (), deterministic, rng, kernel=kernel)


class Masksembles(learned.Masksembles, nn.Module, kw_only=True):
    __doc__ = learned.Masksembles.__doc__

    @nn.compact
    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Applies one mask to each part of the batch.

        Args:
          inputs: Floating-point batch; its size is a multiple of `num_masks`.

        Returns:
          Array of the shape and dtype of the inputs.
        """
        channel = _checks.check_channel_axis(self.channel_axis, inputs.shape)
        masks: Any = self.variable("masks", "masks", self._drawn, inputs.shape[channel])
        return drops.masksembles(inputs, masks.value, channel_axis=self.channel_axis)

    def _drawn(self, features: int) -> jax.Array:
        return drops.masksembles_masks(self.make_rng("params"), features, self.num_masks, self.scale)
