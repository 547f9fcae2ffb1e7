"""Dropout and noise, element by element."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

from collections.abc import Sequence

import jax

from jaxdrop import _checks
from jaxdrop._modules import elements
from jaxdrop._types import ArrayLike, Bits, Key, Numeric
from jaxdrop.linen._shell import OneArray, Shell, Stochastic

__all__ = ["AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Standout"]


class Dropout(elements.Dropout, OneArray, kw_only=False):
    """Examples:
    >>> import jax, jax.numpy as jnp
    >>> layer = Dropout(0.5, deterministic=False)
    >>> layer.apply({}, jnp.ones(6), rngs={"dropout": jax.random.key(0)})
    Array([0., 2., 2., 0., 0., 2.], dtype=float32)
    """

    # In the order of Flax's fields, which may be given by position.
    broadcast_dims: Sequence[int] = ()
    deterministic: bool | None = None
    rng_collection: str = "dropout"
    bits: Bits = None


class AlphaDropout(elements.AlphaDropout, Shell): ...


class GaussianDropout(elements.GaussianDropout, Shell): ...


class GaussianNoise(elements.GaussianNoise, Stochastic):
    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        stddev: Numeric | None = None,
    ) -> jax.Array:
        stddev = _checks.check_nonnegative(self.stddev if stddev is None else stddev, "stddev")
        return self._apply((inputs,), (stddev,), deterministic, rng)


class Standout(elements.Standout, Stochastic):
    def __call__(
        self, inputs: ArrayLike, logits: ArrayLike, deterministic: bool | None = None, rng: Key | None = None
    ) -> jax.Array:
        return self._apply((inputs, logits), (), deterministic, rng)
