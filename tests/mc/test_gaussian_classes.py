"""Integrals of Gaussian logits, against a million samples, closed forms and quadrature in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxdrop import mc
from tests.devices import make_mesh

NAMES = ("total_entropy", "expected_entropy", "mutual_information", "variation_ratio")
# The bounds of the docstring, for a probability and an entropy.
PROBABILITY, ENTROPY = 0.01, 0.04
RNG = np.random.default_rng(0)
FACTOR = RNG.normal(size=(4, 10, 10)).astype(np.float32) / 10**0.5
# Small, large, of rank three with a row of zeros, and with more variance in common than apart.
FACTOR *= np.array([0.3, 4, 2, 1], np.float32)[:, None, None]
FACTOR[2, :, 3:] = FACTOR[2, 5] = 0
FACTOR[3] += 10
MEAN = 2 * RNG.normal(size=(4, 10)).astype(np.float32)
COVARIANCE = FACTOR @ FACTOR.swapaxes(1, 2)


def summary(logits: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The estimates of samples `[T, K]` of weights that sum to 1."""
    weights = np.full(len(logits), 1 / len(logits), np.float32) if weights is None else weights
    logs = logits - logits.max(-1, keepdims=True)
    probs = np.exp(logs)
    sums = probs.sum(-1, keepdims=True)
    probs /= sums
    logs -= np.log(sums)
    mean = weights @ probs
    total, expected = -(mean * np.log(mean)).sum(), -(weights @ (probs * logs).sum(-1))
    votes = np.bincount(logits.argmax(-1), weights, logits.shape[-1])
    found = dict(zip(NAMES, (total, expected, total - expected, 1 - votes.max()), strict=True))
    return {"mean": mean, **found}


def line(mean: np.ndarray, direction: np.ndarray) -> dict[str, np.ndarray]:
    """The estimates for a covariance of rank one, by the trapezoidal rule in float64."""
    nodes = np.linspace(-9, 9, 4001)
    weights = np.exp(-(nodes**2) / 2)
    return summary(mean + nodes[:, None] * direction, weights / weights.sum())


def compare(found: dict, expected: dict, probability: float, entropy: float) -> None:
    np.testing.assert_allclose(found["mean"], expected["mean"], atol=probability)
    for name in NAMES[:3]:
        np.testing.assert_allclose(found[name], expected[name], atol=entropy)
    np.testing.assert_allclose(found["variation_ratio"], expected["variation_ratio"], atol=0.01)


def test_a_million_samples():
    found = mc.gaussian_classes(MEAN, COVARIANCE)
    z = RNG.standard_normal((10**6, 10), np.float32)
    compare(
        jax.tree.map(lambda leaf: leaf[1], found), summary(MEAN[1] + z @ FACTOR[1].T), PROBABILITY, ENTROPY
    )


def test_two_classes():
    mean, deviation = np.array([2.0, 0.0]), np.array([3.0, -1.0])
    found = mc.gaussian_classes(mean[None], np.outer(deviation, deviation)[None], log_mean=True)
    compare(jax.tree.map(lambda leaf: leaf[0], found), line(mean, deviation), 2e-4, 5e-4)
    np.testing.assert_allclose(jnp.exp(found["log_mean"]), found["mean"], rtol=1e-5)


def test_many_classes():
    mean, direction = 2 * RNG.normal(size=100), 3 * RNG.normal(size=100)
    found = mc.gaussian_classes(mean[None], np.outer(direction, direction)[None])
    compare(jax.tree.map(lambda leaf: leaf[0], found), line(mean, direction), 1e-3, 5e-3)


def test_a_common_shift_and_no_variance():
    """A softmax does not change if all logits change alike."""
    found = mc.gaussian_classes(MEAN, COVARIANCE)
    shifted = mc.gaussian_classes(MEAN, COVARIANCE + 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), found, shifted)
    sure = mc.gaussian_classes(MEAN, 0 * COVARIANCE)
    np.testing.assert_allclose(sure["mean"], jax.nn.softmax(MEAN), rtol=1e-5)
    np.testing.assert_allclose(sure["mutual_information"], 0, atol=1e-6)
    np.testing.assert_array_equal(sure["variation_ratio"], 0)


