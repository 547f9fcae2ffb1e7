"""Regularizers that own variables: a learned rate, or fixed masks."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import dataclasses
from typing import Any

import jax
from flax import nnx

from jaxdrop import drops
from jaxdrop._modules import learned
from jaxdrop._modules.base import document
from jaxdrop._types import ArrayLike
from jaxdrop.nnx._shell import ARGUMENTS, FIELDS, Base, ConstructorSignature, Rngs, Sized, Source, params_key

__all__ = ["ConcreteDropout", "Masks", "Masksembles"]


class ConcreteDropout(learned.ConcreteDropout, Base):
    """Examples:
    >>> import jax.numpy as jnp
    >>> model = ConcreteDropout(0.1, rngs=nnx.Rngs(0))
    >>> y, penalty = model(jnp.ones((2, 3)))
    >>> model.logit[...]
    Array(-2.1972246, dtype=float32)
    """

    def __post_init__(self: Any, rngs: Rngs | None):
        super().__post_init__(rngs)
        self.logit = nnx.Param(learned.log_odds(self.rate))

    def __call__(
        self: Any,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Source = None,
        kernel: ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        return self._apply((inputs, self.logit[...]), (), deterministic, rngs, kernel=kernel)


class Masks(nnx.Variable):
    """Masks of a model, apart from its parameters."""


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Masksembles(learned.Masksembles, Sized, nnx.Module):
    rngs: dataclasses.InitVar[Rngs]

    __signature__ = ConstructorSignature()

    def __post_init__(self: Any, rngs: Rngs):
        drawn = drops.masksembles_masks(params_key(rngs), self.in_features, self.num_masks, self.scale)
        self.masks = Masks(drawn)

    def __call__(self: Any, inputs: ArrayLike) -> jax.Array:
        return drops.masksembles(inputs, self.masks[...], channel_axis=self.channel_axis)


document(
    Masksembles, None, {**FIELDS, "rngs": "Streams, of which `params` is used, or one stream."}, ARGUMENTS
)
