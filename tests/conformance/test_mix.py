"""The formulas of timm, torchvision and Keras for mixup and CutMix, and where theirs differ.

Sources: timm `data/mixup.py`, torchvision `transforms/v2/_augment.py`, Keras
`layers/preprocessing/image_preprocessing/mix_up.py` and `cut_mix.py`. They choose partners by a flip
of the batch (timm), a roll by one (torchvision) and a permutation (Keras, the papers, and here).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(6)
LABELS = np.arange(8) % 3
DRAWN = (np.arange(4000) + 0.5) / 4000  # weights of an example at alpha 1, whose law is uniform


def test_mixup_is_the_formula_of_all_three():
    """With our partners instead of theirs; timm smooths the labels, as optax does."""
    x = np.asarray(standard_normal(KEY, (8, 4, 4, 3)), np.float64)
    one_hot = jax.nn.one_hot(LABELS, 3)
    mixed, pairs = jaxdrop.mixup(KEY, x, jnp.eye(8), 0.8)
    _, y = jaxdrop.mixup(KEY, x, optax.smooth_labels(one_hot, 0.1), 0.8)
    partner = np.asarray(pairs - np.diag(np.diag(pairs))).argmax(1)
    lam = float(pairs.max(1).min())
    np.testing.assert_allclose(mixed, x * lam + x[partner] * (1 - lam), rtol=1e-5, atol=1e-6)
    off, on = 0.1 / 3, 1 - 0.1 + 0.1 / 3
    first = np.where(np.arange(3) == LABELS[:, None], on, off)
    np.testing.assert_allclose(y, first * lam + first[partner] * (1 - lam), rtol=1e-6)


def clipped_share(sides: np.ndarray, size: int) -> float:
    """The mean share of a square map within a box of these sides with a uniform center."""
    center, side = np.arange(size), sides[:, None]
    length = np.minimum(center + (side + 1) // 2, size) - np.maximum(center - side // 2, 0)
    return float(((length.mean(1) / size) ** 2).mean())


def test_the_sides_of_a_box():
    """Here they are rounded to the nearest; in timm and torchvision to an even number below.

    Of maps of 8 they paste .233 in the mean, not the .321 of real sides; here .324. Even sides of the
    three are the same box. Labels tell the realized share in each, and in the paper's code.
    """
    ratio = np.sqrt(1 - DRAWN)
    for size, ours, theirs in ((8, 0.324, 0.233), (32, 0.321, 0.299), (224, 0.321, 0.318)):
        timm = 2 * ((size * ratio).astype(int) // 2)
        np.testing.assert_array_equal(timm, 2 * (0.5 * ratio * size).astype(int))  # torchvision
        assert abs(clipped_share(np.round(ratio * size).astype(int), size) - ours) < 1e-3
        assert abs(clipped_share(timm, size) - theirs) < 1e-3
    x = jnp.arange(2.0).reshape(2, 1, 1, 1) * jnp.ones((1, 8, 8, 1))
    keys = jax.random.split(KEY, 4000)
    mixed, y = jax.vmap(lambda key: jaxdrop.cutmix(key, x, jnp.eye(2), 1.0))(keys)
    share = np.asarray(mixed[:, 0].mean((1, 2, 3)))
    np.testing.assert_allclose(share, y[:, 0, 1], atol=1e-6)
    # In half of the batches of two, the partner of an example is the example.
    assert abs(share.mean() - 0.324 / 2) < 5 * share.std() / np.sqrt(4000) + 1e-3


def test_the_labels_of_keras_are_not_the_shares_of_pixels():
    """Keras CutMix takes the area of a box with real sides: of maps of 8, off by .05 in the mean.

    Its boxes lie wholly within the map, and its parameter is drawn too, uniform up to `factor`.
    """
    generator = np.random.default_rng(0)
    side = 8 * np.sqrt(1 - DRAWN)[:, None]
    start = generator.random((4000, 2)) * (8 - side)
    place = np.arange(8)[:, None, None]
    pixels = ((place >= start) & (place < start + side)).sum(0).prod(1)
    error = np.abs(pixels - side[:, 0] ** 2) / 64
    assert abs(error.mean() - 0.055) < 0.003
    assert 0.2 < error.max() < 0.25
