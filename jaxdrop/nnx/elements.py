"""Regularizers of single elements."""

import dataclasses
from collections.abc import Sequence

import jax

from jaxdrop import _checks, drops
from jaxdrop._types import ArrayLike, Bits, Numeric
from jaxdrop.nnx._shell import Base, Rngs, Shell


class Dropout(Shell):
    """`jaxdrop.dropout` as a module, with every argument of `flax.nnx.Dropout`.

    Args:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      broadcast_dims: Axes along which one decision is shared.
      deterministic: Whether to leave the inputs alone; `model.train()` and `model.eval()` set it.
      rng_collection: The stream that the key is drawn from.
      rngs: Where the keys come from: streams, of which `rng_collection` is forked, or one stream.
      bits: Random bits an element: 8, 16, 24, 32 (the masks of Flax), or None for 16 or 24 by the rate.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> layer = Dropout(0.5, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones(6))
    Array([2., 2., 2., 2., 2., 0.], dtype=float32)
    """

    broadcast_dims: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.dropout)


class GaussianDropout(Shell):
    """`jaxdrop.gaussian_dropout` as a module.

    Args:
      rate: The rate of the dropout that has the variance of this noise, in [0, 1]; a scalar or an
        array; may be traced.
    """

    _pure = staticmethod(drops.gaussian_dropout)


class GaussianNoise(Base):
    """`jaxdrop.gaussian_noise` as a module.

    Args:
      stddev: The standard deviation, finite and at least 0; a scalar or an array; may be traced.
        It may be given at call time in the place where others have a rate.
    """

    stddev: Numeric = dataclasses.field(kw_only=False)
    _pure = staticmethod(drops.gaussian_noise)
    rates_without_key = (0,)

    def __post_init__(self, rngs: Rngs | None):
        super().__post_init__(rngs)
        _checks.check_nonnegative(self.stddev, "stddev")

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        stddev: Numeric | None = None,
    ) -> jax.Array:
        """Adds the noise, of `stddev` for this call in the place of the module's own if given."""
        stddev = _checks.check_nonnegative(self.stddev if stddev is None else stddev, "stddev")
        return self._apply((inputs,), (stddev,), deterministic, rngs)


class AlphaDropout(Shell):
    """`jaxdrop.alpha_dropout` as a module.

    Args:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      broadcast_dims: Axes along which one decision is shared.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    broadcast_dims: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.alpha_dropout)


class Standout(Base):
    """`jaxdrop.standout` as a module: called with the activations and the logits.

    Where deterministic it gives `jaxdrop.standout_mean`, not the activations as they are.

    Args:
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
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
    ) -> jax.Array:
        """Drops by the logits; where deterministic, gives the mean."""
        return self._apply((inputs, logits), (), deterministic, rngs)

    def _deterministic_output(self, inputs: ArrayLike, logits: ArrayLike) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return drops.standout_mean(inputs, logits, alpha=self.alpha, beta=self.beta)
