"""Flax Linen modules: thin shells over the pure functions of `jaxdrop`.

A shell owns its rate, whether it is deterministic, and where its key comes from. `Dropout` takes
every argument of Flax's own: with `from jaxdrop.linen import Dropout` a model switches, and with
`bits=32` it goes on with the very masks that it had, and in float32 with the very outputs. Unlike
Flax's, it takes real floating-point arrays alone, and scales half precision in float32.
"""

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdrop import _checks, drops


class _Shell(nn.Module):
    """Determinism and the key. A subclass has the fields, and says in `_noisy` what is done."""

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        raise NotImplementedError

    def __call__(
        self: Any,
        inputs: chex.Array,
        deterministic: bool | None = None,
        rng: chex.PRNGKey | None = None,
        *,
        rate: chex.Numeric | None = None,
    ) -> jax.Array:
        """Applies the regularizer, or returns the inputs where deterministic.

        Args:
          inputs: A floating-point array.
          deterministic: Whether to leave the inputs alone; here or in the constructor, not both.
          rng: A key; by default one of the collection `rng_collection`.
          rate: A rate for this call, in place of the module's own; may be traced.

        Returns:
          An array of the shape and dtype of the inputs.
        """
        rate = _checks.check_rate(self.rate if rate is None else rate)
        return self._run(inputs, deterministic, rng, rate, _checks.is_trivial_rate(rate))

    def _run(
        self: Any,
        inputs: chex.Array,
        deterministic: bool | None,
        rng: chex.PRNGKey | None,
        level: chex.Numeric,
        keyless: bool,
    ) -> jax.Array:
        """Asks for a key only where one is needed, as Flax does, so that the keys agree."""
        if nn.merge_param("deterministic", self.deterministic, deterministic):
            return jnp.asarray(inputs)
        if rng is None and not keyless:
            rng = self.make_rng(self.rng_collection)
        return self._noisy(rng, inputs, level)


class Dropout(_Shell):
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

    rate: chex.Numeric
    broadcast_dims: Sequence[int] = ()
    deterministic: bool | None = None
    rng_collection: str = "dropout"
    bits: int | None = None

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.dropout(key, inputs, rate, broadcast_dims=self.broadcast_dims, bits=self.bits)


class SpatialDropout(_Shell):
    """`jaxdrop.spatial_dropout` as a module.

    Attributes:
      rate: The probability of dropping a channel, in [0, 1]; a scalar or an array; may be traced.
      channel_axis: The axis of the channels; not 0, which is the batch.
      deterministic: Whether to leave the inputs alone; here or at call time.
      rng_collection: The collection that the key is drawn from.
      bits: Random bits a channel: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    rate: chex.Numeric
    channel_axis: int = -1
    deterministic: bool | None = None
    rng_collection: str = "dropout"
    bits: int | None = None

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.spatial_dropout(key, inputs, rate, channel_axis=self.channel_axis, bits=self.bits)


class GaussianDropout(_Shell):
    """`jaxdrop.gaussian_dropout` as a module.

    Attributes:
      rate: The rate of the dropout that has the variance of this noise, in [0, 1]; a scalar or an
        array; may be traced.
      deterministic: Whether to leave the inputs alone; here or at call time.
      rng_collection: The collection that the key is drawn from.
    """

    rate: chex.Numeric
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.gaussian_dropout(key, inputs, rate)


class GaussianNoise(_Shell):
    """`jaxdrop.gaussian_noise` as a module.

    Attributes:
      stddev: The standard deviation, finite and at least 0; a scalar or an array; may be traced.
      deterministic: Whether to leave the inputs alone; here or at call time.
      rng_collection: The collection that the key is drawn from.
    """

    stddev: chex.Numeric
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: chex.Array,
        deterministic: bool | None = None,
        rng: chex.PRNGKey | None = None,
        *,
        stddev: chex.Numeric | None = None,
    ) -> jax.Array:
        """Adds the noise, or returns the inputs where deterministic.

        Args:
          inputs: A floating-point array.
          deterministic: Whether to leave the inputs alone; here or in the constructor, not both.
          rng: A key; by default one of the collection `rng_collection`.
          stddev: A deviation for this call, in place of the module's own; may be traced.

        Returns:
          An array of the shape and dtype of the inputs.
        """
        stddev = _checks.check_nonnegative("stddev", self.stddev if stddev is None else stddev)
        return self._run(inputs, deterministic, rng, stddev, _checks.is_scalar(stddev, 0))

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.gaussian_noise(key, inputs, rate)


class AlphaDropout(_Shell):
    """`jaxdrop.alpha_dropout` as a module.

    Attributes:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      deterministic: Whether to leave the inputs alone; here or at call time.
      rng_collection: The collection that the key is drawn from.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    rate: chex.Numeric
    deterministic: bool | None = None
    rng_collection: str = "dropout"
    bits: int | None = None

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.alpha_dropout(key, inputs, rate, bits=self.bits)
