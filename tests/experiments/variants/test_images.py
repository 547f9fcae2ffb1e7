"""Block sizes and the places of the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.variants import images
from tests.normals import standard_normal


@pytest.mark.parametrize(("side", "size"), [(14, 5), (7, 3), (8, 3), (4, 1), (1, 1)])
def test_a_block_is_odd_and_about_a_third(side, size):
    assert images.block_size(side) == size


@pytest.mark.parametrize("name", images.METHODS)
def test_noise_is_of_rate_zero_nothing_and_else_follows_the_key(name):
    noise, strides = images.METHODS[name], (1, 2)
    params = images.init(np.random.default_rng(0), 8, (4, 6), strides)
    assert params["out"]["kernel"].shape == (4 * 4 * 6, 10)
    x = standard_normal(0, (3, 8, 8, 1))
    still = images.apply(params, x, strides)
    np.testing.assert_array_equal(images.apply(params, x, strides, noise, jax.random.key(1), 0.0), still)
    first, second = (images.apply(params, x, strides, noise, jax.random.key(i), 0.5) for i in (1, 2))
    assert bool(jnp.allclose(first, second)) == (noise is None)
