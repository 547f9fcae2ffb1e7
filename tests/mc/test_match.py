"""Matched samples have the moments that they were given, and move as little as they can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxdrop import mc
from tests.devices import make_mesh
from tests.mc import nets

RNG = np.random.default_rng(0)
SAMPLES, MEAN = RNG.normal(size=(16, 4, 6)).astype(np.float32), RNG.normal(size=(4, 6)).astype(np.float32)
FACTOR = RNG.normal(size=(4, 6, 6)).astype(np.float32)
COVARIANCE = FACTOR @ FACTOR.swapaxes(1, 2)


def check(matched: jax.Array, covariance: np.ndarray) -> None:
    """The moments in float64, relative to the largest standard deviation."""
    matched = np.asarray(matched, np.float64)
    rest = matched - matched.mean(0)
    np.testing.assert_allclose(matched.mean(0), MEAN, atol=1e-5 * np.abs(covariance).max() ** 0.5 + 1e-6)
    found = np.einsum("tbi,tbj->bij", rest, rest) / len(matched)
    np.testing.assert_allclose(found, covariance, atol=2e-5 * np.abs(covariance).max() + 1e-9)


def root(matrix: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values[:, None] ** power) @ vectors.swapaxes(1, 2)


def test_it_is_optimal_transport():
    matched = mc.match(SAMPLES, MEAN, COVARIANCE)
    check(matched, COVARIANCE)
    rest = SAMPLES - SAMPLES.mean(0, dtype=np.float64)
    given = np.einsum("tbi,tbj->bij", rest, rest) / len(rest)
    to = root(given, 0.5)
    back = root(given, -0.5)
    plan = back @ root(to @ COVARIANCE @ to, 0.5) @ back
    np.testing.assert_allclose(matched, MEAN + np.einsum("tbi,bij->tbj", rest, plan), atol=1e-3)


def test_singular_covariances():
    center = np.eye(6, dtype=np.float32) - np.float32(1 / 6)
    centered = center @ COVARIANCE @ center
    check(mc.match(SAMPLES, MEAN, centered), centered)
    check(mc.match(SAMPLES @ center, MEAN, centered), centered)  # as singular as the covariance
    still, samples = COVARIANCE.copy(), SAMPLES.copy()
    still[:, 2] = still[:, :, 2] = samples[:, :, 2] = 0
    check(mc.match(samples, MEAN, still), still)
    check(mc.match(SAMPLES, MEAN, 0 * COVARIANCE), 0 * COVARIANCE)
    check(mc.match(SAMPLES[:7], MEAN, COVARIANCE), COVARIANCE)  # as few as can be
    scale = np.float32(10.0) ** np.arange(-3, 3)
    check(
        mc.match(SAMPLES * scale, MEAN, COVARIANCE * scale[:, None] * scale),
        COVARIANCE * scale[:, None] * scale,
    )


def test_half_precision_jit_and_devices():
    expected = mc.match(SAMPLES, MEAN, COVARIANCE)
    half = mc.match(*(jnp.asarray(array, jnp.bfloat16) for array in (SAMPLES, MEAN, COVARIANCE)))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, expected, atol=0.1)
    mesh = make_mesh((4,), ("batch",))
    rows = NamedSharding(mesh, PartitionSpec("batch"))
    samples = jax.device_put(SAMPLES, NamedSharding(mesh, PartitionSpec(None, "batch")))
    found = jax.jit(mc.match)(samples, *jax.device_put((MEAN, COVARIANCE), rows))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_sixteen_samples_are_worth_a_hundred():
    """The mean probabilities, with exact moments, over 20 repeats."""
    hidden, last = nets.bound().args[0]
    h = jax.nn.relu(nets.inputs() @ hidden)
    masks = RNG.integers(0, 2, (4000, *h.shape)).astype(np.float32)
    samples = 2 * masks * np.asarray(h) @ np.asarray(last)
    true, sets = np.asarray(jax.nn.softmax(samples)).mean(0), samples[:320].reshape(16, -1, 3)  # 160 rows
    moments = jax.tree.map(
        lambda leaf: np.tile(leaf, (20, *[1] * (leaf.ndim - 1))), mc.last_layer(h, last, rate=0.5)
    )
    errors = [
        np.asarray(jax.nn.softmax(one)).mean(0).reshape(20, -1, 3) - true
        for one in (sets, mc.match(sets, *moments))
    ]
    assert np.mean(errors[0] ** 2) / np.mean(errors[1] ** 2) > 6


def test_what_is_refused():
    with pytest.raises(
        ValueError, match=r"`samples` must have shape \[T, B, K\], \(T, 4, 6\), got \(16, 4\)\."
    ):
        mc.match(SAMPLES[..., 0], MEAN, COVARIANCE)
    with pytest.raises(ValueError, match=r"`samples` must be more than the outputs, .* got 6 of 6 outputs"):
        mc.match(SAMPLES[:6], MEAN, COVARIANCE)
    still = SAMPLES.copy()
    still[:, 1, 2] = 0
    with pytest.raises(
        ValueError, match=r"`samples` must vary in all directions .* got others for 1 of 4 exam"
    ):
        mc.match(still, MEAN, COVARIANCE)
    traced = jax.jit(mc.match)(still, MEAN, COVARIANCE)
    assert np.isnan(traced).all((0, 2)).tolist() == [False, True, False, False]
    with pytest.raises(
        ValueError, match="`covariance` must be positive semidefinite, got an eigenvalue of -"
    ):
        mc.match(SAMPLES, MEAN, -COVARIANCE)
    with pytest.raises(ValueError, match="got variances alone"):
        mc.match(SAMPLES, MEAN, MEAN**2)
