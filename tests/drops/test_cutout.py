"""Cutout: boxes, where they lie, whom they hit, and what fills them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop

KEY = jax.random.key(8)


def test_one_box_an_example_cut_off_at_the_border():
    x = jnp.ones((3000, 6, 5, 2))
    y = np.asarray(jaxdrop.cutout(KEY, x, 1.0, size=3))
    assert (y[..., 0] == y[..., 1]).all()
    holes = y[..., 0] == 0
    rows, columns = holes.any(2), holes.any(1)
    assert (holes == rows[:, :, None] & columns[:, None, :]).all()
    assert (holes.sum((1, 2)) >= 4).all()
    for sides, size in ((rows, 6), (columns, 5)):
        # The center is uniform: a place is hit by 3 of its neighbors' centers, 2 at the border.
        expected = np.array([2] + [3] * (size - 2) + [2]) / size
        share = sides.mean(0)
        assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / 3000)).all()


def test_rate_is_the_share_of_examples():
    y = jaxdrop.cutout(KEY, jnp.ones((4000, 4, 4, 1)), 0.3, size=1)
    cut = np.asarray((y == 0).any((1, 2, 3)))
    assert abs(cut.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 4000)


@pytest.mark.slow
def test_sides_fill_and_channels_first():
    x = jnp.ones((50, 3, 8, 6))
    fill = jnp.array([1.0, 2.0, 3.0])[:, None, None]
    y = np.asarray(jaxdrop.cutout(KEY, x, 1.0, size=(2, 4), fill=10 * fill, channel_axis=1))
    holes = y[:, 0] == 10
    assert set(np.unique(y[:, 2]).tolist()) == {1.0, 30.0}
    assert holes.any(2).sum(1).max() == 2
    assert holes.any(1).sum(1).max() == 4
    grad = jax.grad(lambda x: jaxdrop.cutout(KEY, x, 1.0, size=2).sum())(jnp.ones((4, 8, 8, 1)))
    np.testing.assert_array_equal(grad, jaxdrop.cutout(KEY, jnp.ones((4, 8, 8, 1)), 1.0, size=2))


@pytest.mark.parametrize(
    ("error", "size", "message"),
    [
        (ValueError, 5, "`size` must be at least 1 and at most 4 (the map's side), got 5."),
        (ValueError, 0, "`size` must be at least 1 and at most 4 (the map's side), got 0."),
        (ValueError, (1, 2, 3), "`size` must be one side or 2, one per axis, got (1, 2, 3)."),
        (TypeError, 1.5, "`size` must be an integer or integers, got 1.5."),
    ],
)
def test_bad_sizes(error, size, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.cutout(KEY, jnp.ones((2, 4, 4, 1)), 0.5, size=size)


def test_no_map_to_cut():
    with pytest.raises(ValueError, match="`x` must be of shape"):
        jaxdrop.cutout(KEY, jnp.ones((2, 4)), 0.5, size=1)
