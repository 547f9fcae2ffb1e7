"""Flax NNX modules: thin shells over the pure functions of `jaxdrop`.

A shell owns its rate, whether it is deterministic, and where its key comes from. `Dropout` takes
every argument of Flax's own: with `from jaxdrop.nnx import Dropout` a model switches, and with
`bits=32` it goes on with the very masks that it had, and in float32 with the very outputs. Unlike
Flax's, it takes real floating-point arrays alone, and scales half precision in float32.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop import _checks, drops

_Rngs = nnx.Rngs | nnx.RngStream


class _Shell(nnx.Module):
    """Determinism and the key. A subclass adds its options, and says in `_noisy` what is done."""

    def __init__(self, deterministic: bool | None, rng_collection: str, rngs: _Rngs | None):
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        self.rngs = nnx.data(None if rngs is None else self._stream(rngs).fork())

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        raise NotImplementedError

    def __call__(
        self: Any,
        inputs: chex.Array,
        *,
        deterministic: bool | None = None,
        rngs: _Rngs | jax.Array | None = None,
        rate: chex.Numeric | None = None,
    ) -> jax.Array:
        """Applies the regularizer, or returns the inputs where deterministic.

        Args:
          inputs: A floating-point array.
          deterministic: Whether to leave the inputs alone; overrides the module's own.
          rngs: A key, a stream or streams; overrides the module's own.
          rate: A rate for this call, in place of the module's own; may be traced.

        Returns:
          An array of the shape and dtype of the inputs.
        """
        rate = _checks.check_rate(self.rate if rate is None else rate)
        return self._run(inputs, deterministic, rngs, rate, _checks.is_trivial_rate(rate))

    def _run(
        self,
        inputs: chex.Array,
        deterministic: bool | None,
        rngs: _Rngs | jax.Array | None,
        level: chex.Numeric,
        keyless: bool,
    ) -> jax.Array:
        """Asks for a key only where one is needed, as Flax does, so that the keys agree."""
        off = self.deterministic if deterministic is None else deterministic
        if off is None:
            raise ValueError("`deterministic` must be given to the constructor or the call, got None.")
        if off:
            return jnp.asarray(inputs)
        key: Any = None if keyless else self._key(rngs)
        return self._noisy(key, inputs, level)

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view` sets.

        Args:
          deterministic: Whether to leave the inputs alone; None for no change.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _stream(self, rngs: _Rngs) -> nnx.RngStream:
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]
        if isinstance(rngs, nnx.RngStream):
            return rngs
        raise TypeError(
            f"`rngs` must be nnx.Rngs, an nnx.RngStream or, in a call, a key, got {type(rngs).__name__}."
        )

    def _key(self, rngs: _Rngs | jax.Array | None) -> jax.Array:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError("`rngs` must be given to the constructor or the call, got None.")
        return source if isinstance(source, jax.Array) else self._stream(source)()


class Dropout(_Shell):
    """`jaxdrop.dropout` as a module, with every argument of `flax.nnx.Dropout`.

    Args:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      broadcast_dims: Axes along which one decision is shared.
      deterministic: Whether to leave the inputs alone; `model.train()` and `model.eval()` set it.
      rng_collection: The stream that the key is drawn from.
      rngs: Where the keys come from: streams, of which `rng_collection` is forked, or one stream.
      bits: Random bits an element: 8, 16, 24, 32 (the masks of Flax), or None for 16 or 24 by the rate.

    >>> import jax.numpy as jnp
    >>> layer = Dropout(0.5, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones(6))
    Array([2., 2., 2., 2., 2., 0.], dtype=float32)
    """

    def __init__(
        self,
        rate: chex.Numeric,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: _Rngs | None = None,
        bits: int | None = None,
    ):
        super().__init__(deterministic, rng_collection, rngs)
        _checks.check_rate(rate)
        self.rate = rate
        self.broadcast_dims = tuple(broadcast_dims)
        self.bits = bits

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.dropout(key, inputs, rate, broadcast_dims=self.broadcast_dims, bits=self.bits)


class SpatialDropout(_Shell):
    """`jaxdrop.spatial_dropout` as a module.

    Args:
      rate: The probability of dropping a channel, in [0, 1]; a scalar or an array; may be traced.
      channel_axis: The axis of the channels; not 0, which is the batch.
      deterministic: Whether to leave the inputs alone; `model.train()` and `model.eval()` set it.
      rng_collection: The stream that the key is drawn from.
      rngs: Where the keys come from: streams, of which `rng_collection` is forked, or one stream.
      bits: Random bits a channel: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    def __init__(
        self,
        rate: chex.Numeric,
        *,
        channel_axis: int = -1,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: _Rngs | None = None,
        bits: int | None = None,
    ):
        super().__init__(deterministic, rng_collection, rngs)
        _checks.check_rate(rate)
        self.rate = rate
        self.channel_axis = channel_axis
        self.bits = bits

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.spatial_dropout(key, inputs, rate, channel_axis=self.channel_axis, bits=self.bits)


