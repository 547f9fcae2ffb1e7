"""Dropout, by its mask."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(2)


@pytest.mark.parametrize(("rate", "scale"), [(0.5, 2.0), (0.25, 4 / 3), (0.1, 65536 / 58982)])
def test_values_are_zero_or_scaled(rate, scale):
    x = standard_normal(KEY, (32, 40))
    mask = jaxdrop.keep_mask(KEY, x.shape, rate)
    y = jaxdrop.dropout(KEY, x, rate)
    np.testing.assert_allclose(y, np.where(mask, x * np.float32(scale), 0), rtol=2e-7)


def test_shared_decisions():
    y = jaxdrop.dropout(KEY, jnp.ones((4, 5, 6)), 0.5, broadcast_dims=(0, -1))
    assert y.shape == (4, 5, 6)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:1, :, :1], y.shape))


def test_a_rate_for_each_example_scales_each_by_its_own():
    rates = jnp.array([0.0, 0.5, 0.75, 1.0])
    y = jaxdrop.dropout(KEY, jnp.ones((4, 64)), rates[:, None])
    assert [sorted(set(np.asarray(row).tolist())) for row in y] == [[1.0], [0.0, 2.0], [0.0, 4.0], [0.0]]


def test_the_mean_of_a_traced_rate_is_kept_where_it_is_realized_coarsely():
    """A traced rate of 1e-3 is realized as 66 / 65536; the scale corrects for it."""
    y = jax.jit(jaxdrop.dropout)(KEY, jnp.ones(8), 1e-3)
    np.testing.assert_allclose(y[y != 0], 65536 / 65470, rtol=1e-6)


def test_a_new_rate_compiles_nothing_new():
    f = jax.jit(chex.assert_max_traces(jaxdrop.dropout, n=1))
    shares = [float((f(KEY, jnp.ones(1000), rate) == 0).mean()) for rate in (0.1, 0.5, 0.9)]
    np.testing.assert_allclose(shares, (0.1, 0.5, 0.9), atol=5 * 0.5 / np.sqrt(1000))


def test_a_float64_rate_draws_the_mask_of_flax():
    with jax.enable_x64(True):
        x, rate = jnp.ones(2000), jnp.float64(0.15)
        mask = jax.random.bernoulli(KEY, 1.0 - 0.15, x.shape)  # as Flax draws it
        for f in (jaxdrop.dropout, jax.jit(jaxdrop.dropout, static_argnames="bits")):
            np.testing.assert_array_equal(f(KEY, x, rate, bits=32) != 0, mask)


@pytest.mark.parametrize("drop", [jaxdrop.dropout, jaxdrop.attention_dropout])
@pytest.mark.parametrize("traced", [False, True])
def test_float16_at_rates_near_one(drop, traced):
    """The scale, above 65504, is no number of float16; the product is, or rounds to infinity."""
    rate = 1 - 1.2e-5
    x = jnp.broadcast_to(jnp.array([0.125, 0.25, 1.0], jnp.float16)[:, None], (3, 2**18))
    y = drop(jax.random.key(13), x, jnp.float32(rate) if traced else rate, bits=24)
    scale = 2**24 / np.round(2**24 * (1 - np.float32(rate)))
    found = np.asarray(y, np.float64).max(1)
    np.testing.assert_allclose(found[:2], [scale / 8, scale / 4], rtol=1e-3)
    assert found[2] == np.inf
