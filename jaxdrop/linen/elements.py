"""Regularizers of single elements."""

import dataclasses
from collections.abc import Sequence

import jax

from jaxdrop import _checks, drops
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.linen._shell import Base, Shell, Stochastic


# Its fields stand in the order of Flax's, and may be given by their places.
class Dropout(Base, kw_only=False):
    """`jaxdrop.dropout` as a module, with every argument of `flax.linen.Dropout`.

    Attributes:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      broadcast_dims: Axes along which one decision is shared.
      deterministic: Whether to leave the inputs alone; here or at call time.
      rng_collection: The collection that the key is drawn from.
      bits: Random bits an element: 8, 16, 24, 32 (the masks of Flax), or None for 16 or 24 by the rate.

    >>> import jax, jax.numpy as jnp
    >>> layer = Dropout(0.5, deterministic=False)
    >>> layer.apply({}, jnp.ones(6), rngs={"dropout": jax.random.key(0)})
    Array([0., 2., 2., 0., 0., 2.], dtype=float32)
    """

    rate: Rate
    broadcast_dims: Sequence[int] = ()
    deterministic: bool | None = None
    rng_collection: str = "dropout"
    bits: Bits = None
    _pure = staticmethod(drops.dropout)


class GaussianDropout(Shell):
    """`jaxdrop.gaussian_dropout` as a module.

    Attributes:
      rate: The rate of the dropout that has the variance of this noise, in [0, 1]; a scalar or an
        array; may be traced.
    """

    _pure = staticmethod(drops.gaussian_dropout)


class GaussianNoise(Stochastic):
    """`jaxdrop.gaussian_noise` as a module.

    Attributes:
      stddev: The standard deviation, finite and at least 0; a scalar or an array; may be traced.
        It may be given at call time in the place where others have a rate.
    """

    stddev: Numeric = dataclasses.field(kw_only=False)
    _pure = staticmethod(drops.gaussian_noise)
    rates_without_key = (0,)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        stddev: Numeric | None = None,
    ) -> jax.Array:
        """Adds the noise, of `stddev` for this call in the place of the module's own if given."""
        stddev = _checks.check_nonnegative(self.stddev if stddev is None else stddev, "stddev")
        return self._apply((inputs,), (stddev,), deterministic, rng)


class AlphaDropout(Shell):
    """`jaxdrop.alpha_dropout` as a module.

    Attributes:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      broadcast_dims: Axes along which one decision is shared.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    broadcast_dims: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.alpha_dropout)


class Standout(Stochastic):
    """`jaxdrop.standout` as a module: called with the activations and the logits.

    Where deterministic it gives `jaxdrop.standout_mean`, not the activations as they are.

    Attributes:
      alpha: The scale of the logits; may be traced.
      beta: The offset of the logits; may be traced.
      bits: Random bits an element: 8, 16 (by default), 24 or 32 (Flax).
    """

    alpha: Numeric = dataclasses.field(default=1.0, kw_only=False)
    beta: Numeric = dataclasses.field(default=0.0, kw_only=False)
    bits: Bits = None
    _pure = staticmethod(drops.standout)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: ArrayLike,
        logits: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
    ) -> jax.Array:
        """Drops by the logits; where deterministic, gives the mean."""
        return self._apply((inputs, logits), (), deterministic, rng)

    def _deterministic_output(self, inputs: ArrayLike, logits: ArrayLike) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return drops.standout_mean(inputs, logits, alpha=self.alpha, beta=self.beta)
