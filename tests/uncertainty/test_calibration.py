"""Fits against scipy's optimizers in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, special

from jaxdrop import mc, uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
COUNT, CLASSES = 400, 4
TRUTH = 2 * RNG.normal(size=(COUNT, CLASSES))
LABELS = np.array([RNG.choice(CLASSES, p=p) for p in special.softmax(TRUTH, axis=-1)])
LOGITS = np.float32(TRUTH * 3 + 0.5 * RNG.normal(size=TRUTH.shape) + np.array([1, 0, -1, 0]))
PROBS = np.float32(special.softmax(LOGITS, axis=-1))


def mean_nll(logits: np.ndarray) -> float:
    picked = np.take_along_axis(special.log_softmax(np.float64(logits), axis=-1), LABELS[:, None], axis=-1)
    return -picked.mean()


@pytest.mark.slow
def test_temperature_is_that_of_scipy():
    best = optimize.minimize_scalar(lambda log: mean_nll(LOGITS / np.exp(log)), tol=1e-12)
    for fit in (uncertainty.fit_temperature, jax.jit(uncertainty.fit_temperature)):
        fitted = fit(LOGITS, LABELS)
        np.testing.assert_allclose(fitted.temperature, np.exp(best.x), rtol=1e-4)
    calibrated = fitted(LOGITS)
    np.testing.assert_allclose(calibrated, special.softmax(LOGITS / np.exp(best.x), axis=-1), atol=1e-4)
    assert uncertainty.nll(calibrated, LABELS).mean() < uncertainty.nll(PROBS, LABELS).mean()
    np.testing.assert_array_equal(calibrated.argmax(-1), LOGITS.argmax(-1))


def test_temperature_does_not_mind_a_shift_or_more_axes():
    fitted = uncertainty.fit_temperature(LOGITS, LABELS)
    shifted = uncertainty.fit_temperature((LOGITS + 30).reshape(20, 20, 4), LABELS.reshape(20, 20))
    np.testing.assert_allclose(shifted.temperature, fitted.temperature, rtol=1e-4)
    again = uncertainty.fit_temperature(jnp.log(fitted(LOGITS)), LABELS)
    np.testing.assert_allclose(again.temperature, 1, rtol=1e-3)


@pytest.mark.slow
def test_temperatures_at_the_ends():
    apart, labels = jnp.array([[5.0, 0.0], [0.0, 5.0]]), jnp.array([0, 1])
    np.testing.assert_allclose(uncertainty.fit_temperature(apart, labels).temperature, 5e-3, rtol=1e-3)
    np.testing.assert_allclose(uncertainty.fit_temperature(apart, 1 - labels).temperature, 5e3, rtol=1e-3)
    assert uncertainty.fit_temperature(jnp.full((3, 2), 7.0), jnp.array([0, 1, 1])).temperature == 1
    hot = uncertainty.fit_temperature(apart, 1 - labels)(apart)
    np.testing.assert_allclose(hot, 0.5, atol=0.01)
    absent = uncertainty.Temperature(jnp.array(2.0))(jnp.array([0.0, 0.0, -jnp.inf]))
    np.testing.assert_allclose(absent, [0.5, 0.5, 0])


@pytest.mark.slow
@pytest.mark.parametrize("fit", [uncertainty.fit_temperature, uncertainty.fit_vector_scaling])
def test_traced_values_that_make_no_sense_give_nan(fit, compiled_in_haste):
    jitted = jax.jit(fit)
    assert np.isnan(jitted(jnp.ones((3, 2)), jnp.array([0, 1, 2]))[0]).all()
    assert np.isnan(jitted(jnp.full((3, 2), jnp.nan), jnp.array([0, 1, 1]))[0]).all()
    assert np.isnan(jitted(jnp.full((3, 2), jnp.inf), jnp.array([0, 1, 1]))[0]).all()


@pytest.mark.slow
def test_vector_scaling_is_that_of_scipy():
    def loss(of):
        return mean_nll(LOGITS * of[:CLASSES] + of[CLASSES:])

    best = optimize.minimize(loss, np.r_[np.ones(CLASSES), np.zeros(CLASSES)], tol=1e-12)
    fitted = uncertainty.fit_vector_scaling(LOGITS, LABELS)
    np.testing.assert_allclose(fitted.scale, best.x[:CLASSES], rtol=2e-3)
    bias = best.x[CLASSES:]
    np.testing.assert_allclose(fitted.bias - fitted.bias.mean(), bias - bias.mean(), atol=2e-3)
    nll = uncertainty.nll(fitted(LOGITS), LABELS).mean()
    np.testing.assert_allclose(nll, best.fun, rtol=1e-5)
    assert nll < uncertainty.nll(uncertainty.fit_temperature(LOGITS, LABELS)(LOGITS), LABELS).mean()


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "offset"), [(1.0, 100.0), (1000.0, 0.0)])
def test_vector_scaling_of_logits_far_from_zero_or_large(spread: float, offset: float):
    """It is the same fit in other units."""
    moved = (spread * LOGITS + offset).astype(np.float32)
    fitted = uncertainty.fit_vector_scaling(moved, LABELS)
    expected = uncertainty.nll(uncertainty.fit_vector_scaling(LOGITS, LABELS)(LOGITS), LABELS).mean()
    np.testing.assert_allclose(uncertainty.nll(fitted(moved), LABELS).mean(), expected, rtol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.1, -2.3])
def test_vector_scaling_of_a_class_whose_logit_never_changes(constant: float):
    """A constant logit has no scale to fit, so its scale is 1; the bias is fitted."""
    logits = LOGITS.copy()
    logits[:, 0] = constant
    fitted = uncertainty.fit_vector_scaling(logits, LABELS)
    assert fitted.scale[0] == 1

    def nll(bias: np.ndarray) -> float:
        logs = special.log_softmax(logits * np.float64(fitted.scale) + bias, axis=-1)
        return -np.mean(logs[np.arange(COUNT), LABELS])

    best = optimize.minimize(nll, np.zeros(CLASSES))
    np.testing.assert_allclose(nll(np.float64(fitted.bias)), best.fun, atol=1e-6)


@pytest.mark.slow
def test_vector_scaling_of_what_can_be_set_apart_stays_finite():
    apart, labels = jnp.array([[5.0, 0.0], [0.0, 5.0]]), jnp.array([0, 1])
    fitted = uncertainty.fit_vector_scaling(apart, labels, steps=30)
    assert np.isfinite(fitted.scale).all()
    assert uncertainty.nll(fitted(apart), labels).max() < 0.01


MASKED = RNG.uniform(size=TRUTH.shape) < 0.3
MASKED[np.arange(COUNT), RNG.integers(0, CLASSES, COUNT)] = False
OF_MASKED = np.array(
    [RNG.choice(CLASSES, p=p) for p in special.softmax(np.where(MASKED, -np.inf, TRUTH), axis=-1)]
)


def test_vector_scaling_with_masked_classes_is_that_of_scipy():
    """The spread of a class with a few logits of -1e9 is no unit of the others."""
    logits = np.where(MASKED, np.where(np.arange(CLASSES) == 1, -np.inf, -1e9), LOGITS).astype(np.float32)

    def loss(of: np.ndarray) -> float:
        scaled = np.where(MASKED, -np.inf, LOGITS * of[:CLASSES] + of[CLASSES:])
        return -special.log_softmax(scaled, axis=-1)[np.arange(COUNT), OF_MASKED].mean()

    best = optimize.minimize(loss, np.r_[np.ones(CLASSES), np.zeros(CLASSES)], tol=1e-10)
    fitted = uncertainty.fit_vector_scaling(logits, OF_MASKED)
    assert fitted.converged
    np.testing.assert_allclose(uncertainty.nll(fitted(logits), OF_MASKED).mean(), best.fun, rtol=1e-5)
    np.testing.assert_allclose(fitted.scale, best.x[:CLASSES], rtol=2e-3)


def test_vector_scaling_tells_that_it_did_not_converge_and_is_no_worse_than_the_temperature():
    fitted = uncertainty.fit_vector_scaling(LOGITS, LABELS, steps=1)
    assert not fitted.converged
    temperature = uncertainty.fit_temperature(LOGITS, LABELS)
    nll = [uncertainty.nll(fit(LOGITS), LABELS).mean() for fit in (fitted, temperature)]
    assert nll[0] <= nll[1] + 1e-6


@pytest.mark.parametrize("unit", [1e5, 1e-5])
def test_a_temperature_is_in_the_units_of_the_logits(unit: float):
    one = uncertainty.fit_temperature(LOGITS, LABELS)
    fitted = uncertainty.fit_temperature(np.float32(unit) * LOGITS, LABELS)
    np.testing.assert_allclose(fitted.temperature, unit * one.temperature, rtol=1e-4)


def test_the_temperature_of_log_probabilities_with_a_zero():
    """A class of probability 0 stays at 0, whatever the temperature."""
    probs = np.where(np.arange(CLASSES) == (LABELS[:, None] + 1) % CLASSES, 0, PROBS)
    logs = np.log(probs / probs.sum(-1, keepdims=True), where=probs > 0, out=np.full_like(probs, -np.inf))
    found = uncertainty.fit_temperature(logs, LABELS)
    expected = uncertainty.fit_temperature(np.where(np.isinf(logs), -1e6, logs), LABELS)
    np.testing.assert_allclose(found.temperature, expected.temperature, rtol=1e-4)
    assert (np.asarray(found(logs))[probs == 0] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("fit", [uncertainty.fit_temperature, uncertainty.fit_vector_scaling])
def test_a_mask_leaves_examples_out(fit):
    logits, labels, where = LOGITS.copy(), LABELS.copy(), RNG.uniform(size=COUNT) < 0.7
    logits[~where], labels[~where] = np.nan, 255
    expected = fit(LOGITS[where], LABELS[where])
    np.testing.assert_allclose(jax.jit(fit)(logits, labels, where=where)[0], expected[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.fit_temperature(LOGITS, LABELS[:3]),
            ValueError,
            "`labels` must have the shape of `logits` without its last axis, (400,), got (3,).",
        ),
        (
            lambda: uncertainty.fit_temperature([[0.0, -np.inf]], [1]),
            ValueError,
            "`logits` must be finite at the labels, got -inf.",
        ),
        (
            lambda: uncertainty.fit_temperature([[0.0, np.inf]], [0]),
            ValueError,
            "`logits` must be below infinity, got inf.",
        ),
        (
            lambda: uncertainty.fit_vector_scaling(PROBS, LABELS),
            ValueError,
            "`logits` must be logits (the logarithms of probabilities are), got probabilities.",
        ),
        (
            lambda: uncertainty.fit_temperature(LOGITS[:0], LABELS[:0]),
            ValueError,
            "`logits` must not be empty",
        ),
        (lambda: uncertainty.fit_temperature([[1, 2]], [0]), TypeError, "`logits` must be a floating-point"),
        (
            lambda: uncertainty.fit_vector_scaling(LOGITS[:1], [4]),
            ValueError,
            "`labels` must lie in [0, 3], got 4.",
        ),
        (
            lambda: uncertainty.fit_vector_scaling(LOGITS, LABELS, steps=0),
            ValueError,
            "`steps` must be at least 1, got 0.",
        ),
        (
            lambda: uncertainty.fit_vector_scaling(LOGITS, LABELS, tolerance=0.0),
            ValueError,
            "`tolerance` must be above 0, got 0.",
        ),
        (
            lambda: uncertainty.VectorScaling(jnp.ones(3), jnp.zeros(3))(LOGITS),
            ValueError,
            "`logits` must have the 3 classes of the fit, got 4.",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("fit", [uncertainty.fit_temperature, uncertainty.fit_vector_scaling])
def test_a_fit_to_no_example_is_nan(fit, compiled_in_haste):
    fitted = fit(np.float32([[1, 0], [0, 2]]), np.array([0, 1]), where=np.zeros(2, bool))
    assert np.isnan(fitted[0]).all()


@pytest.mark.slow
def test_log_probabilities_that_underflow_are_calibrated():
    """Of logits of 200 and -200 the mean probability is 0 in float32, and its log is no logit."""
    sign = np.random.default_rng(1).choice([-1.0, 1.0], size=(32, 4, 1))
    sign[:, :3] = 1
    logits, labels = 200 * np.concatenate([sign, -sign], axis=-1), jnp.array([0, 0, 1, 1])
    reducer = mc.Categorical(groups=0, log_mean=True)
    state = reducer.summarize(jnp.asarray(logits, jnp.float32), jnp.arange(32), None)
    found = reducer.finish(state)[0]
    with pytest.raises(ValueError, match="`logits` must be finite at the labels, got -inf"):
        uncertainty.fit_temperature(jnp.log(found["mean"]), labels)
    assert np.isinf(uncertainty.nll(found["mean"], 1 - labels)[0])
    truth = special.logsumexp(special.log_softmax(logits, axis=-1), axis=0) - np.log(32)
    nll = optax.softmax_cross_entropy_with_integer_labels(found["log_mean"], 1 - labels)
    expected = -np.take_along_axis(truth, 1 - np.asarray(labels)[:, None], -1)[:, 0]
    np.testing.assert_allclose(nll, expected, rtol=1e-5)

    def loss(log: float) -> float:
        scaled = special.log_softmax(truth / np.exp(log), axis=-1)
        return -np.take_along_axis(scaled, np.asarray(labels)[:, None], -1).mean()

    best = optimize.minimize_scalar(loss, bounds=np.log([1e-3, 1e3]), method="bounded")
    fitted = uncertainty.fit_temperature(found["log_mean"], labels)
    probs = fitted(found["log_mean"])
    np.testing.assert_allclose(uncertainty.nll(probs, labels).mean(), best.fun, rtol=1e-4)
    np.testing.assert_allclose(fitted.temperature, np.exp(best.x), rtol=1e-2)
