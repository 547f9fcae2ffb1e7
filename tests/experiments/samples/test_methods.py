"""Statistics under one set of names, whichever method finds them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.samples import measures, methods, tasks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 4, 3)).astype(np.float32)
VALUES = RNG.normal(size=(50, 4, 1)).astype(np.float32)


class Outputs(NamedTuple):
    mean: jnp.ndarray
    covariance: jnp.ndarray


def task(y: np.ndarray) -> tasks.Task:
    return tasks.Task("", None, 5, 10, (), np.zeros((4, 1)), y)


def moments(samples: np.ndarray) -> Outputs:
    off = samples - samples.mean(0)
    return Outputs(jnp.asarray(samples.mean(0)), jnp.einsum("tbi,tbj->bij", off, off) / len(off))


def test_classes_of_samples():
    y = np.array([2, 0], np.int32)
    of = methods.of_moments(task(y), moments(LOGITS), 1.0, jnp.asarray(y))
    assert set(of) == {"mean", "variance", "covariance"}
    np.testing.assert_allclose(of["variance"], LOGITS.var(0), rtol=1e-5)
    matched = jax.jit(lambda samples: methods.of_matched(task(y), samples, of, 1.0, jnp.asarray(y)))
    found = methods.arrays(matched(LOGITS))
    assert set(found) == {*of, "probabilities", "log_density", *measures.ENTROPIES}
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], p.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["log_density"], np.log(p.mean(0)[[0, 1], y]), rtol=1e-5)
    gap = found["total_entropy"] - found["expected_entropy"]
    np.testing.assert_allclose(found["mutual_information"], gap, atol=1e-6)


def test_densities_of_values():
    y = np.array([0.1, -0.4, 2.0, 0.0], np.float32)
    of = methods.of_moments(task(y), moments(VALUES), 4.0, jnp.asarray(y))
    spread = np.sqrt(VALUES.var(0)[:, 0] + 0.25)
    expected = scipy.stats.norm.logpdf(y, VALUES.mean(0)[:, 0], spread)
    np.testing.assert_allclose(of["log_density"], expected, rtol=1e-5)
    found = jax.jit(lambda samples: methods.of_matched(task(y), samples, of, 4.0, jnp.asarray(y)))(VALUES)
    mixture = scipy.stats.norm.pdf(y, VALUES[..., 0], 0.5).mean(0)
    np.testing.assert_allclose(found["log_density"], np.log(mixture), rtol=1e-4)


def test_streamed_densities_are_of_the_values():
    y = np.array([0.1, -0.4, 2.0, 0.0], np.float32)

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        return x + jax.random.normal(key, x.shape)

    estimate = methods.of_samples(task(y), predict, 4.0, 400, jnp.zeros((4, 1)), jnp.asarray(y))
    found = methods.arrays(estimate(jax.random.key(0)))
    assert set(found) == {"mean", "variance", "covariance", "log_density"}
    np.testing.assert_allclose(found["variance"], 1, atol=5 * (2 / 400) ** 0.5)
    expected = scipy.stats.norm.logpdf(y, 0, 1.25**0.5)
    np.testing.assert_allclose(found["log_density"], expected, atol=0.4)


def test_labels_have_the_number_of_samples():
    assert methods.Method("balanced", 32, lambda key: {}).label == "balanced, T=32"
    assert methods.Method("moments", 0, lambda key: {}).label == "moments"
    assert methods.Method("Gaussian", 0, lambda key: {}, 8).label == "Gaussian, N=8"
