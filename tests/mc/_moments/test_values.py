"""Random arrays: views, and known values among them."""

import jax.numpy as jnp
import numpy as np

from jaxdrop.mc._moments import forms, values


def test_a_view_of_one_name_is_one_object():
    array = values.Random(jnp.arange(4.0), jnp.ones(4), frozenset({0}), "decision", True, True)
    first = array.view(("reshape", 2), lambda one: one.reshape(2, 2))
    assert array.view(("reshape", 2), lambda one: one.reshape(2, 2)) is first
    assert (first.shape, first.law, first.independent, first.exact) == ((2, 2), "decision", True, True)
    assert not array.view(("broadcast", 3), lambda one: jnp.stack([one] * 3), False).independent


def test_known_values_have_no_variance():
    found = values.known(np.arange(3, dtype=np.int32))
    assert found.mean.dtype == jnp.float32
    assert not found.variance.any()
    assert not found.draws


def test_known_values_are_widened():
    assert values.wide(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32
    assert values.wide(jnp.ones(2, jnp.int32)).dtype == jnp.int32
    assert isinstance(values.wide(np.float16(1)), np.float32)
    assert values.wide(forms.filled(np.float16(2), (3,))).tolist() == [2, 2, 2]
