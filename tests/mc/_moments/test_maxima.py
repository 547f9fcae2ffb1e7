"""Maxima: Clark's moments, windows of any kind, and whether any of some decisions is true."""

from functools import partial

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdrop import mc
from jaxdrop.mc._moments import maxima, program
from jaxdrop.mc._moments.values import Random
from jaxdrop.mc._moments.walk import Registry, Walk
from tests.normals import standard_normal

X = standard_normal(0, (2, 6))


def equation(fun, array: jax.Array) -> jex.JaxprEqn:
    return jax.make_jaxpr(fun)(array).jaxpr.eqns[-1]


def pool(array: jax.Array, **options) -> jax.Array:
    return lax.reduce_window(array, -jnp.inf, lax.max, **options)


@pytest.mark.parametrize(("count", "mean", "deviation", "slope"), [(2, 0, 0, 0), (9, 0.015, 0.08, 0.02)])
def test_moments_are_those_of_independent_normal_numbers(
    count: int, mean: float, deviation: float, slope: float
):
    """Clark's moments of two are exact; of more, the distribution of a maximum is taken as normal."""
    rng = np.random.default_rng(count)
    means = rng.normal(size=(count, 100)).astype(np.float32)
    variances = rng.uniform(0.5, 1.5, size=means.shape).astype(np.float32)
    found = maxima._greatest(means, variances)
    draws = means[None] + np.sqrt(variances)[None] * rng.normal(size=(10_000, *means.shape))
    largest = draws.max(1)
    spread, wins = largest.std(0), (draws == largest[:, None]).mean(0)
    # A sample's errors are about 0.01, 0.007 and 0.005 at most.
    assert np.abs((found.mean - largest.mean(0)) / spread).mean() < 0.01 + mean
    assert np.abs(np.sqrt(found.variance) / spread - 1).mean() < 0.007 + deviation
    assert np.abs(found.slopes - wins).mean() < 0.005 + slope
    np.testing.assert_allclose(found.slopes.sum(0), 1, rtol=1e-6)


def test_known_numbers_and_far_ones():
    means = np.array([[1.0, 3, 0, 1e-3], [2.0, 3, 60, 0]], np.float32)
    variances = np.array([[0.0, 0, 1, 0], [0.0, 0, 2, 0]], np.float32)
    found = maxima._greatest(means, variances)
    np.testing.assert_array_equal(found.mean, means.max(0))
    np.testing.assert_array_equal(found.variance, [0, 0, 2, 0])


WINDOWS = {
    "tiles": {"window_dimensions": (1, 2, 3, 1), "window_strides": (1, 2, 3, 1), "padding": "VALID"},
    "overlapping": {"window_dimensions": (1, 3, 3, 1), "window_strides": (1, 2, 1, 1), "padding": "SAME"},
    "dilated": {
        "window_dimensions": (1, 2, 2, 1),
        "window_strides": (1, 1, 1, 1),
        "padding": "VALID",
        "base_dilation": (1, 1, 2, 1),
        "window_dilation": (1, 3, 1, 1),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name: str):
    """Means without variance are those of the pooling layer, and slopes those of its derivative."""
    fun = partial(pool, **WINDOWS[name])
    mean = standard_normal(1, (2, 4, 6, 3))
    eqn = equation(fun, mean)

    @jax.jit
    def pooled(mean: jax.Array, variance: float) -> Random:
        walk = Walk(program.run, Registry())
        found = maxima.pooled(walk, eqn, Random(mean, jnp.full_like(mean, variance), frozenset({0})))
        return found.mean, found.variance

    expected = fun(mean)
    np.testing.assert_array_equal(pooled(mean, 0.0)[0], expected)
    assert maxima._is_tiled(eqn) == (name == "tiles")
    if name == "tiles":
        windows = [of(eqn, mean, np.float32(-1e15)) for of in (maxima._tiles, maxima._slices)]
        np.testing.assert_array_equal(*windows)
    if name != "dilated":  # of which JAX has no derivative
        cotangent = jax.random.normal(jax.random.key(2), expected.shape)
        slopes = (jax.vjp(one, mean)[1](cotangent)[0] for one in (lambda x: pooled(x, 0.0)[0], fun))
        np.testing.assert_allclose(*slopes, rtol=1e-6)
    larger, variance = pooled(mean, 0.5)
    inner = np.asarray(expected) > -1e15
    assert np.all(np.asarray(larger)[inner] > expected[inner] - 1e-6)
    assert np.all((variance[inner] > 0.1) & (variance[inner] < 0.5 + 1e-5))


def check(predict, of_mean: float, of_deviation: float) -> None:
    found = mc.moments(predict, X)
    samples = jax.vmap(lambda key: predict(key, X))(jax.random.split(jax.random.key(1), 40_000))
    spread = samples.std(0)
    assert (jnp.abs(found.mean - samples.mean(0)) / spread).max() < of_mean
    np.testing.assert_allclose(np.sqrt(found.variance), spread, rtol=of_deviation)


@pytest.mark.slow
def test_the_larger_and_the_smaller_of_two():
    def split(key: jax.Array, x: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        a, b = x + jax.random.normal(first, x.shape), 2 * jax.random.normal(second, x.shape)
        return jnp.concatenate([jnp.maximum(a, b), jnp.minimum(a, b)], -1)

    check(split, 0.03, 0.03)
    assert "max: Clark's moments, taken as uncorrelated" in mc.moments(split, X).rules


def test_pooling():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        noisy = x + jax.random.normal(key, x.shape)
        return jax.lax.reduce_window(noisy, -jnp.inf, jax.lax.max, (1, 3), (1, 2), "SAME")

    check(predict, 0.05, 0.05)


def test_any_of_independent_decisions():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        marks = jax.random.bernoulli(key, jax.nn.sigmoid(x), x.shape)
        return marks.reshape(len(x), 2, 3).any(-1).astype(jnp.float32)

    check(predict, 0.03, 0.03)