class GaussianDropout(_Shell):
    """`jaxdrop.gaussian_dropout` as a module.

    Args:
      rate: The rate of the dropout that has the variance of this noise, in [0, 1]; a scalar or an
        array; may be traced.
      deterministic: Whether to leave the inputs alone; `model.train()` and `model.eval()` set it.
      rng_collection: The stream that the key is drawn from.
      rngs: Where the keys come from: streams, of which `rng_collection` is forked, or one stream.
    """

    def __init__(
        self,
        rate: chex.Numeric,
        *,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: _Rngs | None = None,
    ):
        super().__init__(deterministic, rng_collection, rngs)
        _checks.check_rate(rate)
        self.rate = rate

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.gaussian_dropout(key, inputs, rate)


class GaussianNoise(_Shell):
    """`jaxdrop.gaussian_noise` as a module.

    Args:
      stddev: The standard deviation, finite and at least 0; a scalar or an array; may be traced.
      deterministic: Whether to leave the inputs alone; `model.train()` and `model.eval()` set it.
      rng_collection: The stream that the key is drawn from.
      rngs: Where the keys come from: streams, of which `rng_collection` is forked, or one stream.
    """

    def __init__(
        self,
        stddev: chex.Numeric,
        *,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: _Rngs | None = None,
    ):
        super().__init__(deterministic, rng_collection, rngs)
        _checks.check_nonnegative("stddev", stddev)
        self.stddev = stddev

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: chex.Array,
        *,
        deterministic: bool | None = None,
        rngs: _Rngs | jax.Array | None = None,
        stddev: chex.Numeric | None = None,
    ) -> jax.Array:
        """Adds the noise, or returns the inputs where deterministic.

        Args:
          inputs: A floating-point array.
          deterministic: Whether to leave the inputs alone; overrides the module's own.
          rngs: A key, a stream or streams; overrides the module's own.
          stddev: A deviation for this call, in place of the module's own; may be traced.

        Returns:
          An array of the shape and dtype of the inputs.
        """
        stddev = _checks.check_nonnegative("stddev", self.stddev if stddev is None else stddev)
        return self._run(inputs, deterministic, rngs, stddev, _checks.is_scalar(stddev, 0))

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.gaussian_noise(key, inputs, rate)


class AlphaDropout(_Shell):
    """`jaxdrop.alpha_dropout` as a module.

    Args:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      deterministic: Whether to leave the inputs alone; `model.train()` and `model.eval()` set it.
      rng_collection: The stream that the key is drawn from.
      rngs: Where the keys come from: streams, of which `rng_collection` is forked, or one stream.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    def __init__(
        self,
        rate: chex.Numeric,
        *,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: _Rngs | None = None,
        bits: int | None = None,
    ):
        super().__init__(deterministic, rng_collection, rngs)
        _checks.check_rate(rate)
        self.rate = rate
        self.bits = bits

    def _noisy(self, key: chex.PRNGKey, inputs: chex.Array, rate: chex.Numeric) -> jax.Array:
        return drops.alpha_dropout(key, inputs, rate, bits=self.bits)
