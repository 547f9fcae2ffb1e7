"""The Linen side of a module: its mode, its key, its call."""

import dataclasses
from typing import Any, cast, dataclass_transform

import flax.linen as nn
import jax
from flax.core.scope import LazyRng

from jaxdrop import _checks, _folding
from jaxdrop._modules.base import Rated, Regularizer, document
from jaxdrop._types import ArrayLike, Key, PyTree, Rate

FIELDS = {
    "deterministic": "If true, no noise. Set here or in the call, not both.",
    "rng_collection": "Collection that the key is drawn from.",
}
ARGUMENTS = {
    "deterministic": "If true, no noise. Set here or in the constructor, not both.",
    "rng": "A key; by default one of the collection `rng_collection`.",
    "rate": "Rate of this call, instead of the module's; may be traced.",
}


def make_rng(module: nn.Module, name: str) -> jax.Array:
    """`module.make_rng(name)`, bit for bit, which compiles faster on a CPU.

    Flax folds a hash of the module's path and counter into the key of the scope. Meanwhile a key with the
    same words takes its place.
    """
    rngs = cast("dict[str, LazyRng]", {} if module.scope is None else module.scope.rngs)
    # Without a key of this name Flax takes that of "params", or raises. A concrete key is mostly folded at
    # once, where the other kind only costs time.
    if name not in rngs or _checks.is_concrete(rngs[name].rng) or not _folding.can_convert(rngs[name].rng):
        return module.make_rng(name)
    before = rngs[name]
    rngs[name] = LazyRng(_folding.converted(before.rng), before.suffix)
    try:
        return _folding.restored(module.make_rng(name), like=before.rng)
    finally:
        rngs[name] = before


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
class Base(Regularizer, nn.Module):
    """A regularizer as a Linen module; subclasses have `deterministic` and `rng_collection`.

    Fields are keyword-only unless they or the subclass say `kw_only=False`.
    """

    def __init_subclass__(cls, kw_only: bool = True, **kwargs: Any):
        own = vars(cls).get("__doc__")
        super().__init_subclass__(kw_only=kw_only, **kwargs)
        document(cls, own, FIELDS, ARGUMENTS)

    # Flax shows, captures and intercepts each method of a module that it is not told to leave alone.
    @nn.nowrap
    def _is_off(self: Any, deterministic: bool | None) -> bool:
        return bool(nn.merge_param("deterministic", self.deterministic, deterministic))

    @nn.nowrap
    def _key(self: Any, rng: Key | None) -> jax.Array:
        return make_rng(self, self.rng_collection) if rng is None else rng


class Stochastic(Base):
    """A module with the two fields that all have."""

    deterministic: bool | None = None
    rng_collection: str = "dropout"


class OneArray(Base):
    """A module that is called with one array."""

    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        rate: Rate | None = None,
    ) -> PyTree:
        return self._apply((inputs,), self._rate(rate), deterministic, rng)


class Shell(Rated, Stochastic, OneArray):
    """A regularizer of one array, with a rate."""
