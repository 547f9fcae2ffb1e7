"""Result types in serialized programs."""

import inspect

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import _exports, mc, optim, training, uncertainty


def test_every_result_type_has_a_name():
    modules = (mc, optim, training, uncertainty)
    public = [getattr(module, name) for module in modules for name in module.__all__]
    tuples = {kind for kind in public if inspect.isclass(kind) and hasattr(kind, "_fields")}
    # A pair of functions, which no program returns.
    assert tuples - {training.Trainer} == set(_exports.NAMED_TUPLES)


def test_adaptive_sets_are_read_back():
    pytest.importorskip("flatbuffers")
    sets = uncertainty.AdaptiveSets(jnp.ones(()), jnp.ones(()), jnp.ones(()), randomized=False)
    exported = jax.export.export(jax.jit(lambda sets: sets))(sets)
    found = jax.export.deserialize(exported.serialize()).call(sets)
    assert isinstance(found, uncertainty.AdaptiveSets)
    assert found.randomized is False
    np.testing.assert_array_equal(found.threshold, 1)


def test_a_tally_is_read_back():
    pytest.importorskip("flatbuffers")
    tally = uncertainty.tally_mean(jnp.ones(3))
    exported = jax.export.export(jax.jit(lambda tally: tally))(tally)
    found = jax.export.deserialize(exported.serialize()).call(tally)
    np.testing.assert_array_equal(uncertainty.finish(found).value, 1)
