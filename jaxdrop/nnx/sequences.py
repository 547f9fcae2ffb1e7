"""Dropout of sequences, and zoneout of recurrent states."""
# ruff: noqa: D101 - the docstring of a module is that of its fields.

import jax

from jaxdrop._modules import sequences
from jaxdrop._types import ArrayLike, Rate
from jaxdrop.nnx._shell import Base, Rngs, Shell

__all__ = ["LockedDropout", "WordDropout", "Zoneout"]


class LockedDropout(sequences.LockedDropout, Shell): ...


class WordDropout(sequences.WordDropout, Shell): ...


class Zoneout(sequences.Zoneout, Base):
    def __call__(
        self,
        new: ArrayLike,
        old: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        """Mixes the new state and the old one; if deterministic, returns the mean.

        Args:
          new: Floating-point state that the cell has made.
          old: State before, of the same shape and dtype.
          deterministic: If true, no noise. Overrides the module's own.
          rngs: A key, a stream or streams. Overrides the module's own.
          rate: Rate of this call, instead of the module's; may be traced.

        Returns:
          Array of the shape and dtype of `new`.
        """
        return self._apply((new, old), self._rate(rate), deterministic, rngs)
