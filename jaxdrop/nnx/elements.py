"""Dropout and noise, element by element."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import jax

from jaxdrop import _checks
from jaxdrop._modules import elements
from jaxdrop._types import ArrayLike, Bits, Numeric
from jaxdrop.nnx._shell import Base, Rngs, Shell, Source

__all__ = ["AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Standout"]


class Dropout(elements.Dropout, Shell):
    """Examples:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> layer = Dropout(0.5, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones(6))
    Array([2., 2., 2., 2., 2., 0.], dtype=float32)
    """

    bits: Bits = None


class AlphaDropout(elements.AlphaDropout, Shell): ...


class GaussianDropout(elements.GaussianDropout, Shell): ...


class GaussianNoise(elements.GaussianNoise, Base):
    def __post_init__(self, rngs: Rngs | None):
        super().__post_init__(rngs)
        _checks.check_nonnegative(self.stddev, "stddev")

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Source = None,
        stddev: Numeric | None = None,
    ) -> jax.Array:
        stddev = _checks.check_nonnegative(self.stddev if stddev is None else stddev, "stddev")
        return self._apply((inputs,), (stddev,), deterministic, rngs)


class Standout(elements.Standout, Base):
    def __call__(
        self, inputs: ArrayLike, logits: ArrayLike, *, deterministic: bool | None = None, rngs: Source = None
    ) -> jax.Array:
        return self._apply((inputs, logits), (), deterministic, rngs)
