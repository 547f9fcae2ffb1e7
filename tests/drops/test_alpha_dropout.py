"""Alpha dropout: the published constants, and the moments through a SELU network."""

import jax
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(2)
SATURATION = -1.7580993408473766


@pytest.mark.parametrize(
    ("rate", "a", "b"),
    [
        (0.1, 0.9212845161, 0.1619709701),
        (0.2, 0.8789035834, 0.3090399621),
        (0.5, 0.8864048947, 0.7791939305),
    ],
)
def test_the_two_values_of_each_element(rate, a, b):
    """Against a and b of the nominal rate: 16 bits realize it to 7.6e-6, 32 exactly."""
    x = standard_normal(KEY, (64, 32))
    mask = jaxdrop.keep_mask(KEY, x.shape, rate, bits=32)
    y = jaxdrop.alpha_dropout(KEY, x, rate, bits=32)
    expected = a * np.where(mask, np.asarray(x, np.float64), SATURATION) + b
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.slow
def test_moments_survive_a_deep_selu_network():
    """Eight random layers of 512: the mean stays near 0 and the variance near 1."""
    x = standard_normal(KEY, (2048, 512))
    for layer in range(8):
        w_key, drop_key = jax.random.split(jax.random.fold_in(KEY, layer))
        w = jax.random.normal(w_key, (512, 512)) / np.sqrt(512)
        x = jaxdrop.alpha_dropout(drop_key, jax.nn.selu(x @ w), 0.1)
    assert abs(float(x.mean())) < 0.1
    assert abs(float(x.var()) - 1) < 0.15
