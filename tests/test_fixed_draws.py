"""Masks and noise of fixed keys: the same on every device, version of JAX and commit.

The masks are equal to the bit, noise and scales to 1e-5. Run on a GPU, this compares it with a CPU.
"""

import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.family import VARIANTS

KEY = jax.random.key(7)
# The second has rows that are no whole number of blocks.
SHAPES = ((4, 6, 16), (3, 5, 7))
# What `tests/family.py` leaves out and draws.
OTHERS: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {
    "block_mask": lambda key, x, rate: jaxdrop.block_mask(key, x.shape, rate, block_size=3),
    "concrete_dropout": lambda key, x, _: jaxdrop.concrete_dropout(key, x, jnp.array(-1.0))[0],
    # The others show no mixture, as the examples of `inputs` are alike.
    "cutmix": lambda key, x, _: jaxdrop.cutmix(
        key, x * jnp.arange(len(x)).reshape(-1, 1, 1), jnp.eye(len(x)), 1.0, per_example=True
    )[0],
    "drop_key_mask": lambda key, x, rate: jaxdrop.drop_key_mask(key, x.shape, rate),
    "masksembles_masks": lambda key, x, _: jaxdrop.masksembles_masks(key, x.shape[-1], 3, 2.0),
    "mixup": lambda key, x, _: jaxdrop.mixup(key, x, jnp.eye(len(x)), 1.0, per_example=True)[1],
    "rbg": lambda _, x, rate: jaxdrop.dropout(jax.random.key(7, impl="rbg"), x, rate),
    "variational_dropout": lambda key, x, _: jaxdrop.variational_dropout(
        key, x, jnp.eye(x.shape[-1]), jnp.array(-1.0)
    )[0],
    "word_dropout": lambda key, x, rate: jaxdrop.word_dropout(
        key, jnp.ones(x.shape, int), rate, replacement=0
    ),
}
DRAWS = {member.name: member.pure for member in VARIANTS} | OTHERS
# What `summary` gives.
STORED: dict[str, tuple[str, tuple[float, ...]]] = {
    "dropout": ("165ffe97f71774c0", (1.428578, 0.0, 1.428578, 1.428578)),
    "spatial_dropout": ("2899f9de7f571765", (1.428578, 0.0, 1.428578, 1.428578)),
    "gaussian_dropout": ("41ae4d6a08e142de", (1.66217, 0.9262868, -0.1070594, 2.051033)),
    "gaussian_noise": ("1bbcd866404154af", (1.303444, 0.9662203, 0.4926817, 1.481644)),
    "alpha_dropout": ("165ffe97f71774c0", (1.315049, -1.059543, 1.315049, 1.315049)),
    "feature_alpha_dropout": ("2899f9de7f571765", (1.315049, -1.059543, 1.315049, 1.315049)),
    "drop_path": ("da96d5bf3bcdfbc3", (1.428578, 1.428578, 1.428578, 1.428578)),
    "shake_drop": ("da96d5bf3bcdfbc3", (1.0, 1.0, 1.0, 1.0)),
    "subset_depth": ("29092a7fb730345f", (1.0, 1.0, 1.0, 1.0)),
    "drop_block": ("9b7047de57ac759b", (0.0, 1.590909, 1.590909, 0.0)),
    "patch_dropout": ("b633d888cda89bd7", (1.0, 1.0, 1.0, 1.0)),
    "cutout": ("acbb48ab3d3afb50", (1.0, 1.0, 1.0, 1.0)),
    "cutmix": ("dccb5e22fbf06c65", (1.0, 1.0, 1.0, 1.0)),
    "neftune": ("fe5988a695f7eebe", (1.034899, 0.9954538, 0.9538964, 1.045213)),
    "drop_head": ("453fccebd3e36e01", (1.428578, 1.428578, 1.428578, 1.428578)),
    "dot_product_attention": ("045d3974a63be73d", (1.428578, 1.428578, 1.428578, 1.428578)),
    "drop_layer": ("5bd5145f6ae55495", (-1.0, -1.0, -1.0, -1.0)),
    "dropconnect": ("9d2cfb71436e654f", (1.428578, 1.428578, 0.0, 1.428578)),
    "mixout": ("9d2cfb71436e654f", (1.214289, 1.214289, 0.5, 1.214289)),
    "mixup": ("1e3c12096356031e", (0.6061827, 0.3938173, 0.0, 0.0)),
    "locked_dropout": ("2899f9de7f571765", (1.428578, 0.0, 1.428578, 1.428578)),
    "embedding_dropout": ("da96d5bf3bcdfbc3", (1.428578, 1.428578, 1.428578, 1.428578)),
    "zoneout": ("165ffe97f71774c0", (1.0, -1.0, 1.0, 1.0)),
    "attention_dropout": ("165ffe97f71774c0", (1.428578, 0.0, 1.428578, 1.428578)),
    "drop_key": ("165ffe97f71774c0", (1.0, -3.402823e38, 1.0, 1.0)),
    "standout": ("165ffe97f71774c0", (1.0, 0.0, 1.0, 1.0)),
    "shakeout": ("165ffe97f71774c0", (1.535722, -0.25, 1.535722, 1.535722)),
    "targeted_dropout": ("165ffe97f71774c0", (1.0, 0.0, 1.0, 1.0)),
    "drop_edge": ("f589c90f81a22f3f", (1.0, 0.0, 1.0, 1.0)),
    "drop_message": ("165ffe97f71774c0", (1.428578, 0.0, 1.428578, 1.428578)),
    "drop_node": ("ebe6e7b6768abed1", (1.428578, 1.428578, 1.428578, 1.428578)),
    "dropout of 8 bits": ("071af70cb87642cc", (1.430168, 1.430168, 1.430168, 0.0)),
    "dropout of 32 bits": ("b7e03cc9b584b6d0", (1.428571, 0.0, 1.428571, 1.428571)),
    "block_mask": ("cbd208efa410a105", (0.0, 1.0, 1.0, 0.0)),
    "concrete_dropout": ("033663cde53b1462", (0.00138945, 1.367869, 1.367879, 1.149442e-08)),
    "drop_key_mask": ("165ffe97f71774c0", (1.0, 0.0, 1.0, 1.0)),
    "masksembles_masks": ("1318959b8ea41208", (0.0, 0.0, 1.0, 1.0)),
    "rbg": ("f5a2f80e043ccb5b", (0.0, 1.428578, 1.428578, 1.428578)),
    "variational_dropout": ("75db58bf79707c6c", (1.613494, 0.9317054, -0.02568042, 1.973773)),
    "word_dropout": ("165ffe97f71774c0", (1.0, 0.0, 1.0, 1.0)),
}


def inputs(shape: tuple[int, ...]) -> np.ndarray:
    """Between 1 and 1.4, growing by the token: what is dropped lies on the other side of the mean."""
    return np.broadcast_to(1 + np.arange(shape[1], dtype=np.float32)[:, None] / 16, shape)


def summary(name: str) -> tuple[str, tuple[float, ...]]:
    """Which elements lie above the mean, as a hash, and the first elements."""
    outputs = jax.jit(lambda key, xs: [DRAWS[name](key, x, 0.3) for x in xs])
    results = [np.asarray(y, np.float64) for y in outputs(KEY, [jnp.asarray(inputs(s)) for s in SHAPES])]
    digest = hashlib.sha256()
    for y in results:
        digest.update(np.packbits(y > y.mean()).tobytes())
    return digest.hexdigest()[:16], tuple(float(f"{y:.7g}") for y in results[1].ravel()[:4])


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", DRAWS)
def test_masks_and_noise_are_those_stored(name: str):
    digest, first = summary(name)
    assert name in STORED, f'add the line\n    "{name}": ("{digest}", {first}),'
    np.testing.assert_allclose(first, STORED[name][1], rtol=1e-5, atol=1e-6)
    assert digest == STORED[name][0]
