"""Moments against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from tests.mc.reducers.states import streamed

SAMPLES = np.random.default_rng(0).normal(3, 2, (101, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("chunks", [[101], [32, 32, 37], [1, 100]])
def test_mean_variance_and_covariance(chunks: list[int]):
    value, _ = streamed(mc.Moments(covariance=True), jnp.asarray(SAMPLES), chunks)
    wide = SAMPLES.astype(np.float64)
    np.testing.assert_allclose(value["mean"], wide.mean(0), rtol=1e-5)
    np.testing.assert_allclose(value["variance"], wide.var(0, ddof=1), rtol=1e-5)
    for example in range(4):
        expected = np.cov(wide[:, example].T)
        np.testing.assert_allclose(value["covariance"][example], expected, rtol=1e-4, atol=1e-4)


def test_a_large_mean_does_not_swallow_the_variance():
    far = jnp.asarray(SAMPLES) + 1e4
    value, _ = streamed(mc.Moments(), far, [50, 51])
    expected = np.asarray(far, np.float64).var(0, ddof=1)
    np.testing.assert_allclose(value["variance"], expected, rtol=1e-3)


@pytest.mark.parametrize(("offset", "groups"), [(0, 32), (0, 0), (1e5, 32)])
def test_the_error_of_the_mean_is_the_textbook_one(offset: float, groups: int):
    """However far the mean is from zero, as far as the samples themselves are told apart."""
    far = jnp.asarray(SAMPLES) + offset
    _, error = streamed(mc.Moments(groups=groups), far, [1, 100])
    expected = np.asarray(far, np.float64).std(0, ddof=1) / 101**0.5
    np.testing.assert_allclose(error["mean"], expected, rtol=1e-5 if offset == 0 else 1e-3)


def test_half_precision_is_summed_in_single():
    value, _ = streamed(mc.Moments(), jnp.full((4096, 1), 300.0, jnp.float16), [4096])
    assert value["mean"].dtype == jnp.float32
    np.testing.assert_allclose(value["mean"], 300.0, rtol=1e-6)


def test_trees_of_outputs():
    value, error = streamed(
        mc.Moments(), {"a": jnp.asarray(SAMPLES), "b": jnp.asarray(SAMPLES)[..., 0]}, [101]
    )
    assert jax.tree.map(jnp.shape, value["mean"]) == {"a": (4, 3), "b": (4,)}
    np.testing.assert_allclose(value["mean"]["b"], value["mean"]["a"][:, 0], rtol=1e-6)
    assert jax.tree.structure(value) == jax.tree.structure(error)


def test_one_sample_has_no_variance():
    value, error = streamed(mc.Moments(), jnp.asarray(SAMPLES[:1]), [1])
    np.testing.assert_array_equal(value["mean"], SAMPLES[0])
    for missing in (value["variance"], error["mean"], error["variance"]):
        assert np.isnan(missing).all()


@pytest.mark.parametrize("covariance", [False, True])
def test_a_class_that_is_masked_stays_so(covariance: bool):
    """Minus infinity in every sample is a mean that is sure; nothing is said of the others by it."""
    masked = jnp.asarray(SAMPLES).at[..., 0].set(-jnp.inf)
    value, error = streamed(mc.Moments(covariance=covariance), masked, [1, 100])
    plain, _ = streamed(mc.Moments(covariance=covariance), jnp.asarray(SAMPLES), [1, 100])
    np.testing.assert_array_equal(value["mean"][:, 0], -np.inf)
    np.testing.assert_array_equal(value["variance"][:, 0], 0)
    np.testing.assert_array_equal(error["mean"][:, 0], 0)
    np.testing.assert_allclose(value["mean"][:, 1:], plain["mean"][:, 1:], rtol=1e-6)
    np.testing.assert_allclose(value["variance"][:, 1:], plain["variance"][:, 1:], rtol=1e-6)


@pytest.mark.parametrize("size", [4, 10])
def test_a_class_that_is_masked_in_few_samples(size: int):
    """Neither groups nor places without a sample, which are filled with zeros, are told from infinity."""
    masked = jnp.asarray(SAMPLES[:10]).at[..., 0].set(-jnp.inf)
    reducer, state = mc.Moments(), None
    for start in range(0, 10, size):
        part, index = masked[start : start + size], jnp.arange(start, start + size)
        padded = jnp.pad(part, [(0, size - len(part)), (0, 0), (0, 0)])
        own = reducer.summarize(padded, jnp.where(index < 10, index, -1), None)
        state = own if state is None else reducer.merge(state, own)
    value, error = jax.jit(reducer.finish)(state)
    np.testing.assert_array_equal(value["variance"][:, 0], 0)
    np.testing.assert_array_equal(error["mean"][:, 0], 0)
    wide = SAMPLES[:10, :, 1:].astype(np.float64)
    np.testing.assert_allclose(value["variance"][:, 1:], wide.var(0, ddof=1), rtol=1e-5)


def test_one_outlier_does_not_swallow_the_error_of_the_variance():
    """Against the jackknife in float64: without the outlier's group the variance is tiny."""
    far = SAMPLES.copy()
    far[40] += 3000
    _, error = streamed(mc.Moments(), jnp.asarray(far), [101])
    wide, group = far.astype(np.float64), np.arange(101) % 32
    without = np.stack([wide[group != g].var(0, ddof=1) for g in range(32)])
    ratio = (101 / np.bincount(group)).reshape(-1, 1, 1)
    moved = without - wide.var(0, ddof=1)
    terms = (((1 - 1 / ratio) * moved).sum(0) - (ratio - 1) * moved) ** 2 / (ratio - 1)
    np.testing.assert_allclose(error["variance"], np.sqrt(terms.mean(0)), rtol=1e-4)


@pytest.mark.parametrize(("count", "size"), [(10, 10), (33, 33), (37, 10), (40, 20)])
@pytest.mark.parametrize("covariance", [False, True])
def test_outputs_that_do_not_vary_have_no_variance(count: int, size: int, covariance: bool):
    """Nor a NaN as its error: the mean of equal means is exactly that."""
    constant = jnp.broadcast_to(jnp.linspace(0.1, 3e6, 50).reshape(1, 10, 5), (count, 10, 5))
    value, error = streamed(
        mc.Moments(covariance=covariance),
        constant,
        [size] * (count // size) + [count % size] * (count % size > 0),
    )
    np.testing.assert_array_equal(value["variance"], 0)
    np.testing.assert_array_equal(error["mean"], 0)
    np.testing.assert_array_equal(error["variance"], 0)
