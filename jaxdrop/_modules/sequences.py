"""Dropout of sequences, and zoneout of recurrent states."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from jaxdrop import drops
from jaxdrop._modules.base import Rated
from jaxdrop._types import Bits


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class LockedDropout(Rated):
    """Locked dropout: one mask for all time steps. Module form of `jaxdrop.locked_dropout`.

    Attributes:
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask.
        May be traced; has no gradient.
      time_axis: Axis of time.
    """

    time_axis: int = 1
    bits: Bits = None
    _pure = staticmethod(drops.locked_dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class WordDropout(Rated):
    """Word dropout: replaces tokens, which are integers. Module form of `jaxdrop.word_dropout`.

    Attributes:
      rate: Probability of replacing a token, in [0, 1]: a scalar, or an array that broadcasts to
        the tokens. May be traced; has no gradient.
      replacement: Token that replaces others.
      protected: Tokens that are never replaced, such as padding.
    """

    replacement: int
    protected: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.word_dropout)
    rates_without_key = (0,)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Zoneout(Rated):
    """Zoneout: keeps parts of the old state. Module form of `jaxdrop.zoneout`.

    Called with the new state and the old one. If deterministic, returns `jaxdrop.zoneout_mean`, not
    the new state. `ZoneoutCell` applies it inside a recurrent cell.

    Attributes:
      rate: Probability of keeping the old state, in [0, 1]: a scalar, or an array that broadcasts
        to the state. May be traced; has no gradient.
    """

    bits: Bits = None
    _pure = staticmethod(drops.zoneout)
    _call_doc = """Mixes the new state and the old one; if deterministic, returns the mean.

    Args:
      new: Floating-point state that the cell has made.
      old: State before, of the same shape and dtype.

    Returns:
      Array of the shape and dtype of `new`.
    """

    def _deterministic_output(self, *data_and_rate: Any) -> jax.Array:
        return drops.zoneout_mean(*data_and_rate, **self._options())
