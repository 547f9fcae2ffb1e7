"""Masks: Flax's own as the reference of 32 bits, shapes, rates, and the act alone."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from tests.normals import standard_normal

KEY = jax.random.key(3)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dims", [(), (1,), (-1, 0)])
def test_32_bits_are_the_masks_and_outputs_of_flax(rate, dims):
    x = standard_normal(1, (16, 5, 33))
    rngs = {"dropout": KEY}
    theirs = nn.Dropout(rate, dims, deterministic=False).apply({}, x, rngs=rngs)
    ours = jaxdrop.linen.Dropout(rate, dims, deterministic=False, bits=32).apply({}, x, rngs=rngs)
    np.testing.assert_array_equal(ours, theirs)

    theirs = nnx.Dropout(rate, broadcast_dims=dims, rngs=nnx.Rngs(4))
    ours = jaxdrop.nnx.Dropout(rate, broadcast_dims=dims, rngs=nnx.Rngs(4), bits=32)
    for _ in range(3):
        expected = theirs(x)
        np.testing.assert_array_equal(ours(x), expected)

    mask = jaxdrop.keep_mask(KEY, x.shape, rate, broadcast_dims=dims, bits=32)
    assert mask.shape == tuple(1 if axis in {d % 3 for d in dims} else n for axis, n in enumerate(x.shape))
    flax = nn.Dropout(rate, dims, deterministic=False).apply({}, jnp.ones_like(x), rng=KEY)
    np.testing.assert_array_equal(jnp.broadcast_to(mask, x.shape), flax != 0)


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_32_bits_are_the_masks_of_flax_in_double_precision_too(rate):
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            x = jax.random.normal(jax.random.key(1), (16, 33), dtype)
            theirs = nn.Dropout(rate, deterministic=False).apply({}, x, rng=KEY)
            ours = jaxdrop.linen.Dropout(rate, deterministic=False, bits=32).apply({}, x, rng=KEY)
            np.testing.assert_array_equal(ours == 0, theirs == 0)
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.9999, 1 - 1e-6, 1e-4, 1e-6])
def test_the_mean_is_exact_at_the_ends(rate):
    """The scale is one over what 24 bits realize, whose share is exact."""
    keep = round((1 - rate) * 2**24) / 2**24
    y = jaxdrop.apply_mask(jnp.ones(()), jnp.array(True), rate)
    np.testing.assert_allclose(float(y) * keep, 1, rtol=1e-6)
    n = 2**22
    dropped = n - int(jaxdrop.keep_mask(KEY, (2**11, 2**11), rate).sum())
    assert abs(dropped - n * (1 - keep)) <= 5 * np.sqrt(n * keep * (1 - keep)) + 1


@pytest.mark.parametrize(
    ("rate", "bits"), [(0.5, None), (0.1, None), (0.1, 8), (0.7, 32), (0.003, None), (0.01, 16)]
)
def test_the_share_of_kept_elements(rate, bits):
    """Within 5 standard errors of the realized rate, which is within the promised of the asked."""
    n = 2**21
    mask = jaxdrop.keep_mask(KEY, (2**11, 2**10), rate, bits=bits)
    keep = 1 - rate if bits != 8 else round((1 - rate) * 256) / 256
    tolerance = 5 * np.sqrt(keep * (1 - keep) / n) + 1e-3 * min(rate, 1 - rate)
    assert abs(float(mask.mean()) - keep) < tolerance


def test_a_rate_for_each_row():
    rates = jnp.array([0.0, 0.2, 0.7, 1.0])
    share = jaxdrop.keep_mask(KEY, (4, 100_000), rates[:, None]).mean(1)
    np.testing.assert_allclose(share, 1 - rates, atol=5 * 0.5 / np.sqrt(100_000))
    assert share[0] == 1
    assert share[3] == 0


def test_an_array_of_one_rate_is_that_rate():
    for bits in (8, 16, 32):
        array = jaxdrop.keep_mask(KEY, (8, 20), jnp.full((8, 1), 0.3), bits=bits)
        np.testing.assert_array_equal(array, jaxdrop.keep_mask(KEY, (8, 20), 0.3, bits=bits))


def test_spatial_masks_do_not_depend_on_where_the_channels_are():
    last = jaxdrop.spatial_mask(KEY, (4, 9, 9, 21), 0.3)
    first = jaxdrop.spatial_mask(KEY, (4, 21, 9, 9), 0.3, channel_axis=1)
    assert last.shape == (4, 1, 1, 21)
    assert first.shape == (4, 21, 1, 1)
    np.testing.assert_array_equal(last.reshape(4, 21), first.reshape(4, 21))


def test_draw_then_act_is_the_regularizer():
    x = standard_normal(1, (4, 6, 24))
    for rate in (0.0, 0.1, 0.5, 1.0):
        for bits in (None, 16, 32):
            mask = jaxdrop.keep_mask(KEY, x.shape, rate, bits=bits)
            expected = jaxdrop.dropout(KEY, x, rate, bits=bits)
            acted = jaxdrop.apply_mask(x, mask, rate, bits=bits)
            np.testing.assert_allclose(acted, expected, rtol=2e-7)
    mask = jaxdrop.spatial_mask(KEY, x.shape, 0.25)
    np.testing.assert_array_equal(jaxdrop.apply_mask(x, mask, 0.25), jaxdrop.spatial_dropout(KEY, x, 0.25))


def test_the_act_by_hand():
    x = jnp.array([1.0, jnp.inf, 3.0, jnp.nan])
    mask = jnp.array([True, False, True, False])
    np.testing.assert_array_equal(jaxdrop.apply_mask(x, mask, 0.75), [4.0, 0.0, 12.0, 0.0])
    np.testing.assert_array_equal(jaxdrop.apply_mask(x, mask, 1.0), 0)
    assert np.isnan(jax.jit(jaxdrop.apply_mask)(x, mask, 1.3)[mask]).all()
    scaled = jaxdrop.apply_mask(jnp.ones(()), jnp.array(True), 0.1)
    np.testing.assert_allclose(scaled, 65536 / 58982, rtol=1e-7)
    exact = jaxdrop.apply_mask(jnp.ones(()), jnp.array(True), 0.1, bits=32)
    np.testing.assert_allclose(exact, 1 / 0.9, rtol=1e-7)


def test_bad_input():
    x = jnp.ones((2, 3))
    with pytest.raises(TypeError, match=re.escape("`mask` must be a boolean array, got float32.")):
        jaxdrop.apply_mask(x, x, 0.5)
    with pytest.raises(ValueError, match=re.escape("`mask` must broadcast to shape (2, 3), got (3, 3).")):
        jaxdrop.apply_mask(x, jnp.ones((3, 3), bool), 0.5)
    with pytest.raises(ValueError, match=re.escape("`broadcast_dims` must lie in [-2, 1]")):
        jaxdrop.keep_mask(KEY, (2, 3), 0.5, broadcast_dims=(2,))
    with pytest.raises(ValueError, match=re.escape("`rate` must broadcast to shape (2, 3), got (4,).")):
        jaxdrop.keep_mask(KEY, (2, 3), jnp.full((4,), 0.5))
    with pytest.raises(ValueError, match=re.escape("`bits` must be one of")):
        jaxdrop.keep_mask(KEY, (2, 3), 0.5, bits=12)


def test_double_precision_keeps_the_mask_and_its_own_precision():
    expected = jaxdrop.keep_mask(KEY, (8, 20), 0.1)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jaxdrop.keep_mask(KEY, (8, 20), 0.1), expected)
        y = jaxdrop.dropout(KEY, jnp.ones((8, 20), jnp.float64), 0.1)
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y[expected], 65536 / 58982, rtol=1e-15)
