"""Spatial dropout: a feature map goes whole."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(2)


@pytest.mark.parametrize(("shape", "axis"), [((8, 7, 16), -1), ((8, 16, 7), 1), ((8, 5, 6, 16), 3)])
def test_maps_go_whole_and_each_on_its_own(shape, axis):
    y = np.moveaxis(
        np.asarray(jaxdrop.spatial_dropout(KEY, jnp.ones(shape), 0.5, channel_axis=axis)), axis, -1
    )
    flat = y.reshape(8, -1, 16)
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[:, :1], flat.shape))
    assert set(np.unique(flat)) == {0.0, 2.0}
    assert len({row.tobytes() for row in flat[:, 0]}) == 8


def test_two_axes_are_plain_dropout():
    x = standard_normal(KEY, (8, 16))
    np.testing.assert_array_equal(jaxdrop.spatial_dropout(KEY, x, 0.3), jaxdrop.dropout(KEY, x, 0.3))


@pytest.mark.parametrize(
    ("shape", "axis", "message"),
    [
        ((8,), -1, "`x` must have a batch axis and a channel axis, got shape (8,)."),
        ((8, 4, 2), 0, "`channel_axis` must not be the batch axis 0, got 0."),
        ((8, 4, 2), 3, "`channel_axis` must lie in [-3, 2] for an array of rank 3, got 3."),
    ],
)
def test_bad_axes(shape, axis, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        jaxdrop.spatial_dropout(KEY, jnp.ones(shape), 0.5, channel_axis=axis)
