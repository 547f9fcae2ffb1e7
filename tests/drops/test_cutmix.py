"""CutMix: boxes, where they lie, and labels by their area."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(8)


def pasted(key, sides, count, **options):
    """Where a partner was pasted, [B, *sides], and the partner's weight in the label; two examples."""
    x = jnp.arange(2.0).reshape(2, *(1,) * (len(sides) + 1)) * jnp.ones((1, *sides, 2))
    if options.get("channel_axis") == 1:
        x = jnp.moveaxis(x, -1, 1)

    def one(key):
        mixed, y = jaxdrop.cutmix(key, x, jnp.eye(2), 1.0, **options)
        return mixed != x, jnp.array([y[0, 1], y[1, 0]]), y

    inside, weight, y = jax.jit(jax.vmap(one))(jax.random.split(key, count))
    inside = np.asarray(jnp.moveaxis(inside, 2, -1) if options.get("channel_axis") == 1 else inside)
    assert (inside[..., 0] == inside[..., 1]).all()
    np.testing.assert_array_equal(y.sum(-1), np.ones((count, 2)))
    return inside[..., 0], np.asarray(weight)


def shares(size: int, scales: np.ndarray) -> np.ndarray:
    """By drawn scale, how likely each place of an axis lies within the clipped box."""
    side = np.round(scales * size).astype(int)[:, None, None]
    start = np.arange(size)[:, None] - side // 2
    place = np.arange(size)
    return ((place >= start) & (place < start + side)).mean(1)


def test_the_box_is_that_of_the_paper_and_the_label_is_its_share():
    """The share is uniform, the center uniform over the map, the box clipped; sides to the next pixel."""
    inside, weight = pasted(KEY, (6, 5), 6000)
    np.testing.assert_allclose(weight, inside.mean((2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(inside[:, 0], inside[:, 1])
    rows, columns = inside.any(3), inside.any(2)
    assert (inside == rows[..., None] & columns[:, :, None]).all()
    # Half of the batches of two are left alone: each example is its own partner.
    scales = np.sqrt((np.arange(20_000) + 0.5) / 20_000)
    expected = np.einsum("si,sj->ij", shares(6, scales), shares(5, scales)) / len(scales) / 2
    found = inside[:, 0].mean(0)
    assert (np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / 6000)).all()


@pytest.mark.parametrize(
    ("sides", "options"), [((7,), {}), ((3, 4, 2), {"per_example": True}), ((4, 3), {"channel_axis": 1})]
)
def test_other_maps(sides, options):
    """Labels are exact for sequences and volumes, and channels first; a box for each example."""
    inside, weight = pasted(KEY, sides, 200, **options)
    np.testing.assert_allclose(weight, inside.reshape(200, 2, -1).mean(-1), rtol=1e-6)
    assert (inside[:, 0] == inside[:, 1]).all() != ("per_example" in options)
    assert len(np.unique(weight)) > 3


@pytest.mark.slow
def test_the_mean_label_is_kept():
    x, y = jnp.ones((6, 4, 4, 1)), jax.nn.softmax(standard_normal(KEY, (6, 3)))
    keys = jax.random.split(KEY, 2000)
    found = jax.vmap(lambda key: jaxdrop.cutmix(key, x, y, 0.5, per_example=True)[1].mean(0))(keys)
    error = np.std(found, 0) / np.sqrt(2000)
    assert (np.abs(np.mean(found, 0) - y.mean(0)) < 5 * error + 1e-6).all()


def test_a_traced_alpha_that_is_out_of_range_makes_all_of_it_nan():
    """Also with a box for each example, whose number is not that of the channels."""
    found = jax.jit(lambda x, y, alpha: jaxdrop.cutmix(KEY, x, y, alpha, per_example=True))(
        jnp.ones((3, 4, 2)), jnp.ones((3, 5)), -1.0
    )
    assert all(np.isnan(array).all() for array in found)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((2, 4), (2, 3), "`x` must be of shape [B, ..., C] with an axis between, got (2, 4)."),
        ((2, 4, 1), (2,), "`y` must be of shape [B, K], one label per example, got (2,)."),
        ((2, 4, 1), (2, 4, 3), "`y` must be of shape [B, K], one label per example, got (2, 4, 3)."),
        ((2, 0, 1), (2, 3), "`x` must have maps of at least one pixel, got shape (2, 0, 1)."),
    ],
)
def test_shapes_that_do_not_fit(x, y, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        jaxdrop.cutmix(KEY, jnp.ones(x), jnp.ones(y), 1.0)
