"""Checks of predictions: what they refuse, in words, and what they return."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import _predictions


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: _predictions.check_values("a", "y"),
            TypeError,
            "`y` must be a real number or an array of them",
        ),
        (
            lambda: _predictions.check_values(np.ones((2, 0)), "y"),
            ValueError,
            "`y` must not be empty, got shape (2, 0).",
        ),
        (
            lambda: _predictions.check_values([1.0, np.nan], "y"),
            ValueError,
            "`y` must not hold a NaN, got one.",
        ),
        (
            lambda: _predictions.check_vector(np.ones((2, 1)), "y"),
            ValueError,
            "`y` must have one axis, got shape (2, 1).",
        ),
        (
            lambda: _predictions.check_finite(jnp.array([1, jnp.inf]), "y"),
            ValueError,
            "`y` must be finite, got inf.",
        ),
        (
            lambda: _predictions.check_positive([1.0, 0.0], "tau"),
            ValueError,
            "`tau` must be above 0, got 0.",
        ),
        (
            lambda: _predictions.check_positive(np.nan, "tau"),
            ValueError,
            "`tau` must be above 0, got nan.",
        ),
        (lambda: _predictions.check_level(1.0), ValueError, "`level` must lie in (0, 1), got 1."),
        (
            lambda: _predictions.check_level([0.5, 0.0]),
            ValueError,
            "`level` must lie in (0, 1), got 0.",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.ones(2), "[T, ..., K]"),
            ValueError,
            "`probs` must be of shape [T, ..., K], got (2,).",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.ones((2, 2, 2)), "[N, K]"),
            ValueError,
            "`probs` must be of shape [N, K], got (2, 2, 2).",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.ones((0, 2)), "[N, K]"),
            ValueError,
            "`probs` must not be empty, got shape (0, 2).",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.array([1.25, -0.25]), "[..., K]"),
            ValueError,
            "`probs` must lie in [0, 1], got 1.25.",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.array([[0.5, 0.5], [0.5, 0.25]]), "[..., K]"),
            ValueError,
            "`probs` must sum to 1 along the last axis to within 0.001, got 0.75.",
        ),
        (
            lambda: _predictions.check_labels([0, 2], jnp.ones((2, 2))),
            ValueError,
            "`labels` must lie in [0, 1], got 2.",
        ),
        (
            lambda: _predictions.check_labels([[0, 1]], jnp.ones((2, 2)), of_name="logits"),
            ValueError,
            "`labels` must have the shape of `logits` without its last axis, (2,), got (1, 2).",
        ),
        (
            lambda: _predictions.check_labels([0.0, 1.0], jnp.ones((2, 2))),
            TypeError,
            "`labels` must be an array of integers, got float32.",
        ),
    ],
)
def test_messages_about_predictions(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_predictions_are_widened():
    for x in (3, [1, 2], np.ones(2, bool), np.float16(1), jnp.ones(2, jnp.bfloat16)):
        assert _predictions.check_values(x, "y").dtype == jnp.float32
    half = jnp.array([0.3, 0.3, 0.4], jnp.bfloat16)
    assert _predictions.check_probabilities(half, "[..., K]").dtype == jnp.float32
    with jax.enable_x64(True):
        assert _predictions.check_values(np.ones(2), "y").dtype == jnp.float64


def test_a_softmax_in_half_precision_passes():
    logits = 3 * jax.random.normal(jax.random.key(0), (500, 1000))
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        _predictions.check_probabilities(jax.nn.softmax(logits.astype(dtype)), "[B, K]")


def test_traced_predictions_pass():
    @jax.jit
    def f(x, labels):
        _predictions.check_level(x)
        _predictions.check_positive(x, "x")
        _predictions.check_finite(x, "x")
        _predictions.check_labels(labels, x)
        return _predictions.check_values(_predictions.check_probabilities(x, "[..., K]"), "x")

    assert np.isnan(f(jnp.full((2, 3), jnp.nan), jnp.array([-1, 7]))).all()
