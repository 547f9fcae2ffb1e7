"""Chains of elementwise equations with decisions."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import mc

X = jax.random.normal(jax.random.key(0), (3, 5))


def test_functions_of_a_noise_and_decisions_are_exact():
    """Two decisions and a normal number in one chain, against sums over the cases."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        a, b, c = jax.random.split(key, 3)
        noise = x + 0.5 * jax.random.normal(a, x.shape)
        kept = jnp.where(jax.random.bernoulli(b, 0.3, x.shape), jax.nn.relu(noise), jnp.tanh(noise))
        return jnp.where(jax.random.bernoulli(c, 0.8, x.shape), kept * 2, -1.0)

    found = mc.moments(predict, X)
    z, w = np.polynomial.hermite_e.hermegauss(101)
    u = np.asarray(X, np.float64)[..., None] + 0.5 * z
    w = w / w.sum()
    values = np.stack([2 * np.maximum(u, 0), 2 * np.tanh(u), -np.ones_like(u)])
    chances = np.array([0.8 * 0.3, 0.8 * 0.7, 0.2])
    mean = np.einsum("c,cbkz,z->bk", chances, values, w)
    square = np.einsum("c,cbkz,z->bk", chances, values**2, w)
    np.testing.assert_allclose(found.mean, mean, atol=2e-3)
    np.testing.assert_allclose(found.variance, square - mean**2, atol=5e-3)
    assert found.rules == ()


def test_a_chance_that_the_array_makes():
    """A mask whose chance is a function of what it masks, as in standout."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        a, b = jax.random.split(key)
        noise = x + jax.random.normal(a, x.shape)
        return jnp.where(jax.random.bernoulli(b, jax.nn.sigmoid(noise)), noise, 0)

    found = mc.moments(predict, X)
    z, w = np.polynomial.hermite_e.hermegauss(101)
    u, w = np.asarray(X, np.float64)[..., None] + z, w / w.sum()
    mean, square = (u / (1 + np.exp(-u)) @ w), (u**2 / (1 + np.exp(-u)) @ w)
    np.testing.assert_allclose(found.mean, mean, atol=1e-4)
    np.testing.assert_allclose(found.variance, square - mean**2, rtol=1e-3)
    own = found.shares[next(name for name in found.shares if name.startswith("bernoulli"))]
    expected = (u**2 / (1 + np.exp(-u)) * (1 - 1 / (1 + np.exp(-u)))) @ w
    np.testing.assert_allclose(own, expected, rtol=1e-3)


def test_a_nan_that_is_never_chosen_does_not_count():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        a, b = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(a, 1.0, x.shape), x + jax.random.normal(b, x.shape), jnp.nan)

    found = mc.moments(predict, X)
    np.testing.assert_allclose(found.mean, X, rtol=1e-6)
    np.testing.assert_allclose(found.variance, 1, rtol=1e-6)
