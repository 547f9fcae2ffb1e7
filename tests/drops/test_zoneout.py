"""Zoneout: which of the two, how often, and the mean that evaluation uses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(18)
NEW, OLD = standard_normal(KEY, (2, 64, 48))


def test_each_element_is_one_of_the_two():
    y = jaxdrop.zoneout(KEY, NEW, OLD, 0.25)
    stayed = np.asarray(y == OLD)
    np.testing.assert_array_equal(y, np.where(stayed, OLD, NEW))
    assert abs(stayed.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / y.size)
    np.testing.assert_array_equal(stayed, ~np.asarray(jaxdrop.keep_mask(KEY, NEW.shape, 0.25)))


def test_gradients_go_to_the_one_that_was_taken():
    grads = jax.grad(lambda new, old: jaxdrop.zoneout(KEY, new, old, 0.25).sum(), (0, 1))(NEW, OLD)
    stayed = np.asarray(jaxdrop.zoneout(KEY, NEW, OLD, 0.25) == OLD)
    np.testing.assert_array_equal(grads[0], ~stayed)
    np.testing.assert_array_equal(grads[1], stayed)


def test_the_mean_is_the_mean():
    """A hand-computed case, and an average over keys."""
    mean = jaxdrop.zoneout_mean(jnp.array([1.0, 3.0]), jnp.array([0.0, -1.0]), 0.25)
    np.testing.assert_allclose(mean, [0.75, 2.0], rtol=1e-6)
    y = jax.vmap(lambda key: jaxdrop.zoneout(key, NEW[0], OLD[0], 0.3))(jax.random.split(KEY, 4000))
    error = np.abs(NEW[0] - OLD[0]) * np.sqrt(0.3 * 0.7 / 4000)
    assert (np.abs(np.asarray(y).mean(0) - jaxdrop.zoneout_mean(NEW[0], OLD[0], 0.3)) < 5 * error).all()
    half = jaxdrop.zoneout_mean(NEW.astype(jnp.bfloat16), OLD.astype(jnp.bfloat16), 0.3)
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("old", [OLD[0], OLD.astype(jnp.bfloat16)], ids=["shape", "dtype"])
def test_states_that_do_not_match(old):
    message = re.escape("`old` must have the shape and dtype of `new`, (64, 48) float32, got ")
    with pytest.raises(ValueError, match=message):
        jaxdrop.zoneout(KEY, NEW, old, 0.5)
    with pytest.raises(ValueError, match=message):
        jaxdrop.zoneout_mean(NEW, old, 0.5)


def test_the_mean_at_its_ends_knows_nothing_of_the_other():
    np.testing.assert_array_equal(jaxdrop.zoneout_mean(NEW, jnp.full_like(OLD, jnp.inf), 0.0), NEW)
    np.testing.assert_array_equal(jaxdrop.zoneout_mean(jnp.full_like(NEW, jnp.nan), OLD, 1.0), OLD)
