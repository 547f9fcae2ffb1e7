"""The call of a model: inputs, arguments, modes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

from jaxdrop.mc import _calls as calls

X = jnp.ones((4, 3))


def test_arrays_are_split_from_the_rest():
    arrays, others = calls.split_static({"mask": np.ones(3), "train": True, "names": ["a"]})
    assert list(arrays) == ["mask"]
    assert [static.name for static in others] == ["names", "train"]
    assert len({others, others}) == 1
    given, named = calls.arguments(X, False, arrays, others)
    assert given == (X,)
    assert named.keys() == {"mask", "train", "names"}


@pytest.mark.parametrize("name", ["rng", "rngs", "dropout_rng", "key", "other"])
def test_keys_are_refused(name: str):
    with pytest.raises(ValueError, match=f"`{name}` must not be given, for every sample has its own key"):
        calls.split_static({name: jax.random.key(0)})


@pytest.mark.parametrize(
    ("x", "given", "named"),
    [((1, 2), (1, 2), {}), ([1, 2], (1, 2), {}), ({"a": 1}, (), {"a": 1})],
)
def test_inputs_are_unpacked(x, given: tuple, named: dict):
    assert calls.arguments(x, True, {}, ()) == (given, named)


def test_wrong_inputs():
    with pytest.raises(
        TypeError, match="`x` must be a tuple or a dictionary to be unpacked into the call, got int"
    ):
        calls.arguments(1, True, {}, ())
    with pytest.raises(TypeError, match="`a` must be given once, in `x` or as an argument, got both"):
        calls.arguments({"a": 1}, True, {"a": 2}, ())


@pytest.mark.parametrize(
    ("x", "mask", "allowed"),
    [
        (X, jnp.ones((4, 3)), False),
        (X, jnp.ones((4,)), False),
        (X, jnp.ones((1, 4)), True),
        (X, jnp.ones(()), True),
        (X[:1], jnp.ones((1, 3)), True),
        # The leaves of a graph have no common axis.
        ({"nodes": X, "edges": jnp.ones((5, 2))}, jnp.ones((4, 3)), True),
        (jax.ShapeDtypeStruct((4, 3), jnp.float32), jnp.ones((4, 3)), False),
    ],
)
def test_an_array_of_the_batch_among_the_arguments(x, mask, allowed: bool):
    if allowed:
        calls.check_not_per_example(x, {"mask": mask})
        return
    with pytest.raises(ValueError, match="`mask` must not have the leading axis of `x`"):
        calls.check_not_per_example(x, {"mask": mask})


def test_modes_as_at_evaluation():
    values = {
        "train": False,
        "deterministic": 1,
        "is_training": True,
        "test": None,
        "eval": 2,
        "other": False,
    }
    assert calls.modes_to_change(values) == {"train": True, "deterministic": False}


def test_functions_are_compared_by_code():
    def made(scale):
        return lambda module, x: module(scale * x)

    one, other = 1.5, 2.5
    assert calls.ByCode(made(one)) == calls.ByCode(made(one))
    assert hash(calls.ByCode(made(one))) == hash(calls.ByCode(made(one)))
    assert calls.ByCode(made(one)) != calls.ByCode(made(other))
    assert calls.ByCode("encode") == calls.ByCode("encode") != calls.ByCode(None)


def test_modes_of_a_call_that_says_training():
    assert calls.says_training({"train": True, "deterministic": True})
    assert not calls.says_training({"train": False, "is_training": None, "other": True})


@dataclasses.dataclass(frozen=True)
class Inner:
    deterministic: bool = True


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    rate: float = 0.1


class Items:
    """A configuration that is no `Mapping`, as some libraries have."""

    def __init__(self, values: dict):
        self._values = values

    def items(self):
        return self._values.items()

    def __eq__(self, other: object):
        return isinstance(other, Items) and self._values == other._values

    def __hash__(self):
        return 0


@pytest.mark.parametrize(
    ("config", "changed", "settings"),
    [
        (Outer(), Outer(Inner(False)), {"deterministic": False}),
        ({"a": {"train": False}, "b": 1}, {"a": {"train": True}, "b": 1}, {"train": True}),
        (FrozenDict({"train": 0}), FrozenDict({"train": True}), {"train": True}),
        (Outer(Inner(False)), Outer(Inner(False)), {}),
        ("eval", "eval", {}),
        (Items({"train": False}), Items({"train": True}), {"train": True}),
    ],
)
def test_a_configuration_in_training(config, changed, settings: dict):
    assert calls.config_in_training(config) == (changed, settings)


@pytest.mark.parametrize(
    ("x", "name"),
    [
        ({"x": X, "noise": jax.random.key(0)}, "noise"),
        ({"x": X, "z_rng": jax.random.PRNGKey(0)}, "z_rng"),
        ((X, jax.random.key(0)), "1"),
    ],
)
def test_keys_among_the_inputs_are_refused(x, name: str):
    with pytest.raises(ValueError, match=f"`x` must not hold keys, .* got one at '{name}'"):
        calls.check_inputs(x)
    calls.check_inputs({"ids": jnp.ones((2,), jnp.uint32), "key": jnp.ones((4, 3))})


def test_raw_keys_among_the_arguments_are_refused():
    with pytest.raises(ValueError, match="`z_rng` must not be given"):
        calls.split_static({"z_rng": jax.random.PRNGKey(0)})
