"""Energy and variogram scores against their double sums in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(size=(6, 4, 3))
Y = RNG.normal(size=(4, 3))


def energy(samples: np.ndarray, y: np.ndarray, fair: bool = False) -> np.ndarray:
    count = len(samples)
    pairs = np.linalg.norm(samples[:, None] - samples, axis=-1).sum((0, 1)) / (count * (count - fair))
    return np.linalg.norm(samples - y, axis=-1).mean(0) - pairs / 2


def variogram(samples: np.ndarray, y: np.ndarray, order: float, weights: float | np.ndarray = 1.0):
    predicted = (np.abs(samples[..., None] - samples[..., None, :]) ** order).mean(0)
    return (weights * (np.abs(y[..., None] - y[..., None, :]) ** order - predicted) ** 2).sum((-1, -2))


@pytest.mark.slow
def test_energy_score_is_the_double_sum():
    call = jax.jit(uncertainty.energy_score, static_argnames="fair")
    np.testing.assert_allclose(call(SAMPLES[:5], Y, fair=True), energy(SAMPLES[:5], Y, True), rtol=1e-5)
    np.testing.assert_allclose(call(SAMPLES[:1], Y), np.linalg.norm(SAMPLES[0] - Y, axis=-1), rtol=1e-5)


def test_energy_score_of_one_output_is_the_crps():
    found = uncertainty.energy_score(SAMPLES[..., None], Y[..., None])
    np.testing.assert_allclose(found, uncertainty.crps(SAMPLES, Y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1e-25, 1, 1e25])
def test_the_squares_of_a_distance_neither_overflow_nor_underflow(size: float):
    found = uncertainty.energy_score(size * SAMPLES, size * Y)
    np.testing.assert_allclose(found, size * energy(SAMPLES, Y), rtol=1e-5)
    found = uncertainty.variogram_score(size * SAMPLES, size * Y)
    np.testing.assert_allclose(found, size * variogram(SAMPLES, Y, 0.5), rtol=1e-4)


def test_large_offsets_are_subtracted_first():
    np.testing.assert_allclose(
        uncertainty.energy_score(1e8 + SAMPLES, 1e8 + Y), energy(SAMPLES, Y), rtol=1e-5
    )
    found = uncertainty.variogram_score(1e8 + SAMPLES, 1e8 + Y)
    np.testing.assert_allclose(found, variogram(SAMPLES, Y, 0.5), rtol=1e-5)


def test_variogram_score_is_the_double_sum():
    weights = RNG.uniform(size=(3, 3))  # not symmetric
    found = jax.jit(uncertainty.variogram_score)(SAMPLES, Y, order=1.0, weights=weights)
    np.testing.assert_allclose(found, variogram(SAMPLES, Y, 1.0, weights), rtol=1e-4)
    found = uncertainty.variogram_score(SAMPLES[..., :2], Y[..., :2], order=2)
    np.testing.assert_allclose(found, variogram(SAMPLES[..., :2], Y[..., :2], 2), rtol=1e-4)


def test_gradients_are_those_of_differences_also_where_samples_are_equal():
    tangent = RNG.normal(size=SAMPLES.shape)
    for call, exact in (
        (uncertainty.energy_score, energy),
        (uncertainty.variogram_score, lambda x, y: variogram(x, y, 0.5)),
    ):
        gradient = jax.jit(jax.grad(lambda x, call=call: call(x, Y).sum()))
        ends = (exact(SAMPLES + sign * 1e-6 * tangent, Y).sum() for sign in (1, -1))
        expected = np.subtract(*ends) / 2e-6
        np.testing.assert_allclose((gradient(SAMPLES) * tangent).sum(), expected, rtol=1e-3)
        assert np.isfinite(gradient(np.zeros_like(SAMPLES))).all()


def test_a_mask_leaves_examples_out():
    where = np.array([True, False, True, True])
    y = np.where(where[:, None], Y, np.inf)
    samples = np.where(where[:, None], SAMPLES, np.nan)
    for call in (uncertainty.energy_score, uncertainty.variogram_score):
        found = call(samples, y, where=where)
        np.testing.assert_allclose(found[where], call(SAMPLES, Y)[where], rtol=1e-5)
        assert np.isnan(found[1])
        half = call(SAMPLES.astype(np.float16), np.zeros((4, 3), np.int8))
        np.testing.assert_allclose(half, call(SAMPLES, np.zeros((4, 3))), rtol=1e-2)
        assert half.dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.energy_score(SAMPLES, Y[:, :2]),
            ValueError,
            "`y` must have the shape of `samples` without its first axis, (4, 3), got (4, 2).",
        ),
        (
            lambda: uncertainty.energy_score(np.ones(3), 1.0),
            ValueError,
            "`samples` must be of shape [T, ..., D], got (3,).",
        ),
        (
            lambda: uncertainty.energy_score(SAMPLES[:1], Y, fair=True),
            ValueError,
            "`samples` must hold at least 2 samples for `fair=True`, got 1.",
        ),
        (lambda: uncertainty.energy_score(SAMPLES, Y, fair=1), TypeError, "`fair` must be a bool, got 1."),
        (
            lambda: uncertainty.energy_score(SAMPLES, Y * np.inf),
            ValueError,
            "`samples - y` must be finite, got -inf.",
        ),
        (
            lambda: uncertainty.variogram_score(SAMPLES[..., :1], Y[..., :1]),
            ValueError,
            "`y` must have at least 2 outputs along the last axis, got shape (4, 1).",
        ),
        (
            lambda: uncertainty.variogram_score(SAMPLES, Y, order=0),
            ValueError,
            "`order` must be above 0, got 0.",
        ),
        (
            lambda: uncertainty.variogram_score(SAMPLES, Y, weights=np.ones(3)),
            ValueError,
            "`weights` must be of shape [D, D], (3, 3), got (3,).",
        ),
        (
            lambda: uncertainty.variogram_score(SAMPLES, Y, weights=-np.ones((3, 3))),
            ValueError,
            "`weights` must be finite and at least 0, got -1.",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
