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
