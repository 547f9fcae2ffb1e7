"""Patch dropout: counts, prefix, order, indices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(7)


@pytest.mark.parametrize(
    ("length", "prefix", "rate", "kept"),
    [(196, 0, 0.5, 98), (197, 1, 0.5, 98), (10, 0, 0.7, 3), (4, 0, 0.99, 1)],
)
def test_how_many_are_kept(length, prefix, rate, kept):
    x = jnp.broadcast_to(jnp.arange(length, dtype=jnp.float32)[None, :, None], (3, length, 2))
    y, places = jaxdrop.patch_dropout(KEY, x, rate, prefix_tokens=prefix, return_indices=True)
    assert y.shape == (3, prefix + kept, 2)
    assert (places.shape, places.dtype) == ((3, prefix + kept), jnp.int32)
    np.testing.assert_array_equal(y[..., 0], places)
    np.testing.assert_array_equal(places[:, :prefix], np.broadcast_to(np.arange(prefix), (3, prefix)))
    assert (np.diff(places, axis=1) > 0).all()
    np.testing.assert_array_equal(y, jnp.take_along_axis(x, places[..., None], axis=1))


def test_every_token_alike_and_every_example_its_own():
    x = jnp.zeros((4000, 8, 1))
    _, places = jaxdrop.patch_dropout(KEY, x, 0.625, prefix_tokens=0, return_indices=True)
    counts = np.bincount(np.asarray(places).ravel(), minlength=8) / 4000
    assert (np.abs(counts - 0.375) < 5 * np.sqrt(0.375 * 0.625 / 4000)).all()
    # All 56 sets of three, each expected 71.4 times.
    _, times = np.unique(np.asarray(places), axis=0, return_counts=True)
    assert len(times) == 56
    assert ((times - 4000 / 56) ** 2 / (4000 / 56)).sum() < 55 + 5 * np.sqrt(2 * 55)


def test_the_gradient_goes_to_the_kept_tokens():
    x = standard_normal(KEY, (2, 6, 3))
    _, places = jaxdrop.patch_dropout(KEY, x, 0.5, return_indices=True)
    grad = jax.grad(lambda x: jaxdrop.patch_dropout(KEY, x, 0.5).sum())(x)
    expected = np.zeros((2, 6, 3))
    np.put_along_axis(expected, np.asarray(places)[..., None], 1.0, axis=1)
    np.testing.assert_array_equal(grad, expected)


def test_rate_zero_keeps_all():
    x = jnp.ones((2, 5, 3))
    y, places = jaxdrop.patch_dropout(KEY, x, 0.0, prefix_tokens=2, return_indices=True)
    assert y is x
    np.testing.assert_array_equal(places, np.broadcast_to(np.arange(5), (2, 5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.0}, "`rate` must be below 1, so that something is kept, got 1."),
        ({"rate": 0.5, "prefix_tokens": 5}, "`prefix_tokens` must lie in [0, 4], got 5."),
        ({"rate": 0.5, "prefix_tokens": -1}, "`prefix_tokens` must lie in [0, 4], got -1."),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        jaxdrop.patch_dropout(KEY, jnp.ones((2, 5, 3)), **options)
    with pytest.raises(TypeError, match=re.escape("`prefix_tokens` must be an integer, got 1.0.")):
        jaxdrop.patch_dropout(KEY, jnp.ones((2, 5, 3)), 0.5, prefix_tokens=1.0)
    with pytest.raises(ValueError, match=re.escape("`x` must be of shape [B, L, ...], got (5,).")):
        jaxdrop.patch_dropout(KEY, jnp.ones(5), 0.5)
