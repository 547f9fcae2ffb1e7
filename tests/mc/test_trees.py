"""Trees of reducers and of their states."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from jaxdrop.mc import _trees

TREE = {"a": mc.Moments(), "b": [mc.Categorical()]}


def test_each_reducer_gets_its_part_of_the_states():
    found = _trees.map_reducers(lambda one, x: (type(one).__name__, x), TREE, {"a": {"n": 1}, "b": [2]})
    assert found == {"a": ("Moments", {"n": 1}), "b": [("Categorical", 2)]}


def test_nan_is_found_in_any_leaf_and_integers_have_none():
    samples = {"x": jnp.array([[0.0], [jnp.nan], [0.0]]), "y": jnp.array([0.0, 0.0, jnp.nan])}
    np.testing.assert_array_equal(_trees.has_nan(samples), [False, True, True])
    assert not _trees.has_nan(jnp.arange(3)).any()


def test_states_of_other_leaves_are_refused():
    with pytest.raises(ValueError, match=r"of A, with nothing, got float32\[2\] at \[1\]\.$"):
        _trees.check_alike([jnp.ones(3), jnp.ones(2)], [jnp.ones(3)], "b", "A")


def test_a_class_is_not_a_reducer():
    with pytest.raises(TypeError, match=r"`reducers` must be a reducer, such as `Moments\(\)`"):
        _trees.check_reducer(mc.Moments)
