"""What the modules share: whether they are deterministic, where the key comes from, what is passed on."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, dataclass_transform

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Numeric, Rate

Rngs = nnx.Rngs | nnx.RngStream


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Base(nnx.Module):
    """The behaviour of a module, and the fields that all have.

    Every subclass is a dataclass, its fields keyword-only unless they say otherwise. The pure
    function gets every field that is one of its options.

    Attributes:
      _pure: The pure function, `_pure(key, *data, *level, **options)`.
      rates_without_key: The concrete rates for which there is nothing to draw, so no key is asked for.
    """

    _pure: ClassVar[Callable[..., Any]]
    rates_without_key: ClassVar[tuple[float, ...]] = (0, 1)

    deterministic: bool | None = False
    rng_collection: str = "dropout"
    rngs: dataclasses.InitVar[Any] = None

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(eq=False, repr=False, kw_only=True)(cls)

    def __post_init__(self: Any, rngs: Rngs | None):
        self.rngs = nnx.data(None if rngs is None else self._stream(rngs).fork())
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):
                setattr(self, field.name, tuple(getattr(self, field.name)))

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        rate: Rate | None = None,
    ) -> Any:
        """Applies the regularizer, or what evaluation does in its place: mostly nothing.

        Args:
          inputs: What the pure function takes.
          deterministic: Whether to draw nothing; overrides the module's own.
          rngs: A key, a stream or streams; overrides the module's own.
          rate: A rate for this call, in place of the module's own; may be traced.

        Returns:
          What the pure function returns.
        """
        return self._apply((inputs,), self._rate(rate), deterministic, rngs)

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view` sets.

        Args:
          deterministic: Whether to draw nothing; None for no change.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _apply(
        self,
        data: tuple,
        level: tuple,
        deterministic: bool | None,
        rngs: Rngs | jax.Array | None,
        **options: Any,
    ) -> Any:
        """Asks for a key only where one is needed, as Flax does, so that the keys agree."""
        if self._is_off(deterministic):
            return self._deterministic_output(*data, *level, **options)
        key = None if level and _checks.is_scalar(level[0], *self.rates_without_key) else self._key(rngs)
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

    def _is_off(self, deterministic: bool | None) -> bool:
        off = self.deterministic if deterministic is None else deterministic
        if off is None:
            raise ValueError("`deterministic` must be given to the constructor or the call, got None.")
        return off

    def _stream(self, rngs: Rngs) -> nnx.RngStream:
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]
        if isinstance(rngs, nnx.RngStream):
            return rngs
        raise TypeError(
            f"`rngs` must be nnx.Rngs, an nnx.RngStream or, in a call, a key, got {type(rngs).__name__}."
        )

    def _key(self: Any, rngs: Rngs | jax.Array | None) -> jax.Array:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError("`rngs` must be given to the constructor or the call, got None.")
        return source if isinstance(source, jax.Array) else self._stream(source)()


class Shell(Base):
    """A regularizer of a rate."""

    rate: Rate = dataclasses.field(kw_only=False)

    def __post_init__(self, rngs: Rngs | None):
        super().__post_init__(rngs)
        _checks.check_rate(self.rate)


def params_key(rngs: Rngs | None) -> jax.Array:
    """A key for what a module owns."""
    if rngs is None:
        raise ValueError("`rngs` must be given to the constructor, got None.")
    if not isinstance(rngs, Rngs):
        raise TypeError(f"`rngs` must be nnx.Rngs or an nnx.RngStream, got {type(rngs).__name__}.")
    return rngs.params() if isinstance(rngs, nnx.Rngs) else rngs()
