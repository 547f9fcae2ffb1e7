"""Covariances along fixed directions, and the moments of a softmax by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc._moments import surveys
from tests.normals import standard_normal

MANY = 40_000


def deviations(roots: jax.Array) -> jax.Array:
    """Normal deviations `[R, n]` of the covariance `roots @ roots.T`."""
    return standard_normal(7, (MANY, roots.shape[1])) @ roots.T


def test_directions_are_fixed_signs():
    signs = surveys.directions([(3, 400), (), (50,)])
    assert [sign.shape for sign in signs] == [(surveys.COUNT, 3, 400), (surveys.COUNT,), (surveys.COUNT, 50)]
    again = surveys.directions([(3, 400), (), (50,)])
    jax.tree.map(np.testing.assert_array_equal, signs, again)
    assert set(np.unique(signs[0])) == {-1, 1}
    assert abs(float(signs[0].mean())) < 5 / np.sqrt(signs[0].size)


@pytest.mark.slow
def test_softmax_of_dependent_logits():
    """Mean, slopes (by Stein's lemma) and what they leave, as those of samples."""
    logits = jnp.array([1.0, 0.0, -1.0, 0.5])
    roots = standard_normal(1, (4, 2)) + 1
    drawn = deviations(roots)
    probs = jax.nn.softmax(logits[None] + drawn)
    found = surveys.of_softmax(logits, drawn[:4000])
    np.testing.assert_allclose(found.mean, probs.mean(0), atol=0.01)
    slopes = jax.vmap(found.linear)(jnp.eye(4)).T
    covariance = roots @ roots.T
    of_samples = (probs - probs.mean(0, keepdims=True)).T @ drawn / MANY
    np.testing.assert_allclose(slopes @ covariance, of_samples, atol=0.06)
    variance = jnp.diag(slopes @ covariance @ slopes.T) + found.rest + found.even.var(0)
    np.testing.assert_allclose(variance, probs.var(0), rtol=0.1, atol=2e-3)


@pytest.mark.slow
def test_a_common_shift_of_logits_changes_nothing():
    """Logits that move together, as those of a query do: their variances alone would flatten the softmax."""
    logits = jnp.array([2.0, 0.0, -2.0])

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        shift = jaxdrop.gaussian_noise(key, x, 3.0)
        return jax.nn.softmax(shift @ jnp.full((8, 3), 0.5) + logits[None])

    found = mc.moments(predict, jnp.zeros((2, 8)))
    np.testing.assert_allclose(found.mean, jnp.broadcast_to(jax.nn.softmax(logits), (2, 3)), rtol=1e-4)
    np.testing.assert_allclose(found.variance, 0, atol=1e-6)


def test_parts_that_are_not_linear_move_together():
    """All products are that of the same two numbers."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        keys = jax.random.split(key)
        a, b = (jaxdrop.gaussian_noise(one, x, 1.0)[..., None] for one in keys)
        first = jnp.broadcast_to(a, (len(x), 2, 8))
        second = jnp.broadcast_to(b + 0 * a, (len(x), 2, 8))
        return jnp.einsum("bij,bij->bi", first, second)

    found = mc.moments(predict, jnp.zeros((1, 1)))
    assert np.abs(found.mean / 8).max() < 5 / np.sqrt(surveys.COUNT)
    np.testing.assert_allclose(found.covariance / 64, 1, atol=0.4)
    np.testing.assert_allclose(found.covariance[0], found.variance[0, 0], rtol=1e-5)


def test_a_square_of_one_array_has_its_variance_in_the_mean():
    """The factors of `h @ h.T` depend on the same draws."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        h = jaxdrop.gaussian_noise(key, x, 0.5).reshape(-1, 8, 16)
        return jnp.einsum("bij,bkj->bik", h, h).reshape(len(x), -1)

    found = mc.moments(predict, jnp.ones((1, 128)))
    mean = np.asarray(found.mean).reshape(8, 8)
    assert abs(np.diag(mean).mean() - 16 * 1.25) < 1e-3
    off = mean[~np.eye(8, dtype=bool)]
    assert abs(off.mean() - 16) < 5 * 0.25 * 4 / np.sqrt(surveys.COUNT * off.size / 2)
