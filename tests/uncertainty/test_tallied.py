"""The bounds of what tallies can hold; their scores are held in `test_tallies`."""

import jax.numpy as jnp
import numpy as np

from jaxdrop.uncertainty import _tallied


def test_numbers_whose_squares_underflow_have_no_error():
    """Rather than an error of 0."""
    values = jnp.array([1e-20, 3e-20])
    score = _tallied.FINISHED["mean"](_tallied.sums_of_mean(values, None, squared=False))
    np.testing.assert_allclose(score.value, 2e-20, rtol=1e-6)
    assert np.isnan(score.standard_error)
    score = _tallied.FINISHED["rms"](_tallied.sums_of_mean(values, None, squared=True))
    assert np.isnan(score.value)
    score = _tallied.FINISHED["rms"](_tallied.sums_of_mean(0 * values, None, squared=True))
    np.testing.assert_array_equal(score, (0, 0))


def test_bins_of_leading_bits_are_in_the_order_of_the_numbers():
    numbers = jnp.array([-jnp.inf, -2.0, -1e-3, -0.0, 0.0, 1e-3, 1.0, 1.0 + 1e-5, 2.0, jnp.inf])
    counts = _tallied.counts_of(numbers, np.zeros(10, bool), None, 16)["inside"][0]
    assert counts[counts > 0].tolist() == [1, 1, 1, 2, 1, 2, 1, 1]
