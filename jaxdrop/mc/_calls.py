"""The call of a model: its inputs, its other arguments, and those that tell training from evaluation."""

import dataclasses
from collections.abc import Mapping
from types import FunctionType
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree

SOURCES = ("rng", "rngs", "dropout_rng", "key")
# Names of mode arguments and fields, and their values in training.
_ON = ("train", "training", "is_training", "is_train", "enable_dropout", "use_dropout")
_OFF = (
    "deterministic",
    "eval",
    "is_eval",
    "eval_mode",
    "evaluation",
    "inference",
    "is_inference",
    "test",
    "is_test",
)
MODES: dict[str, bool] = {name: name in _ON for name in (*_ON, *_OFF)}


class Static(NamedTuple):
    """An argument without arrays. Its text tells 2 from 2.0 and 0.0 from -0.0, which are equal."""

    name: str
    text: str
    value: PyTree

    def __hash__(self) -> int:
        return hash((self.name, self.text))


def split_static(arguments: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], tuple[Static, ...]]:
    """Splits the arguments of a model into those with arrays and the others, which are hashable.

    Raises:
      ValueError: If one is a source of randomness: each sample would draw the same noise.
    """
    arrays = {}
    for name, value in arguments.items():
        kinds = [getattr(leaf, "dtype", None) for leaf in jax.tree.leaves(value)]
        keys = any(kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key) for kind in kinds)
        if keys or name in SOURCES or _is_raw_key(name, value):
            raise ValueError(
                f"`{name}` must not be given, for every sample has its own key; wrap a model that "
                "needs one in a function `predict(key, x)`."
            )
        if any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value)):
            arrays[name] = value
    others = sorted(arguments.keys() - arrays.keys())
    return arrays, tuple(Static(name, repr(arguments[name]), arguments[name]) for name in others)


def check_inputs(x: PyTree) -> None:
    """Checks that no input is a key: all samples would draw the same from it.

    Raises:
      ValueError: If one is.
    """
    for path, leaf in jax.tree.leaves_with_path(x):
        kind, name = getattr(leaf, "dtype", None), jax.tree_util.keystr(path[-1:], simple=True)
        typed = kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key)
        if typed or _is_raw_key(name, leaf):
            raise ValueError(
                f"`x` must not hold keys, for every sample has its own, got one at {name!r}; wrap a model "
                "that needs one in a function `predict(key, x)`."
            )


def _is_raw_key(name: str, leaf: PyTree) -> bool:
    """Whether the name, the shape and the type of an array are those of a raw key."""
    words = getattr(leaf, "dtype", None) == np.uint32 and leaf.shape in ((2,), (4,))
    return words and name.endswith(("rng", "rngs", "key", "keys", "seed"))


def check_not_per_example(x: PyTree, arrays: Mapping[str, PyTree]) -> None:
    """Checks that no array among the arguments has an axis of examples.

    Raises:
      ValueError: If one has.
    """
    # Those of a graph have no common size.
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(x) if getattr(leaf, "shape", ())}
    if len(sizes) != 1 or sizes == {(1,)}:
        return
    for name, value in arrays.items():
        shapes = [leaf.shape for leaf in jax.tree.leaves(value) if hasattr(leaf, "shape")]
        if any(shape[:1] in sizes for shape in shapes):
            raise ValueError(
                f"`{name}` must not have the leading axis of `x`, or each batch would get the rows of this "
                f"one, got shape {shapes[0]}; pass it in `x`, a dictionary with `unpack=True`. If its axis "
                "is not that of the examples, give it a leading axis of 1."
            )


def _unpacked(x: PyTree, unpack: bool) -> tuple[tuple[PyTree, ...], dict[str, PyTree]]:
    """The inputs as positional arguments and keyword arguments.

    Raises:
      TypeError: If inputs to be unpacked are not a tuple, a list or a dictionary.
    """
    if not unpack:
        return (x,), {}
    if isinstance(x, Mapping):
        return (), dict(x)
    if isinstance(x, tuple | list):
        return tuple(x), {}
    raise TypeError(
        f"`x` must be a tuple or a dictionary to be unpacked into the call, got {type(x).__name__}."
    )


def arguments(
    x: PyTree, unpack: bool, arrays: Mapping[str, PyTree], others: tuple[Static, ...]
) -> tuple[tuple[PyTree, ...], dict[str, PyTree]]:
    """The arguments of the call, from inputs and from those that `split_static` split.

    Raises:
      TypeError: If an argument is given twice.
    """
    given, named = _unpacked(x, unpack)
    bound = {**arrays, **{static.name: static.value for static in others}}
    twice = sorted(named.keys() & bound.keys())
    if twice:
        raise TypeError(f"`{twice[0]}` must be given once, in `x` or as an argument, got both.")
    return given, named | bound


def modes_to_change(values: Mapping[str, Any]) -> dict[str, bool]:
    """Of some values by name, the modes that are set as at evaluation, with their values in training."""
    return {
        name: training
        for name, training in MODES.items()
        if _is_mode(values.get(name)) and bool(values[name]) != training
    }


def says_training(values: Mapping[str, Any]) -> bool:
    """Whether one of some values by name is a mode that is set as in training."""
    return any(_is_mode(values.get(name)) and bool(values[name]) == mode for name, mode in MODES.items())


def _is_mode(value: object) -> bool:
    return isinstance(value, bool | np.bool_) or (type(value) is int and value in (0, 1))


def config_in_training(config: Any) -> tuple[Any, dict[str, bool]]:
    """A configuration with its modes as in training, and those modes that were set as at evaluation.

    Args:
      config: A dataclass, or a mapping or what has its `items`; may hold others. All else is left as it is.
    """
    if isinstance(config, type):
        return config, {}
    of_fields = dataclasses.is_dataclass(config)
    if of_fields:
        names = [field.name for field in dataclasses.fields(config) if field.init]
        values = {name: getattr(config, name) for name in names}
    elif callable(getattr(config, "items", None)):
        values = {name: value for name, value in config.items() if isinstance(name, str)}
    else:
        return config, {}
    settings = modes_to_change(values)
    changes: dict[str, Any] = dict(settings)
    for name, value in values.items():
        changed, inner = config_in_training(value)
        if inner:
            changes[name] = changed
            settings |= inner
    if not changes:
        return config, {}
    if of_fields:
        return dataclasses.replace(cast(Any, config), **changes), settings
    return type(config)({**dict(config.items()), **changes}), settings


class ByCode:
    """A function that equals another of the same code and the same bound values.

    So functions that are made anew in a loop share compiled programs.
    """

    def __init__(self, function: Any):
        self.function = function
        self._identity = self._identify(function)

    @staticmethod
    def _identify(function: Any) -> tuple:
        if not isinstance(function, FunctionType):
            return (function,)
        cells = tuple(_Same(cell.cell_contents) for cell in function.__closure__ or ())
        defaults = tuple(
            map(_Same, (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()))
        )
        return function.__code__, _Same(function.__globals__), cells, defaults

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, ByCode) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)


class _Same:
    """A value that equals only itself."""

    def __init__(self, value: object):
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)
