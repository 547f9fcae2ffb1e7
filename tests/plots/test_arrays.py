"""Checks of what is drawn."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.plots import _arrays


def test_numbers_keep_their_digits():
    found = _arrays.numbers([1e9, 1e9 + 1], "x")
    assert found.dtype == np.float64
    assert np.diff(found) == 1
    np.testing.assert_array_equal(_arrays.numbers(jnp.array([1, 2.5], jnp.bfloat16), "x"), [1, 2.5])
    np.testing.assert_array_equal(_arrays.numbers(np.array([True, False]), "x"), [1, 0])


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`x` must not hold a NaN, got one\."):
        _arrays.numbers(np.array([np.nan]), "x")
    with pytest.raises(ValueError, match=r"`x` must not be empty, got shape \(0,\)\."):
        _arrays.numbers(np.zeros(0), "x")
    with pytest.raises(ValueError, match=r"`x` must be finite, got inf\."):
        _arrays.numbers(np.array([np.inf]), "x", finite=True)
    with pytest.raises(ValueError, match=r"`x` must have one axis, got shape \(2, 2\)\."):
        _arrays.vector(np.ones((2, 2)), "x")
    with pytest.raises(TypeError, match="`x` must be a real number or an array of them"):
        _arrays.numbers(np.array([1j]), "x")
    with pytest.raises(ValueError, match=r"`stddev` must have the shape of `x`, \(3,\), got \(2,\)\."):
        _arrays.spreads(np.ones(2), np.ones(3), "x")
    with pytest.raises(ValueError, match="`stddev` must be finite and at least 0, got -1"):
        _arrays.spreads(-1.0, np.ones(3), "x")
    assert _arrays.spreads(2.0, np.ones(3), "x").tolist() == [2, 2, 2]
