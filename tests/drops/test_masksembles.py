"""Masksembles: what every set of masks has, how they overlap, and who meets which."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdrop.drops.masksembles import masksembles, masksembles_masks
from tests.devices import make_mesh
from tests.normals import standard_normal

KEY = jax.random.key(2)


@pytest.mark.parametrize(
    ("features", "num_masks", "scale", "kept"),
    [
        (64, 4, 1.0, 64),  # 64 / 1
        (64, 4, 2.0, 35),  # 64 / 1.875 = 34.13
        (60, 3, 2.0, 35),  # 60 / 1.75 = 34.29
        (64, 4, 1e9, 16),
        (65, 4, 1e9, 17),
        (10, 3, 3.0, 5),  # 10 * 9 / 19 = 4.74
        (7, 1, 5.0, 7),
        (2, 5, 4.0, 1),
        (1, 1, 2.0, 1),
        (1, 3, 1.0, 1),
    ],
)
def test_size_and_cover(features, num_masks, scale, kept):
    """Each keeps ceil(features / (s * (1 - (1 - 1 / s)**n))), and each feature is in one at least."""
    draw = jax.vmap(lambda key: masksembles_masks(key, features, num_masks, scale))
    masks = np.asarray(draw(jax.random.split(KEY, 50)))
    assert masks.shape == (50, num_masks, features)
    assert masks.dtype == bool
    assert (masks.sum(-1) == kept).all()
    assert masks.any(1).all()


def test_keys_jit_and_vmap():
    keys = jax.random.split(KEY, 8)
    looped = np.stack([masksembles_masks(key, 32, 4, 2.0) for key in keys])
    mapped = jax.jit(jax.vmap(lambda key: masksembles_masks(key, 32, 4, 2.0)))(keys)
    np.testing.assert_array_equal(mapped, looped)
    assert len({masks.tobytes() for masks in looped}) == 8
    with jax.debug_key_reuse(True):
        key = jax.random.key(9)
        masksembles_masks(key, 32, 4, 2.0)
        with pytest.raises(jax.errors.KeyReuseError):
            masksembles_masks(key, 32, 4, 2.0)


@pytest.mark.parametrize(("features", "num_masks", "scale"), [(30, 4, 2.0), (16, 2, 3.0)])
def test_every_feature_and_mask_is_treated_alike(features, num_masks, scale):
    """Each entry is kept with probability m / features, within 5 standard errors."""
    n = 4000
    draw = jax.vmap(lambda key: masksembles_masks(key, features, num_masks, scale))
    masks = np.asarray(draw(jax.random.split(KEY, n)))
    q = masks.sum(-1).mean() / features
    mean = masks.mean(0)
    assert (np.abs(mean.mean(0) - q) < 5 * np.sqrt(q * (1 - q) / n)).all()
    assert (np.abs(mean - mean.mean(1, keepdims=True)) < 5 * np.sqrt(q * (1 - q) / n)).all()


@pytest.mark.slow
def test_overlap_falls_with_the_scale():
    """A feature has an owner among n, and is in another mask with q = (m - F/n) / (F - F/n)."""
    features, n = 64, 4
    for scale, m in ((1.5, 44), (2.0, 35), (4.0, 24), (1e9, 16)):
        keys = jax.random.split(KEY, 200)
        masks = np.asarray(jax.vmap(lambda key, s=scale: masksembles_masks(key, features, n, s))(keys))
        assert masks[0, 0].sum() == m
        both = (masks[:, 0] & masks[:, 1]).sum(-1)
        q = (m - features / n) / (features - features / n)
        expected = features * (2 * q / n + (n - 2) * q**2 / n)
        assert abs(both.mean() - expected) <= 5 * both.std() / np.sqrt(200)


def test_each_part_of_the_batch_meets_its_mask():
    x = jnp.arange(1.0, 25.0).reshape(6, 4)
    masks = jnp.array([[True, False, True, False], [False, True, True, False], [True, True, False, True]])
    y = masksembles(x, masks)
    np.testing.assert_array_equal(y, np.asarray(x) * np.repeat(np.asarray(masks), 2, axis=0))
    np.testing.assert_array_equal(jax.jit(masksembles)(x, masks), y)


@pytest.mark.parametrize("channel_axis", [1, -1, 2])
def test_channel_axis(channel_axis):
    x = standard_normal(KEY, (4, 6, 6, 6))
    masks = masksembles_masks(KEY, 6, 2, 2.0)
    y = masksembles(x, masks, channel_axis=channel_axis)
    moved = masksembles(jnp.moveaxis(x, channel_axis, -1), masks)
    np.testing.assert_array_equal(y, jnp.moveaxis(moved, -1, channel_axis))


def test_a_tiled_batch_is_an_ensemble():
    """The prediction of model i for an example is the same, whatever else is in the batch."""
    x, masks = standard_normal(KEY, (3, 8)), masksembles_masks(KEY, 8, 4, 2.0)
    y = masksembles(jnp.tile(x, (4, 1)), masks).reshape(4, 3, 8)
    np.testing.assert_array_equal(y, np.where(np.asarray(masks)[:, None], x, 0))


def test_what_is_dropped_is_gone_and_has_no_gradient():
    masks = jnp.array([[True, False], [False, True]])
    x = jnp.where(masks, 2.0, jnp.nan)
    np.testing.assert_array_equal(masksembles(x, masks), jnp.where(masks, 2.0, 0.0))
    grad = jax.grad(lambda x: masksembles(x, masks).sum())(x)
    np.testing.assert_array_equal(grad, masks.astype(jnp.float32))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtype(dtype):
    y = masksembles(jnp.ones((4, 6), dtype), masksembles_masks(KEY, 6, 2, 2.0))
    assert (y.shape, y.dtype) == ((4, 6), dtype)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_a_sharded_batch(axis_type):
    x, masks = standard_normal(KEY, (16, 6)), masksembles_masks(KEY, 6, 4, 2.0)
    expected = masksembles(x, masks)
    mesh = make_mesh((8,), ("a",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("a")))
        y = jax.jit(masksembles)(sharded, masks)
        np.testing.assert_array_equal(y, expected)
        assert y.sharding.is_equivalent_to(sharded.sharding, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 4, 2.0), ValueError, "`features` must be at least 1, got 0."),
        ((8, 0, 2.0), ValueError, "`num_masks` must be at least 1, got 0."),
        ((8, 4, 0.5), ValueError, "`scale` must be finite and at least 1, got 0.5."),
        ((8, 4, float("inf")), ValueError, "`scale` must be finite and at least 1, got inf."),
        ((8, 4, float("nan")), ValueError, "`scale` must be finite and at least 1, got nan."),
        ((8.0, 4, 2.0), TypeError, "`features` must be an integer, got 8.0."),
        ((8, 4.0, 2.0), TypeError, "`num_masks` must be an integer, got 4.0."),
        ((8, 4, jnp.ones(2)), TypeError, "`scale` must be a number known when tracing, got [1. 1.]."),
    ],
)
def test_bad_sizes(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        masksembles_masks(KEY, *arguments)


@pytest.mark.parametrize(
    ("x", "masks", "error", "message"),
    [
        (
            jnp.ones((6, 4)),
            jnp.ones((4, 4), bool),
            ValueError,
            "`x` must hold a multiple of 4 examples, one part per mask, got 6.",
        ),
        (
            jnp.ones((4, 5)),
            jnp.ones((4, 4), bool),
            ValueError,
            "`masks` must be of shape [n, 5], got (4, 4).",
        ),
        (jnp.ones((4, 4)), jnp.ones(4, bool), ValueError, "`masks` must be of shape [n, 4], got (4,)."),
        (
            jnp.ones((4, 4)),
            jnp.ones((0, 4), bool),
            ValueError,
            "`masks` must be of shape [n, 4], got (0, 4).",
        ),
        (jnp.ones((4, 4)), jnp.ones((4, 4)), TypeError, "`masks` must be a boolean array, got float32."),
        (
            jnp.ones((4, 4), int),
            jnp.ones((4, 4), bool),
            TypeError,
            "`x` must be a floating-point array, got int32.",
        ),
    ],
)
def test_bad_arrays(x, masks, error, message):
    with pytest.raises(error, match=re.escape(message)):
        masksembles(x, masks)


def test_no_ranks_are_promoted():
    with jax.numpy_rank_promotion("raise"):
        masks = masksembles_masks(jax.random.key(0), 16, num_masks=4, scale=2.0)
    np.testing.assert_array_equal(masks, masksembles_masks(jax.random.key(0), 16, num_masks=4, scale=2.0))
