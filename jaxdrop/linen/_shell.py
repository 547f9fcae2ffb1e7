"""What the modules share: whether they are deterministic, where the key comes from, what is passed on."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, dataclass_transform

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key, Numeric, Rate


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
class Base(nn.Module):
    """The behaviour of a module; the fields that it speaks of are the subclass's.

    Fields are keyword-only unless the subclass says `kw_only=False`. The pure function gets every
    field that is one of its options.

    Attributes:
      _pure: The pure function, `_pure(key, *data, *level, **options)`.
      rates_without_key: The concrete rates for which there is nothing to draw, so no key is asked for.
    """

    _pure: ClassVar[Callable[..., Any]]
    rates_without_key: ClassVar[tuple[float, ...]] = (0, 1)

    def __init_subclass__(cls, kw_only: bool = True, **kwargs: Any):
        super().__init_subclass__(kw_only=kw_only, **kwargs)

    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        rate: Rate | None = None,
    ) -> Any:
        """Applies the regularizer, or what evaluation does in its place: mostly nothing.

        Args:
          inputs: What the pure function takes.
          deterministic: Whether to draw nothing; here or in the constructor, not both.
          rng: A key; by default one of the collection `rng_collection`.
          rate: A rate for this call, in place of the module's own; may be traced.

        Returns:
          What the pure function returns.
        """
        return self._apply((inputs,), self._rate(rate), deterministic, rng)

    def _apply(
        self,
        data: tuple,
        level: tuple,
        deterministic: bool | None,
        rng: Key | None,
        **options: Any,
    ) -> Any:
        """Asks for a key only where one is needed, as Flax does, so that the keys agree."""
        if self._is_off(deterministic):
            return self._deterministic_output(*data, *level, **options)
        key = None if level and _checks.is_scalar(level[0], *self.rates_without_key) else self._key(rng)
        return self._pure(key, *data, *level, **self._options(), **options)

    def _deterministic_output(self, inputs: ArrayLike, *_: Any, **__: Any) -> Any:
        """What evaluation gives, from the same data, level and options."""
        return jnp.asarray(inputs)

    def _options(self) -> dict[str, Any]:
        parameters = inspect.signature(self._pure).parameters.values()
        named = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        fields = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in fields if name in named}

    def _rate(self: Any, rate: Rate | None) -> tuple[Numeric]:
        return (_checks.check_rate(self.rate if rate is None else rate),)

    def _is_off(self: Any, deterministic: bool | None) -> bool:
        return bool(nn.merge_param("deterministic", self.deterministic, deterministic))

    def _key(self: Any, rng: Key | None) -> jax.Array:
        return self.make_rng(self.rng_collection) if rng is None else rng


class Stochastic(Base):
    """The two fields that all have; their order is free, as they are keyword-only."""

    deterministic: bool | None = None
    rng_collection: str = "dropout"


class Shell(Stochastic):
    """A regularizer of a rate."""

    rate: Rate = dataclasses.field(kw_only=False)
