"""Dropout of sequences, and zoneout of recurrent states."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from jaxdrop import _checks, drops
from jaxdrop._modules.base import Rated, Regularizer
from jaxdrop._types import Bits, Numeric


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
class NEFTune(Regularizer):
    """NEFTune: adds uniform noise to token embeddings. Module form of `jaxdrop.neftune`.

    Called with the embeddings; the call also takes the mask of the tokens, and `alpha` where other
    modules take `rate`.

    Attributes:
      alpha: Scale of the noise, finite and at least 0: a scalar, or an array that broadcasts to the
        embeddings. May be traced.
    """

    alpha: Numeric = dataclasses.field(kw_only=False)
    _pure = staticmethod(drops.neftune)
    rates_without_key = (0,)
    _call_doc = """Adds noise; if deterministic, returns the embeddings.

    Args:
      inputs: Floating-point embeddings, `[..., L, D]`.
      mask: Booleans that broadcast to `[..., L]`; True is a token, False is padding.
      alpha: Scale of the noise of this call, instead of the module's; may be traced.

    Returns:
      Array of the shape and dtype of the embeddings.
    """

    def _alpha(self, alpha: Numeric | None) -> tuple[Numeric]:
        return (_checks.check_nonnegative(self.alpha if alpha is None else alpha, "alpha"),)


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
