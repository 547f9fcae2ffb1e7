"""The base of all modules: from call arguments to the pure function, whatever the API."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Numeric, Rate

_ATTRIBUTES = "Attributes:"
# The line on `bits`, unless a class has its own.
_BITS = """Random bits per decision: 8, 16, 24 or 32 (32 reproduces Flax's masks). None: 16, or 24 for
    rates near 0 or 1."""
# An argument of a docstring, with its continuation lines.
_ARGUMENT = re.compile(r"^  \*{0,2}(?P<name>\w+): .*(\n    .*)*", re.MULTILINE)


class Regularizer:
    """A pure function as a module. Fields named as its options are passed on to it.

    An API supplies `_is_off(deterministic)` and `_key(source)`.
    """

    # Called as `_pure(key, *data, *level, **options)`.
    _pure: ClassVar[Callable[..., Any]]
    # The docstring of a method NAME that each API writes stands in `_NAME_doc`, without the arguments
    # that all calls share.
    _call_doc = """Applies the regularizer; if deterministic, returns the inputs, or what its class says.

    Args:
      inputs: Input of the pure function.

    Returns:
      Output of the pure function.
    """
    # Concrete rates at which nothing is drawn, so that no key is asked for.
    rates_without_key: ClassVar[tuple[float, ...]] = (0, 1)

    def _apply(
        self: Any, data: tuple, level: tuple, deterministic: bool | None, source: Any, **options: Any
    ) -> Any:
        """Asks for a key only if one is needed, as Flax does, so that the keys agree with Flax's."""
        if self._is_off(deterministic):
            return self._deterministic_output(*data, *level, **options)
        key = None if level and _checks.is_scalar(level[0], *self.rates_without_key) else self._key(source)
        return self._pure(key, *data, *level, **self._options(), **options)

    def _deterministic_output(self, *data_and_level: Any, **_: Any) -> Any:
        """The output without noise, from the same data, level and options: by default the first input."""
        return jnp.asarray(data_and_level[0])

    def _options(self: Any) -> dict[str, Any]:
        parameters = inspect.signature(self._pure).parameters.values()
        named = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        fields = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in fields if name in named}

    def _rate(self: Any, rate: Rate | None) -> tuple[Numeric]:
        return (_checks.check_rate(self.rate if rate is None else rate),)


class AtRateZero(Regularizer):
    """A regularizer whose output without noise is that of its function at rate 0."""

    def _deterministic_output(self, inputs: ArrayLike, *_: Any, **options: Any) -> Any:
        return self._pure(None, inputs, 0.0, **self._options(), **options)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Rated(Regularizer):
    """A regularizer with a rate, its first argument."""

    rate: Rate = dataclasses.field(kw_only=False)


def document(cls: type, own: str | None, fields: Mapping[str, str], arguments: Mapping[str, str]) -> None:
    """Completes the docstrings of a class of an API and of its methods with those of the shared class.

    A class without a docstring, or with nothing but examples, gets that of its fields.

    Args:
      cls: The class.
      own: Its docstring, as written.
      fields: What to add on the arguments of the API's constructors, by name.
      arguments: What to add on the arguments of the API's calls, by name.
    """
    for name, method in vars(cls).items():
        text = getattr(cls, f"_{name.strip('_')}_doc", None)
        if text and inspect.isfunction(method) and method.__doc__ is None:
            method.__doc__ = _of_method(method, inspect.cleandoc(text), arguments)
    inherited = (base.__doc__ or "" for base in cls.__mro__[1:] if base.__module__.startswith("jaxdrop."))
    source = next((doc for doc in inherited if _ATTRIBUTES in doc), None)
    own = inspect.cleandoc(own or "")
    if source is None or (own and not own.startswith("Examples:")):
        return
    examples = own and f"Examples:\n{textwrap.indent(own.removeprefix('Examples:').strip(), '  ')}"
    head, written = inspect.cleandoc(source).split(_ATTRIBUTES)
    written, *rest = written.split("\n\n", 1)
    names = inspect.signature(cls.__init__).parameters
    lines = {"bits": _BITS, **fields}.items()
    added = [f"\n  {name}: {line}" for name, line in lines if name in names and f"  {name}:" not in written]
    cls.__doc__ = "\n\n".join(filter(None, (head + _ATTRIBUTES + written + "".join(added), *rest, examples)))


def _of_method(method: Callable[..., Any], text: str, arguments: Mapping[str, str]) -> str:
    """The text with the arguments of the method alone, in their order."""
    head, written = text.split("Args:\n")
    written, rest = written.split("\n\n", 1)
    known = {name: f"  {name}: {line}" for name, line in arguments.items()}
    known |= {found["name"]: found[0] for found in _ARGUMENT.finditer(written)}
    listed = [known[name] for name in inspect.signature(method).parameters if name in known]
    return "\n".join((f"{head}Args:", *listed, "", rest))