def test_half_precision_and_rounding():
    found = mc.gaussian_classes(MEAN, COVARIANCE)
    mean, covariance = jnp.asarray(MEAN, jnp.bfloat16), jnp.asarray(COVARIANCE, jnp.bfloat16)
    rounded = mc.gaussian_classes(mean, covariance)
    assert rounded["mean"].dtype == jnp.float32
    # The last one's variance in common is 100 times that of the differences.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:3], b[:3], atol=0.05), found, rounded)
    noisy = COVARIANCE - 1e-5 * np.eye(10, dtype=np.float32)  # not quite semidefinite
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-2), found, mc.gaussian_classes(MEAN, noisy)
    )


def test_jit_vmap_chunks_and_devices_change_rounding_only():
    found = mc.gaussian_classes(MEAN, COVARIANCE)
    mesh = make_mesh((4,), ("batch",))
    put = jax.device_put((MEAN, COVARIANCE), NamedSharding(mesh, PartitionSpec("batch")))
    sharded = jax.jit(lambda *args: mc.gaussian_classes(*args, chunk_size=300))(*put)
    mapped = jax.vmap(lambda m, c: mc.gaussian_classes(m[None], c[None]))(MEAN, COVARIANCE)
    for other in (sharded, jax.tree.map(lambda leaf: leaf[:, 0], mapped)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, other)
    assert sharded["mean"].sharding.spec[0] == "batch"


@pytest.mark.slow
def test_gradients():
    """Against the derivatives of the trapezoidal rule, also where the covariance is 0."""
    mean, direction = np.array([1.0, 0.0, -0.5]), np.array([1.0, -0.5, 0.3])

    def scores(found: dict) -> jax.Array:
        """Numbers of an example, of weights by which no two terms cancel."""
        return found["mean"][..., 0] + 2 * found["expected_entropy"] + 5 * found["mutual_information"]

    def score(mean: jax.Array, covariance: jax.Array) -> jax.Array:
        return scores(mc.gaussian_classes(mean[None], covariance[None], num_points=4096))[0]

    gradient = jax.jit(jax.grad(score, (0, 1)))
    for scale in (0.0, 1.5):
        covariance = scale**2 * np.outer(direction, direction)
        of_mean, of_covariance = gradient(
            jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32)
        )
        np.testing.assert_allclose(of_covariance, of_covariance.T, atol=1e-6)
        step = 1e-3
        more = scores(line(mean, np.sqrt(scale**2 + step) * direction))
        less = scores(line(mean, np.sqrt(max(scale**2 - step, 0)) * direction))
        slope = (more - less) / (step if scale == 0 else 2 * step)
        np.testing.assert_allclose(direction @ of_covariance @ direction, slope, rtol=0.01)
        shift = 1e-3 * np.array([0.2, 1.0, -0.7])
        more, less = (scores(line(mean + sign * shift, scale * direction)) for sign in (1, -1))
        np.testing.assert_allclose(of_mean @ shift, (more - less) / 2, rtol=0.01)
    with pytest.raises(NotImplementedError, match="`gaussian_classes` has no second derivatives"):
        jax.eval_shape(jax.hessian(lambda c: score(jnp.asarray(mean), c)), jnp.eye(3))


def test_what_is_refused():
    with pytest.raises(ValueError, match="got variances alone: without the correlations of the logits"):
        mc.gaussian_classes(MEAN, np.ones_like(MEAN))
    with pytest.raises(ValueError, match="`mean` must have at least 2 classes"):
        mc.gaussian_classes(MEAN[:, :1], COVARIANCE[:, :1, :1])
    with pytest.raises(ValueError, match="`num_points` must be a power of 2, got 1000"):
        mc.gaussian_classes(MEAN, COVARIANCE, num_points=1000)
    with pytest.raises(ValueError, match="`covariance` must be positive semidefinite, got an eigenv"):
        mc.gaussian_classes(MEAN, COVARIANCE - 2 * np.eye(10, dtype=np.float32))
    traced = jax.jit(mc.gaussian_classes)(MEAN, COVARIANCE - 2 * np.eye(10, dtype=np.float32))
    assert np.isnan(traced["mean"]).any()
