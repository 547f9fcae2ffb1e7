"""References: what they compare, and what they keep alive."""

import dataclasses
import gc
import weakref

import jax.numpy as jnp
import pytest

from jaxdrop.mc import _references

pytestmark = pytest.mark.usefixtures("few_objects_to_search")


class Plain:
    def __call__(self, key, x):
        return x

    def predict(self, key, x):
        return x


@dataclasses.dataclass
class Unhashable(Plain):
    weights: object = 1


def refer(one: object, gone: list | None = None) -> _references.Reference:
    return _references.refer(one, (gone if gone is not None else []).append)


def lambda_() -> object:
    return lambda key, x: x


@pytest.mark.parametrize("make", [lambda_, Plain, Unhashable])
def test_functions_and_objects_are_held_weakly_and_compared_by_identity(make):
    one, other, gone = make(), make(), []
    first, second = refer(one, gone), refer(one)
    assert first == second
    assert hash(first) == hash(second)
    assert first != refer(other)
    assert first() is one
    del one
    gc.collect()
    assert first() is None
    assert len(gone) == 1
    assert first == first  # so that it can be removed from a dictionary
    assert first != second


@pytest.mark.parametrize("make", [Plain, Unhashable])
def test_methods_are_compared_by_their_parts(make):
    one, other, gone = make(), make(), []
    reference = refer(one.predict, gone)
    assert reference == refer(one.predict)
    assert reference != refer(other.predict)
    assert reference()(0, 1) == 1
    del one
    gc.collect()
    assert reference() is None
    assert gone


def test_values_are_compared_by_type_and_equality():
    assert refer(1) == refer(1)
    assert refer(1) != refer(1.0)
    assert refer("a") != refer("b")
    assert refer((1, "a"))() == (1, "a")
    held = [1]
    assert refer((held,)) != refer((held,))  # a tuple without a hash, compared by identity


def test_an_array_is_compared_by_identity():
    array = jnp.ones(2)
    assert refer(array) == refer(array)
    assert refer(array) != refer(jnp.ones(2))


def test_an_object_without_room_for_weak_references_is_held():
    class Slots:
        __slots__ = ()

    reference = refer(Slots())
    with pytest.raises(TypeError):
        weakref.ref(reference())
    assert reference() is reference()
    assert reference != refer(Slots())
