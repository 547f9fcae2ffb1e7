"""Masks that programs make of uniform draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.normals import standard_normal

X = standard_normal(0, (2, 6))
P = jnp.array([[0.0, 0.02, 0.3, 0.5, 0.93, 1.0]])


@pytest.mark.parametrize(
    "mask",
    [
        lambda key, x: jax.random.uniform(key, x.shape) < P,
        lambda key, x: jax.random.uniform(key, x.shape) >= 1 - P,
        lambda key, x: ~(jax.random.uniform(key, x.shape, minval=-1, maxval=3) * -2 < 2 - 8 * P),
    ],
)
def test_masks_of_uniform_draws_are_exact(mask):
    found = mc.moments(lambda key, x: jnp.where(mask(key, x), x, 0), X)
    np.testing.assert_allclose(found.mean, X * P, atol=1e-5)
    np.testing.assert_allclose(found.variance, X**2 * P * (1 - P), atol=1e-5)
    assert found.rules == ()


def test_masks_meet_arrays_as_decisions():
    """Two such masks of a noise, and a nonlinear function, in closed form."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        a, b, c = jax.random.split(key, 3)
        noise = jax.random.normal(c, x.shape)
        once = jnp.where(jax.random.uniform(a, x.shape) < 0.9, noise, 0)
        return jax.nn.relu(jnp.where(jax.random.uniform(b, x.shape) > 0.25, once, 0))

    found = mc.moments(predict, X)
    mean = 0.9 * 0.75 / (2 * np.pi) ** 0.5
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(found.variance, 0.9 * 0.75 / 2 - mean**2, rtol=1e-5)
    assert found.rules == ()
