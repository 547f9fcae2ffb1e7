"""Chains of elementwise equations with decisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.normals import standard_normal

X = standard_normal(0, (3, 5))


def test_functions_of_a_noise_and_decisions():
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
    assert found.rules == ("elementwise: nonlinear functions of a draw, summed over points",)


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


def test_arrays_of_truth_values_are_decisions():
    """A comparison that is rearranged, negated, joined or chosen by keeps its law."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        mask = (x + jax.random.normal(key, x.shape) > 0).reshape(-1, 5, 1)
        return jnp.concatenate([~mask, mask & True, jnp.where(mask, 2, 3)], -1).astype(jnp.float32).sum(-1)

    found = mc.moments(predict, X)
    chance = jax.scipy.stats.norm.cdf(X)
    np.testing.assert_allclose(found.mean, 4 - chance, atol=0.03)
    np.testing.assert_allclose(found.variance, chance * (1 - chance), atol=0.02)


def test_bits_of_random_integers_are_refused():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        return (jax.random.bernoulli(key, 0.5, x.shape).astype(int) * 6 & 3) * x

    with pytest.raises(ValueError, match="`and` of random integers"):
        mc.moments(predict, X)


@pytest.mark.slow
def test_functions_of_the_same_noise_are_listed():
    """What is not linear in both functions is correlated, which no rule takes into account."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        noise = x + jax.random.normal(key, x.shape)
        return (jax.nn.relu(noise)[:, ::-1] + jax.nn.relu(-noise)[:, ::-1]) @ jnp.ones((5, 1))

    def once(key: jax.Array, x: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        masked = jnp.where(jax.random.bernoulli(first, 0.5, x.shape), x, 0) @ jnp.ones((5, 5))
        return jnp.where(jax.random.bernoulli(second, 0.5, x.shape), masked, 0)

    rule = "rests: what is not linear in the same draws taken as uncorrelated"
    assert rule in mc.moments(predict, X).rules
    assert mc.moments(once, X).rules == ()


def test_comparisons_of_random_integers():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape).sum(-1, keepdims=True) > 2, 3.0, 1.0)

    found = mc.moments(predict, X)
    taken_as_normal = 1 + 2 * jax.scipy.stats.norm.cdf(0.5 / 1.25**0.5)
    np.testing.assert_allclose(found.mean, taken_as_normal, atol=0.05)
    assert "elementwise: arrays taken as normal" in found.rules
