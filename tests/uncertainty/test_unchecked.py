"""Entropies and label look-ups without checks."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop.uncertainty import _unchecked


def test_probabilities_of_zero_have_no_entropy_and_no_gradient():
    probs = jnp.array([0.5, 0.5, 0.0])
    np.testing.assert_allclose(_unchecked.entropy_of(probs), np.log(2), rtol=1e-6)
    grad = jax.grad(_unchecked.entropy_of)(probs)
    assert np.isfinite(grad).all()
    assert grad[2] == 0


def test_labels_out_of_range_give_nan():
    found = _unchecked.at_labels(jnp.array([[0.25, 0.75]] * 3), jnp.array([1, 2, -1]))
    np.testing.assert_array_equal(found, [0.75, np.nan, np.nan])


def test_no_value_is_interpolated_at_a_nan():
    """Also if the last thresholds are equal."""
    found = _unchecked.interpolated(jnp.array([jnp.nan, 0.5]), jnp.array([0.0, 1.0, 1.0]), jnp.arange(3.0))
    np.testing.assert_array_equal(found, [np.nan, 0.5])
