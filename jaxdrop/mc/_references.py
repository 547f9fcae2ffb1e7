"""Hashable references to functions, objects and values, which keep alive as little as possible."""

import types
import weakref
from collections.abc import Callable
from typing import NamedTuple

# A call returns the object that is meant, or None if it is gone.
Reference = Callable[[], object]


def refer(one: object, forget: Callable[[object], None]) -> Reference:
    """A hashable reference to an object.

    Objects whose class defines equality, such as numbers and text, are compared by it, and held.
    Functions and other objects are compared by identity, and held weakly if they can be.

    Args:
      one: The object.
      forget: Called when an object that is held weakly is gone.
    """
    if isinstance(one, types.MethodType):
        # Each access of a method makes a new object.
        return _Method(_Identity(one.__func__, forget), _Identity(one.__self__, forget))
    has_equality = type(one).__hash__ is not object.__hash__
    return _Value(type(one), one) if has_equality and _is_hashable(one) else _Identity(one, forget)


def _is_hashable(one: object) -> bool:
    # A class may define hashing, and an object still have none: a tuple that holds a list.
    try:
        hash(one)
    except TypeError:
        return False
    return True


class _Value(NamedTuple):
    """A value. Its type tells 1 from 1.0, which are equal."""

    kind: type
    value: object

    def __call__(self) -> object:
        return self.value


class _Method(NamedTuple):
    """A bound method, by its parts."""

    function: Reference
    owner: Reference

    def __call__(self) -> object:
        function, owner = self.function(), self.owner()
        gone = function is None or owner is None
        return None if gone else types.MethodType(function, owner)  # pyright: ignore[reportArgumentType]


class _Identity:
    """An object compared by identity."""

    __slots__ = ("_id", "_refer")

    def __init__(self, one: object, forget: Callable[[object], None]):
        self._id = id(one)
        try:
            self._refer: Reference = weakref.ref(one, forget)
        except TypeError:  # a class without room for weak references
            self._refer = lambda: one

    def __call__(self) -> object:
        return self._refer()

    def __eq__(self, other: object) -> bool:
        one = self()
        return self is other or (one is not None and isinstance(other, _Identity) and one is other())

    def __hash__(self) -> int:
        return self._id
