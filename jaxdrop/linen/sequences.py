"""Dropout of sequences, and zoneout of recurrent states."""
# ruff: noqa: D101 - the docstring of a module is that of its fields.

import jax

from jaxdrop._modules import sequences
from jaxdrop._types import ArrayLike, Key, Rate
from jaxdrop.linen._shell import Shell, Stochastic

__all__ = ["LockedDropout", "WordDropout", "Zoneout"]


class LockedDropout(sequences.LockedDropout, Shell): ...


class WordDropout(sequences.WordDropout, Shell): ...


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
        """Mixes the new state and the old one; if deterministic, returns the mean.

        Args:
          new: Floating-point state that the cell has made.
          old: State before, of the same shape and dtype.
          deterministic: If true, no noise. Set here or in the constructor, not both.
          rng: A key; by default one of the collection `rng_collection`.
          rate: Rate of this call, instead of the module's; may be traced.

        Returns:
          Array of the shape and dtype of `new`.
        """
        return self._apply((new, old), self._rate(rate), deterministic, rng)
