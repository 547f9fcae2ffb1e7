"""Sums over pairs against double sums, and means of absolute normal values against an integral."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxdrop import uncertainty
from jaxdrop.uncertainty import _ensembles

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 5, 6])
def test_a_sum_over_pairs_is_the_double_sum(count: int):
    x = RNG.normal(size=(count, 3))
    found = _ensembles.sum_over_pairs(lambda a, b: jnp.abs(a - b), jnp.asarray(x))
    np.testing.assert_allclose(found, np.abs(x[:, None] - x).sum((0, 1)) / 2, rtol=1e-5, atol=1e-7)


def test_the_memory_of_a_gradient_over_pairs_is_linear():
    """A loop that kept its values would keep a half of T^2 of them."""
    x = jnp.ones((256, 64))

    def total(x: jax.Array) -> jax.Array:
        return _ensembles.sum_over_pairs(lambda a, b: jnp.sin(a - b) ** 2, x).sum()

    memory = jax.jit(jax.grad(total)).lower(x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 20 * x.nbytes  # 128 of them for all pairs


def test_the_mean_of_an_absolute_normal_value_is_its_integral():
    pairs = np.array([(0.3, 0.7), (-2.0, 0.5), (0.0, 1.5)])
    densities = [stats.norm(*pair).pdf for pair in pairs]
    expected = [
        integrate.quad(lambda x, density=density: abs(x) * density(x), -20, 20, points=[-2, 0])[0]
        for density in densities
    ]
    np.testing.assert_allclose(_ensembles.mean_absolute(*jnp.asarray(pairs.T)), expected, rtol=1e-6)


def test_a_scale_is_a_power_of_two():
    x = jnp.array([[3.0, 1e-42, 0.0, 3e38], [-5.0, 0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(_ensembles.scale_of(x, axes=(0,)), [[4, 1, 1, 2.0**127]])
    np.testing.assert_array_equal(_ensembles.scale_of(x[:1], 4 * x[1:], axes=(0,)), [[16, 1, 1, 2.0**127]])


def test_a_normal_cdf_far_out_and_without_a_spread():
    off, stddev = jnp.array([-50.0, 50.0, -1.0, 0.0, 1.0, -6.0]), jnp.array([1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    found = _ensembles.normal_cdf(off, stddev)
    np.testing.assert_allclose(found, [0, 1, 0, 0.5, 1, stats.norm.cdf(-6)], rtol=1e-5)
    grads = jax.jit(jax.grad(lambda *args: _ensembles.normal_cdf(*args).sum(), (0, 1)))(off, stddev)
    assert all(np.isfinite(grad).all() for grad in grads)


@pytest.mark.slow
def test_a_row_of_deviations_may_be_masked():
    """Also one that all outputs of an example share."""
    y, where = jnp.arange(12.0).reshape(4, 3), jnp.array([[True], [True], [False], [True]])
    stddev = jnp.array([[1.0], [2.0], [jnp.nan], [0.5]])
    calls = (
        lambda stddev: uncertainty.fit_stddev_scale(y + 1, stddev, y, where=where).scale,
        lambda stddev: uncertainty.pit_gaussian_mixture((y + 1)[None], stddev, y, where=where),
        lambda stddev: uncertainty.fit_residual(y + 1, y, level=0.5, stddev=stddev, where=where).factor,
    )
    for call in calls:
        expected = call(jnp.where(jnp.isnan(stddev), 1, stddev))
        np.testing.assert_array_equal(call(stddev), expected)
        np.testing.assert_allclose(jax.jit(call)(stddev), expected, rtol=1e-6)
