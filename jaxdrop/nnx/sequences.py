"""Dropout of sequences, and zoneout of recurrent states."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import jax

from jaxdrop._modules import sequences
from jaxdrop._types import ArrayLike, Numeric, Rate
from jaxdrop.nnx._shell import Base, Rngs, Shell, Source

__all__ = ["LockedDropout", "NEFTune", "WordDropout", "Zoneout"]


class LockedDropout(sequences.LockedDropout, Shell): ...


class WordDropout(sequences.WordDropout, Shell): ...


class NEFTune(sequences.NEFTune, Base):
    def __post_init__(self, rngs: Rngs | None):
        super().__post_init__(rngs)
        self._alpha(None)

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Source = None,
        mask: ArrayLike | None = None,
        alpha: Numeric | None = None,
    ) -> jax.Array:
        return self._apply((inputs,), self._alpha(alpha), deterministic, rngs, mask=mask)


class Zoneout(sequences.Zoneout, Base):
    def __call__(
        self,
        new: ArrayLike,
        old: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Source = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        return self._apply((new, old), self._rate(rate), deterministic, rngs)
