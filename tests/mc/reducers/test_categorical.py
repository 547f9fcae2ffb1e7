"""Probabilities and entropies against the definitions in float64, and those of `jaxdrop.uncertainty`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxdrop import mc, uncertainty
from tests.mc.reducers.states import streamed

LOGITS = (3 * np.random.default_rng(0).normal(size=(60, 5, 4))).astype(np.float32)
PROBABILITIES = scipy.special.softmax(LOGITS.astype(np.float64), -1)


@pytest.mark.slow
@pytest.mark.parametrize("from_logits", [True, False])
def test_float64(from_logits: bool):
    given = jnp.asarray(LOGITS if from_logits else PROBABILITIES, jnp.float32)
    value, _ = streamed(mc.Categorical(from_logits=from_logits), given, [32, 28])
    mean = PROBABILITIES.mean(0)
    total, expected = scipy.stats.entropy(mean, axis=-1), scipy.stats.entropy(PROBABILITIES, axis=-1).mean(0)
    votes = PROBABILITIES.argmax(-1)
    commonest = np.array([np.bincount(votes[:, i]).max() for i in range(5)])
    np.testing.assert_allclose(value["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(value["total_entropy"], total, rtol=1e-5)
    np.testing.assert_allclose(value["expected_entropy"], expected, rtol=1e-5)
    np.testing.assert_allclose(value["mutual_information"], total - expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value["variation_ratio"], 1 - commonest / 60, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_it_is_what_uncertainty_says_of_the_samples():
    value, _ = streamed(mc.Categorical(), jnp.asarray(LOGITS), [60])
    samples = jax.nn.softmax(jnp.asarray(LOGITS))
    for name in ("total_entropy", "expected_entropy", "mutual_information", "variation_ratio"):
        expected = getattr(uncertainty, name)(samples)
        np.testing.assert_allclose(value[name], expected, rtol=1e-4, atol=1e-5)


def test_probabilities_are_averaged_not_logits():
    """As OpenOOD does not: one sample that is sure of another class is half of the mean."""
    logits = jnp.array([[[0.0, 100.0]], [[1.0, 0.0]]])
    value, _ = streamed(mc.Categorical(), logits, [2])
    np.testing.assert_allclose(
        value["mean"], [[0.5 * scipy.special.expit(1.0), 0.5 + 0.5 * scipy.special.expit(-1.0)]]
    )


@pytest.mark.slow
def test_probabilities_of_zero_and_one():
    value, error = streamed(
        mc.Categorical(from_logits=False), jnp.tile(jnp.array([[[0.0, 1.0]]]), (40, 1, 1)), [40]
    )
    for name in ("total_entropy", "expected_entropy", "mutual_information", "variation_ratio"):
        assert value[name] == 0
        assert error[name] == 0
    half = jax.nn.softmax(jnp.asarray(LOGITS, jnp.bfloat16))
    rounded, _ = streamed(mc.Categorical(from_logits=False), half, [60])
    np.testing.assert_allclose(rounded["mean"].sum(-1), 1, rtol=1e-5)
    hidden, _ = streamed(mc.Categorical(), jnp.tile(jnp.array([[[-jnp.inf, 1.0]]]), (4, 1, 1)), [4])
    np.testing.assert_array_equal(hidden["mean"], [[0.0, 1.0]])
    assert hidden["total_entropy"] == 0


@pytest.mark.slow
def test_a_prediction_per_pixel():
    """Predictions `[B, H, W, K]` are as many of `[B, K]`."""
    given = jnp.asarray(LOGITS)[:, :4]
    pixels = given.reshape(60, 1, 2, 2, 4)
    found, flat = (streamed(mc.Categorical(log_mean=True), x, [32, 28]) for x in (pixels, given))
    assert found[0]["mean"].shape == found[0]["log_mean"].shape == (1, 2, 2, 4)
    assert found[0]["mutual_information"].shape == (1, 2, 2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a.ravel(), b.ravel(), rtol=1e-5, atol=1e-6), found, flat
    )


@pytest.mark.slow
def test_log_mean():
    reducer = mc.Categorical(log_mean=True)
    value, error = streamed(reducer, jnp.asarray(LOGITS), [32, 28])
    np.testing.assert_allclose(value["log_mean"], np.log(PROBABILITIES.mean(0)), rtol=1e-4, atol=1e-6)
    # By the delta method, for small relative errors.
    near = np.asarray(error["mean"] / value["mean"])
    np.testing.assert_allclose(error["log_mean"][near < 0.02], near[near < 0.02], rtol=0.1)
    without, _ = streamed(mc.Categorical(), jnp.asarray(LOGITS), [32, 28])
    assert "log_mean" not in without
    for name, expected in without.items():
        np.testing.assert_array_equal(value[name], expected)


@pytest.mark.slow
def test_log_mean_where_the_mean_is_zero():
    """Logits of 200 and -200: a probability of exp(-400) is 0 in float32, and its log is not infinite."""
    sign = np.random.default_rng(1).choice([-1.0, 1.0], size=(64, 3, 1), p=[0.1, 0.9])
    sign[:, 0] = 1
    logits = np.concatenate([200 * sign, -200 * sign], -1)
    value, error = streamed(mc.Categorical(log_mean=True), jnp.asarray(logits, jnp.float32), [32, 32])
    logs = scipy.special.log_softmax(logits, -1)
    expected = scipy.special.logsumexp(logs, 0) - np.log(64)
    np.testing.assert_allclose(value["log_mean"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(value["mean"][0], [1, 0])
    np.testing.assert_allclose(error["log_mean"][0], 0, atol=1e-3)
    assert np.isfinite(error["log_mean"]).all()
