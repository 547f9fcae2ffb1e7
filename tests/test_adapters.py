"""Adapters: each is `dropout` with the shared axes that it stands for."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import adapters
from jaxdrop.drops.dropout import dropout
from tests.normals import standard_normal

KEY = jax.random.key(2)


@pytest.mark.parametrize(
    ("noise_shape", "dims"),
    [
        (None, ()),
        ((None, None, None), ()),
        ((4, 5, 6), ()),
        ((None, 1, None), (1,)),
        ([4, 1, 6], (1,)),
        ((1, 1, 1), (0, 1, 2)),
        ((np.int64(4), None, 1), (2,)),
    ],
)
def test_noise_shape(noise_shape, dims):
    x = standard_normal(KEY, (4, 5, 6))
    y = adapters.keras_dropout(KEY, x, 0.5, noise_shape=noise_shape)
    np.testing.assert_array_equal(y, dropout(KEY, x, 0.5, broadcast_dims=dims))
    kept = np.asarray(y != 0)
    for axis in dims:
        np.testing.assert_array_equal(kept, np.broadcast_to(np.take(kept, [0], axis), kept.shape))


def test_an_axis_of_size_one():
    y = adapters.keras_dropout(KEY, jnp.ones((4, 1)), 0.5, noise_shape=(4, 1))
    np.testing.assert_array_equal(y, dropout(KEY, jnp.ones((4, 1)), 0.5))


@pytest.mark.parametrize(
    ("noise_shape", "error", "message"),
    [
        ((4, 2, 6), ValueError, "the size, 1 or None for each axis of `x`, (4, 5, 6), got (4, 2, 6)."),
        ((4, 5), ValueError, "the size, 1 or None for each axis of `x`, (4, 5, 6), got (4, 5)."),
        ((1, 4, 5, 6), ValueError, "the size, 1 or None for each axis of `x`, (4, 5, 6), got (1, 4, 5, 6)."),
        ((4, 0, 6), ValueError, "the size, 1 or None for each axis of `x`, (4, 5, 6), got (4, 0, 6)."),
        ((4, -1, 6), ValueError, "the size, 1 or None for each axis of `x`, (4, 5, 6), got (4, -1, 6)."),
        ((4, 1.0, 6), TypeError, "`noise_shape` must be a sequence of integers or None, got (4, 1.0, 6)."),
        ("456", TypeError, "`noise_shape` must be a sequence of integers or None, got '456'."),
        (4, TypeError, "`noise_shape` must be a sequence of integers or None, got 4."),
    ],
)
def test_a_bad_noise_shape(noise_shape, error, message):
    with pytest.raises(error, match=re.escape(message)):
        adapters.keras_dropout(KEY, jnp.ones((4, 5, 6)), 0.5, noise_shape=noise_shape)


CHANNEL_FIRST = [
    (adapters.dropout1d, (8, 5)),
    (adapters.dropout1d, (4, 8, 5)),
    (adapters.dropout2d, (8, 5, 6)),
    (adapters.dropout2d, (4, 8, 5, 6)),
    (adapters.dropout3d, (8, 5, 6, 2)),
    (adapters.dropout3d, (4, 8, 5, 6, 2)),
]


@pytest.mark.parametrize(("drop", "shape"), CHANNEL_FIRST)
def test_whole_channels(drop, shape):
    spatial = 1 + CHANNEL_FIRST.index((drop, shape)) // 2
    x = jax.random.normal(KEY, shape)
    y = drop(KEY, x, 0.5)
    np.testing.assert_array_equal(y, dropout(KEY, x, 0.5, broadcast_dims=range(-spatial, 0)))
    channels = np.asarray(y != 0).reshape(*shape[: len(shape) - spatial], -1)
    assert (channels.all(-1) | ~channels.any(-1)).all()
    assert channels.any()
    assert not channels.all()


def test_three_axes_are_one_image():
    """Where torch's Dropout2d reads [N, C, L], with a decision for each of the first two axes."""
    y = adapters.dropout2d(KEY, jnp.ones((16, 4, 5)), 0.5)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1, :1], y.shape))
    np.testing.assert_array_equal(
        adapters.dropout1d(KEY, jnp.ones((16, 4, 5)), 0.5),
        dropout(KEY, jnp.ones((16, 4, 5)), 0.5, broadcast_dims=(2,)),
    )


@pytest.mark.parametrize(
    ("drop", "rank", "accepted"),
    [
        (adapters.dropout1d, 1, "[N, C, L] or [C, L]"),
        (adapters.dropout1d, 4, "[N, C, L] or [C, L]"),
        (adapters.dropout2d, 2, "[N, C, H, W] or [C, H, W]"),
        (adapters.dropout2d, 5, "[N, C, H, W] or [C, H, W]"),
        (adapters.dropout3d, 3, "[N, C, D, H, W] or [C, D, H, W]"),
        (adapters.dropout3d, 6, "[N, C, D, H, W] or [C, D, H, W]"),
    ],
)
def test_other_ranks(drop, rank, accepted):
    shape = (2,) * rank
    with pytest.raises(ValueError, match=re.escape(f"`x` must be of shape {accepted}, got {shape}.")):
        drop(KEY, jnp.ones(shape), 0.5)


@pytest.mark.parametrize(
    ("drop", "shape"),
    [(adapters.keras_dropout, (4, 3)), *CHANNEL_FIRST[::2]],
    ids=["keras", "1d", "2d", "3d"],
)
def test_what_dropout_promises(drop, shape):
    x = jnp.ones(shape, jnp.bfloat16)
    assert drop(KEY, x, 0.0) is x
    np.testing.assert_array_equal(drop(KEY, x, 1.0), 0)
    assert jax.jit(drop)(KEY, x, 0.5).dtype == x.dtype
    assert set(np.unique(drop(KEY, x, 0.5, bits=8).astype(jnp.float32))) <= {0.0, 2.0}
    with pytest.raises(ValueError, match=re.escape("`rate` must lie in [0, 1], got 1.5.")):
        drop(KEY, x, 1.5)
    with pytest.raises(TypeError, match=re.escape("`x` must be a floating-point array, got int32.")):
        drop(KEY, jnp.ones(shape, jnp.int32), 0.5)
