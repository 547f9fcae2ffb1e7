"""Regularizers of sequences and of recurrent states."""

from collections.abc import Sequence
from typing import Any

import jax

from jaxdrop import drops
from jaxdrop._types import ArrayLike, Bits, Rate
from jaxdrop.nnx._shell import Rngs, Shell


class LockedDropout(Shell):
    """`jaxdrop.locked_dropout` as a module: one mask for all time steps.

    Args:
      rate: The probability of dropping, in [0, 1]; a scalar or an array; may be traced.
      time_axis: The axis of time.
      bits: Random bits a decision: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    time_axis: int = 1
    bits: Bits = None
    _pure = staticmethod(drops.locked_dropout)


class WordDropout(Shell):
    """`jaxdrop.word_dropout` as a module, on integers.

    Args:
      rate: The probability of replacing, in [0, 1]; a scalar or an array; may be traced.
      replacement: The token to put in place.
      protected: Tokens that are never replaced, such as padding.
      bits: Random bits a token: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    replacement: int
    protected: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.word_dropout)
    rates_without_key = (0,)


class Zoneout(Shell):
    """`jaxdrop.zoneout` as a module: called with the new state and the old.

    Where deterministic it gives `jaxdrop.zoneout_mean`, not the new state as it is. `ZoneoutCell`
    applies it inside a recurrent cell.

    Args:
      rate: The probability of staying, in [0, 1]; a scalar or an array; may be traced.
      bits: Random bits an element: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    bits: Bits = None
    _pure = staticmethod(drops.zoneout)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        new: ArrayLike,
        old: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        """Mixes the new state and the old; where deterministic, gives the mean."""
        return self._apply((new, old), self._rate(rate), deterministic, rngs)

    def _deterministic_output(self, *data_and_rate: Any) -> jax.Array:
        return drops.zoneout_mean(*data_and_rate, **self._options())
