"""Dropout of sequences, and zoneout of recurrent states."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

import jax

from jaxdrop._modules import sequences
from jaxdrop._types import ArrayLike, Key, Numeric, Rate
from jaxdrop.linen._shell import Shell, Stochastic

__all__ = ["LockedDropout", "NEFTune", "WordDropout", "Zoneout"]


class LockedDropout(sequences.LockedDropout, Shell): ...


class WordDropout(sequences.WordDropout, Shell): ...


class NEFTune(sequences.NEFTune, Stochastic):
    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        mask: ArrayLike | None = None,
        alpha: Numeric | None = None,
    ) -> jax.Array:
        return self._apply((inputs,), self._alpha(alpha), deterministic, rng, mask=mask)


class Zoneout(sequences.Zoneout, Stochastic):
    def __call__(
        self,
        new: ArrayLike,
        old: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        rate: Rate | None = None,
    ) -> jax.Array:
        return self._apply((new, old), self._rate(rate), deterministic, rng)
