"""Sums, products and choices of several random arrays."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import mc
from tests.normals import standard_normal

X = standard_normal(0, (2, 4)) + 3


def two(key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    first, second = jax.random.split(key)
    return x + jax.random.normal(first, x.shape), x * jax.random.bernoulli(second, 0.5, x.shape) + 4


def test_products_of_independent_arrays_are_exact():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        a, b = two(key, x)
        return a * b

    found = mc.moments(predict, X)
    np.testing.assert_allclose(found.mean, X * (X / 2 + 4), rtol=1e-5)
    variance = (X / 2 + 4) ** 2 + X**2 * X**2 / 4 + X**2 / 4
    np.testing.assert_allclose(found.variance, variance, rtol=1e-5)
    assert found.rules == ()


def test_choices_between_independent_arrays_are_exact():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        a, b = two(first, x)
        return jnp.where(jax.random.bernoulli(second, 0.25, x.shape), a, b)

    found = mc.moments(predict, X)
    mean = 0.25 * X + 0.75 * (X / 2 + 4)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5)
    square = 0.25 * (X**2 + 1) + 0.75 * (X**2 / 4 + (X / 2 + 4) ** 2)
    np.testing.assert_allclose(found.variance, square - mean**2, rtol=1e-4)
    assert found.rules == ()


def test_quotients_are_linear_at_the_means():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        return (x + jax.random.normal(first, x.shape)) / (30 + jax.random.normal(second, x.shape))

    found = mc.moments(predict, X)
    assert found.rules == ("div: linear at the means",)
    np.testing.assert_allclose(found.variance, (1 + (X / 30) ** 2) / 30**2, rtol=1e-4)


def test_products_of_dependent_arrays_are_named():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        a, _ = two(key, x)
        return jnp.cumsum(a, -1) * a

    assert "mul: two factors taken as uncorrelated" in mc.moments(predict, X).rules
