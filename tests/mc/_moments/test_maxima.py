"""Maxima: against samples of normal numbers, and over any windows."""

from functools import partial

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdrop.mc._moments import maxima, program
from jaxdrop.mc._moments.values import Random
from jaxdrop.mc._moments.walk import Registry, Walk


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


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name: str):
    """Means without variance are those of the pooling layer, and slopes those of its derivative."""
    fun = partial(pool, **WINDOWS[name])
    mean = jax.random.normal(jax.random.key(1), (2, 4, 6, 3))
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
