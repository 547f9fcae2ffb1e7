"""Out-of-distribution images: other data sets, rotated images, and shuffled pixels."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from experiments import data

ANGLES = (15, 30, 45, 60, 75, 90)
QUICK_ANGLES = (45, 90)
IN = "in"
NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "digits": "digits"}

# Images of other data sets, rows in [0, 1], by name.
Others = dict[str, np.ndarray]


class Images(NamedTuple):
    """Test images of one set, different for each seed.

    Attributes:
      x: Rows in [0, 1], `[seeds, B, D]`.
      y: Labels, `[seeds, B]`; -1 for images of none of the network's classes.
    """

    x: np.ndarray
    y: np.ndarray


@functools.partial(jax.jit, static_argnames="degrees")
def rotate(x: jax.Array, degrees: float) -> jax.Array:
    """Rotates square images, as rows `[B, D]`, counterclockwise about their center; corners become black."""
    side = round(x.shape[1] ** 0.5)
    angle, center = np.deg2rad(degrees), (side - 1) / 2
    i, j = np.mgrid[:side, :side] - center
    # The source of each pixel: the inverse rotation.
    places = [np.cos(angle) * i + np.sin(angle) * j + center, np.cos(angle) * j - np.sin(angle) * i + center]

    def turn(image: jax.Array) -> jax.Array:
        grid = [jnp.asarray(place, x.dtype) for place in places]
        return jax.scipy.ndimage.map_coordinates(image.reshape(side, side), grid, order=1).ravel()

    return jax.lax.map(turn, x)


def shuffled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffles the pixels of each image on its own."""
    return rng.permuted(x, axis=1)


def angle_name(degrees: float) -> str:
    """Name of the set of rotated images."""
    return f"rotated {degrees:g}°"


def load_others(name: str, data_dir: epath.Path | None) -> Others:
    """Images of other data sets; none for the digits."""
    if name == "digits":
        return {}
    other = "fashion-mnist" if name == "mnist" else "mnist"
    return {"notMNIST": data.load_letters(data_dir)[0], NAMES[other]: data.load(other, data_dir).x_test}


def make(
    examples: data.Dataset, others: Others, seed: int, seeds: int, count: int, angles: tuple
) -> dict[str, Images]:
    """Makes every set of `count` images, drawn by each seed from the test part.

    The set in distribution is first, then those out of distribution, then the rotated ones.
    """
    draws = [np.random.default_rng((seed + i, 2)) for i in range(seeds)]
    rows = [rng.permutation(len(examples.x_test))[:count] for rng in draws]
    still = Images(*(np.stack([part[r] for r in rows]) for part in (examples.x_test, examples.y_test)))
    unknown = np.full(still.y.shape, -1)
    found = {IN: still}
    for name, x in others.items():
        taken = [x[rng.permutation(len(x))[: len(r)]] for rng, r in zip(draws, rows, strict=True)]
        found[name] = Images(np.stack(taken), unknown)
    if not others:
        mixed = [shuffled(x, rng) for rng, x in zip(draws, still.x, strict=True)]
        found["shuffled pixels"] = Images(np.stack(mixed), unknown)
    for degrees in angles:
        turned = np.stack([np.asarray(rotate(jnp.asarray(x), degrees)) for x in still.x])
        found[angle_name(degrees)] = Images(turned, still.y)
    return found
