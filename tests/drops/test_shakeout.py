"""Shakeout against its definition on weights, its mean, and its two limits."""

import re

import jax
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(23)
X = standard_normal(KEY, (6, 5))
W = standard_normal(24, (5, 3))


def test_against_the_weights_of_the_paper():
    """With r = 0 or 1 / (1 - p) for each input: W' = r W + c (r - 1) sign(W)."""
    rate, c = 0.4, 0.3
    y = jaxdrop.shakeout(KEY, X, W, rate, constant=c, bits=24)
    kept = np.asarray(jaxdrop.keep_mask(KEY, X.shape, rate, bits=24), np.float64)
    w = np.asarray(W, np.float64)
    for i in range(len(X)):
        r = kept[i][:, None] / (1 - rate)
        expected = np.asarray(X[i], np.float64) @ (r * w + c * (r - 1) * np.sign(w))
        np.testing.assert_allclose(y[i], expected, rtol=2e-5, atol=2e-5)


def test_the_mean_is_the_product():
    run = jax.vmap(lambda key: jaxdrop.shakeout(key, X, W, 0.5, constant=0.5))
    y = np.asarray(run(jax.random.split(KEY, 4000)))
    assert (np.abs(y.mean(0) - X @ W) < 5 * y.std(0) / np.sqrt(4000) + 1e-6).all()


def test_its_limits():
    np.testing.assert_allclose(
        jaxdrop.shakeout(KEY, X, W, 0.5, constant=0.0), jaxdrop.dropout(KEY, X, 0.5) @ W, rtol=1e-6
    )
    np.testing.assert_allclose(jaxdrop.shakeout(KEY, X, W, 0.0, constant=0.7), X @ W, rtol=1e-6)


def test_the_sign_is_a_constant():
    grad = jax.grad(lambda w: jaxdrop.shakeout(KEY, X, w, 0.5, constant=0.5).sum())(W)
    expected = np.asarray(jaxdrop.dropout(KEY, X, 0.5)).sum(0)[:, None] * np.ones((1, 3))
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-6)


def test_bad_input():
    with pytest.raises(
        ValueError,
        match=re.escape("`kernel` must be of shape [I, O] for `x` of [..., I], got (3, 5) and (6, 5)."),
    ):
        jaxdrop.shakeout(KEY, X, W.T, 0.5, constant=0.1)
    with pytest.raises(ValueError, match=re.escape("`constant` must be finite and at least 0, got -1.")):
        jaxdrop.shakeout(KEY, X, W, 0.5, constant=-1.0)


def test_at_a_constant_of_zero_an_infinity_that_is_dropped_is_gone():
    x = np.array([[np.inf, 1.0]], np.float32)
    y = jaxdrop.shakeout(jax.random.key(0), x, np.ones((2, 1), np.float32), 1.0, constant=0.0)
    np.testing.assert_array_equal(y, [[0]])
