"""Bins of a reliability diagram: what does not count, and what is not known."""

import jax.numpy as jnp
import numpy as np

from jaxdrop.uncertainty import _bins


def test_what_is_masked_is_in_no_bin_and_what_is_not_known_is_nan():
    confidence, hits = jnp.array([0.1, 0.2, 0.9, 0.8, 0.7]), jnp.array([0.0, 1.0, jnp.nan, 1.0, jnp.nan])
    found = _bins.binned(confidence, confidence, hits, np.array([1, 1, 1, 1, 0], bool), 2, "equal_width")
    np.testing.assert_array_equal(found.count, [2, 2])
    np.testing.assert_allclose(found.confidence, [0.15, 0.85], rtol=1e-6)
    np.testing.assert_array_equal(found.accuracy, [0.5, np.nan])
    assert np.isnan(_bins.gap_of(found))


def test_equal_mass_is_that_of_the_ranks_of_those_used():
    order = jnp.array([5, 1, 4, 2, 3, 0], jnp.int32)
    used = np.array([1, 1, 0, 1, 1, 1], bool)
    confidence = order.astype(jnp.float32) / 5
    found = _bins.binned(confidence, order, jnp.ones(6), used, 2, "equal_mass")
    np.testing.assert_array_equal(found.count, [3, 2])
    np.testing.assert_allclose(found.confidence, [0.2, 0.8], rtol=1e-6)
    empty = _bins.binned(confidence, order, jnp.ones(6), np.zeros(6, bool), 2, "equal_mass")
    assert np.isnan(_bins.gap_of(empty))
