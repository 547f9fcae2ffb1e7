"""Quantiles against NumPy, and the samples that are stored."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.mc.reducers.states import streamed

SAMPLES = np.random.default_rng(0).normal(size=(100, 3, 2)).astype(np.float32)
LEVELS = (0.05, 0.5, 0.9)


@pytest.mark.parametrize("chunks", [[100], [7, 93], [32, 32, 36]])
def test_numpy(chunks: list[int]):
    value, _ = streamed(mc.Quantiles(LEVELS, capacity=128), jnp.asarray(SAMPLES), chunks)
    assert value["quantiles"].shape == (3, 3, 2)
    expected = np.moveaxis(np.quantile(SAMPLES, LEVELS, axis=0), 0, 1)
    np.testing.assert_allclose(value["quantiles"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunks", [[100], [7, 93], [45, 55]])
def test_the_first_are_kept(chunks: list[int]):
    value, _ = streamed(mc.Quantiles(LEVELS, capacity=40), jnp.asarray(SAMPLES), chunks)
    expected = np.moveaxis(np.quantile(SAMPLES[:40], LEVELS, axis=0), 0, 1)
    np.testing.assert_allclose(value["quantiles"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_error_of_a_normal_median():
    """It is 1.2533 / sqrt(n); the mean over 2000 examples within five of its standard errors."""
    n = 400
    samples = np.random.default_rng(1).normal(size=(n, 2000)).astype(np.float32)
    _, error = streamed(mc.Quantiles((0.5,)), jnp.asarray(samples), [n])
    errors = np.asarray(error["quantiles"])
    # The density is not flat over the interval: a bias of order 1/n.
    tolerance = 5 * errors.std() / 2000**0.5 / errors.mean() + 10 / n
    assert abs(errors.mean() * n**0.5 / 1.2533 - 1) < tolerance


def test_infinite_samples():
    value, _ = streamed(mc.Quantiles((0.5,)), jnp.full((10, 2), jnp.inf), [10])
    np.testing.assert_array_equal(value["quantiles"], np.inf)


def test_one_sample_has_no_error():
    value, error = streamed(mc.Quantiles((0.5,)), jnp.asarray(SAMPLES[:1]), [1])
    np.testing.assert_array_equal(value["quantiles"][:, 0], SAMPLES[0])
    assert np.isnan(error["quantiles"]).all()


@pytest.mark.parametrize(("count", "sure"), [(72, False), (73, True)])
def test_no_error_where_the_interval_leaves_the_samples(count: int, sure: bool):
    samples = jnp.asarray(np.random.default_rng(2).normal(size=(count, 3)), jnp.float32)
    _, error = streamed(mc.Quantiles(np.array([0.05, 0.5, 0.95])), samples, [count])
    found = np.isfinite(error["quantiles"]).all(0)
    np.testing.assert_array_equal(found, [sure, True, sure])
