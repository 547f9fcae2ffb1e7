"""The checks of a report's arguments; `test_reporting.py` has the refusals of the whole function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop._report import checks

KEY = jax.random.key(0)
X, Y = np.ones((20, 3), np.float32), np.zeros(20, np.int32)


def test_texts_are_strings_or_none():
    checks.check_texts(unit="mm", title=None)
    with pytest.raises(TypeError, match="`title` must be a string, got int"):
        checks.check_texts(unit="mm", title=3)


def test_the_held_out_and_the_scored_examples():
    held, scored = checks.split(KEY, 20, None, None)
    assert len(held) == 6
    assert sorted([*held, *scored]) == list(range(20))
    held, scored = checks.split(KEY, 20, None, (X[:7], Y[:7]))
    assert (len(held), len(scored)) == (7, 20)
    with pytest.raises(ValueError, match=r"`holdout` must be 0 or None with `calibration`, got 0\.2"):
        checks.split(KEY, 20, 0.2, (X[:7], Y[:7]))


def test_a_pair_is_like_the_data():
    rows, targets = checks.check_pair((X[:4], Y[:4]), X, Y, None)
    assert (len(rows), len(targets)) == (4, 4)
    with pytest.raises(TypeError, match=r"`calibration` must be a pair \(data, targets\), got ndarray"):
        checks.check_pair(X, X, Y, None)
    with pytest.raises(ValueError, match="`calibration` must be like the data"):
        checks.check_pair((X[:4, :2], Y[:4]), X, Y, None)


def test_a_predictor_depends_on_its_key():
    def random(key, x):
        return x + jax.random.normal(key, x.shape)

    assert checks.check_predict(random, KEY, X, Y, None, None).classes == 3
    for constant in (lambda key, x: 2 * x, lambda key, x: x + 0 * jnp.float32(3)):
        with pytest.raises(ValueError, match=r"depend on its key, .* training mode, .*nnx\.stochastic`\.$"):
            checks.check_predict(constant, KEY, X, Y, None, None)


def test_some_rows_are_arrays_of_numpy():
    found = checks.rows({"a": jnp.arange(4), "b": X[:4]}, np.array([0, 2]))
    np.testing.assert_array_equal(found["a"], [0, 2])
    assert isinstance(found["a"], np.ndarray)
