"""The call of a model: inputs, arguments, modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
        "deterministic": True,
        "is_training": True,
        "test": None,
        "eval": 1,
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
