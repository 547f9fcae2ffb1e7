"""Images that are turned as SciPy turns them, shuffled, and drawn by each seed for itself."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from experiments import data
from experiments.ood import sets


@pytest.mark.parametrize("degrees", [30, 90])
def test_images_are_turned_about_their_center(degrees):
    x = np.random.default_rng(0).uniform(size=(3, 49)).astype(np.float32)
    turned = np.asarray(sets.rotate(jnp.asarray(x), degrees)).reshape(3, 7, 7)
    images = x.reshape(3, 7, 7)
    expected = scipy.ndimage.rotate(images, degrees, axes=(2, 1), reshape=False, order=1)
    if degrees == 90:
        np.testing.assert_allclose(turned, np.rot90(images, axes=(1, 2)), atol=1e-5)
    else:
        # SciPy gives the border no part of what is outside.
        np.testing.assert_allclose(turned[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=1e-5)
        assert not turned[:, 0, 0].any()


def test_shuffled_images_keep_their_pixels():
    x = np.random.default_rng(0).uniform(size=(5, 40))
    mixed = sets.shuffled(x, np.random.default_rng(1))
    assert not np.array_equal(mixed, x)
    np.testing.assert_array_equal(np.sort(mixed), np.sort(x))
    assert len({tuple(np.argsort(row[np.argsort(old)])) for row, old in zip(mixed, x, strict=True)}) == 5


def test_every_set_is_drawn_from_the_test_part():
    x = np.random.default_rng(0).uniform(size=(30, 16)).astype(np.float32)
    examples = data.Dataset("mnist", x + 5, np.zeros(30, np.int32), x, np.arange(30, dtype=np.int32))
    others = {"notMNIST": x[:20] + 10}
    found = sets.make(examples, others, 0, 2, 8, (90,))
    assert list(found) == [sets.IN, "notMNIST", "rotated 90°"]
    assert all(images.x.shape == (2, 8, 16) for images in found.values())
    still = found[sets.IN]
    np.testing.assert_array_equal(still.x, x[still.y])
    assert not np.array_equal(still.y[0], still.y[1])
    np.testing.assert_array_equal(found["rotated 90°"].y, still.y)
    assert (found["notMNIST"].y == -1).all()
    assert found["notMNIST"].x.min() >= 10
    assert list(sets.make(examples, {}, 0, 1, 8, ())) == [sets.IN, "shuffled pixels"]
