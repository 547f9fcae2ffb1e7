"""The messages of the argument checks: the name, what is expected, what came."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import _checks


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _checks.check_rate(1.3), ValueError, "`rate` must lie in [0, 1], got 1.3."),
        (lambda: _checks.check_rate(-0.1), ValueError, "`rate` must lie in [0, 1], got -0.1."),
        (lambda: _checks.check_rate(float("nan")), ValueError, "`rate` must lie in [0, 1], got nan."),
        (lambda: _checks.check_rate("a"), TypeError, "`rate` must be a real number"),
        (lambda: _checks.check_rate(None), TypeError, "`rate` must be a real number"),
        (
            lambda: _checks.check_nonnegative(-1.0, "stddev"),
            ValueError,
            "`stddev` must be finite and at least 0, got -1.",
        ),
        (
            lambda: _checks.check_nonnegative(np.inf, "stddev"),
            ValueError,
            "`stddev` must be finite and at least 0, got inf.",
        ),
        (
            lambda: _checks.check_floating(np.arange(3)),
            TypeError,
            "`x` must be a floating-point array, got int32.",
        ),
        (lambda: _checks.check_shape((3, -1)), ValueError, "`shape` must hold sizes of at least 0"),
        (lambda: _checks.check_shape(3), TypeError, "`shape` must be a sequence of integers, got 3."),
        (
            lambda: _checks.check_axes((5,), 2, "broadcast_dims"),
            ValueError,
            "`broadcast_dims` must lie in [-2, 1] for an array of rank 2, got 5.",
        ),
        (
            lambda: _checks.check_axes((0.5,), 2, "broadcast_dims"),
            TypeError,
            "`broadcast_dims` must be a sequence of integers, got (0.5,).",
        ),
        (
            lambda: _checks.check_channel_axis(0, (2, 3)),
            ValueError,
            "`channel_axis` must not be the batch axis 0, got 0.",
        ),
        (
            lambda: _checks.check_channel_axis(-1, (2,)),
            ValueError,
            "`x` must have a batch axis and a channel axis, got shape (2,).",
        ),
        (
            lambda: _checks.check_broadcastable(np.ones(3), (2, 4), "mask"),
            ValueError,
            "`mask` must broadcast to shape (2, 4), got (3,).",
        ),
        (
            lambda: _checks.choose_width(7, 0.5),
            ValueError,
            "`bits` must be one of 8, 16, 24, 32 or None, got 7.",
        ),
        (
            lambda: _checks.choose_width(8, 0.001),
            ValueError,
            "`bits` must be enough to tell rate 0.001 from 0 and 1, got 8.",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_traced_values_pass():
    def f(rate: jax.Array) -> jax.Array:
        assert _checks.check_rate(rate) is rate
        assert not _checks.is_concrete(rate)
        assert not _checks.is_trivial_rate(rate)
        assert _checks.choose_width(None, rate) == 16
        return rate

    assert jax.jit(f)(7.0) == 7.0


@pytest.mark.parametrize(
    ("rate", "bits"),
    [(0.5, 16), (0.1, 16), (0.3, 16), (0.9, 16), (0.01, 16), (0.001, 24), (0.9999, 24)],
)
def test_as_many_bits_as_realise_the_rate(rate, bits):
    assert _checks.choose_width(None, rate) == bits
    assert _checks.choose_width(None, jnp.array([0.5, rate])) == bits
    assert _checks.choose_width(None, jnp.full((3,), rate)) == bits
    assert _checks.choose_width(32, rate) == 32
    if bits < 24:
        realized = round((1 - rate) * 2**bits) / 2**bits
        assert abs(realized - (1 - rate)) <= 1e-3 * min(rate, 1 - rate)


def test_what_is_trivial():
    assert _checks.is_trivial_rate(0)
    assert _checks.is_trivial_rate(np.float32(1))
    assert not _checks.is_trivial_rate(0.5)
    assert not _checks.is_trivial_rate(np.zeros(3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _checks.check_values("a", "y"), TypeError, "`y` must be a real number or an array of them"),
        (
            lambda: _checks.check_values(np.ones((2, 0)), "y"),
            ValueError,
            "`y` must not be empty, got shape (2, 0).",
        ),
        (lambda: _checks.check_values([1.0, np.nan], "y"), ValueError, "`y` must not hold a NaN, got one."),
        (
            lambda: _checks.check_vector(np.ones((2, 1)), "y"),
            ValueError,
            "`y` must have one axis, got shape (2, 1).",
        ),
        (
            lambda: _checks.check_finite(jnp.array([1, jnp.inf]), "y"),
            ValueError,
            "`y` must be finite, got inf.",
        ),
        (lambda: _checks.check_positive([1.0, 0.0], "tau"), ValueError, "`tau` must be above 0, got 0."),
        (lambda: _checks.check_positive(np.nan, "tau"), ValueError, "`tau` must be above 0, got nan."),
        (lambda: _checks.check_level(1.0), ValueError, "`level` must lie in (0, 1), got 1."),
        (lambda: _checks.check_level([0.5, 0.0]), ValueError, "`level` must lie in (0, 1), got 0."),
        (
            lambda: _checks.check_probabilities(jnp.ones(2), "[T, ..., K]"),
            ValueError,
            "`probs` must be of shape [T, ..., K], got (2,).",
        ),
        (
            lambda: _checks.check_probabilities(jnp.ones((2, 2, 2)), "[N, K]"),
            ValueError,
            "`probs` must be of shape [N, K], got (2, 2, 2).",
        ),
        (
            lambda: _checks.check_probabilities(jnp.ones((0, 2)), "[N, K]"),
            ValueError,
            "`probs` must not be empty, got shape (0, 2).",
        ),
        (
            lambda: _checks.check_probabilities(jnp.array([1.25, -0.25]), "[..., K]"),
            ValueError,
            "`probs` must lie in [0, 1], got 1.25.",
        ),
        (
            lambda: _checks.check_probabilities(jnp.array([[0.5, 0.5], [0.5, 0.25]]), "[..., K]"),
            ValueError,
            "`probs` must sum to 1 along the last axis to within 0.001, got 0.75.",
        ),
        (
            lambda: _checks.check_labels([0, 2], jnp.ones((2, 2))),
            ValueError,
            "`labels` must lie in [0, 1], got 2.",
        ),
        (
            lambda: _checks.check_labels([[0, 1]], jnp.ones((2, 2)), of_name="logits"),
            ValueError,
            "`labels` must have the shape of `logits` without its last axis, (2,), got (1, 2).",
        ),
        (
            lambda: _checks.check_labels([0.0, 1.0], jnp.ones((2, 2))),
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
        assert _checks.check_values(x, "y").dtype == jnp.float32
    half = jnp.array([0.3, 0.3, 0.4], jnp.bfloat16)
    assert _checks.check_probabilities(half, "[..., K]").dtype == jnp.float32
    with jax.enable_x64(True):
        assert _checks.check_values(np.ones(2), "y").dtype == jnp.float64


def test_a_softmax_in_half_precision_passes():
    logits = 3 * jax.random.normal(jax.random.key(0), (500, 1000))
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        _checks.check_probabilities(jax.nn.softmax(logits.astype(dtype)), "[B, K]")


def test_traced_predictions_pass():
    @jax.jit
    def f(x, labels):
        _checks.check_level(x)
        _checks.check_positive(x, "x")
        _checks.check_finite(x, "x")
        _checks.check_labels(labels, x)
        return _checks.check_values(_checks.check_probabilities(x, "[..., K]"), "x")

    assert np.isnan(f(jnp.full((2, 3), jnp.nan), jnp.array([-1, 7]))).all()
