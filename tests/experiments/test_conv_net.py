"""The convolutional network against Flax's own layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import conv_net
from tests.normals import standard_normal

MODEL = conv_net.ConvNet((3, 4), 5, 10, (0.25, 0.5))
X = standard_normal(1, (2, 64))
VARIABLES = MODEL.init(jax.random.key(0), X)


def test_it_is_convolutions_and_max_pooling():
    params = VARIABLES["params"]
    x = X.reshape(2, 8, 8, 1)
    for i in range(2):
        dense = params[f"Dense_{i}"]
        kernel = dense["kernel"].reshape(3, 3, x.shape[-1], -1)
        layer = nn.Conv(kernel.shape[-1], (3, 3), precision="highest")
        x = layer.apply({"params": {"kernel": kernel, "bias": dense["bias"]}}, x)
        x = nn.max_pool(nn.relu(jnp.asarray(x)), (2, 2), (2, 2))
    x = x.reshape(2, -1)
    for i, after in ((2, nn.relu), (3, lambda x: x)):
        x = after(x @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"])
    np.testing.assert_allclose(MODEL.apply(VARIABLES, X), x, rtol=1e-4, atol=1e-5)


def test_it_draws_twice():
    rates = {name: conv_net.ConvNet((3, 4), 5, 10, name) for name in ((0.9, 0.0), (0.0, 0.9))}
    still = MODEL.apply(VARIABLES, X)
    for model in rates.values():
        noisy = model.apply(VARIABLES, X, deterministic=False, rngs={"dropout": jax.random.key(2)})
        assert not np.allclose(noisy, still)
        np.testing.assert_array_equal(model.apply(VARIABLES, X), still)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [7, 8])
def test_the_convolution_is_one(stride, side):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, side, side, 3))
    kernel, bias = jax.random.normal(keys[1], (3, 3, 3, 4)), jax.random.normal(keys[2], (4,))
    expected = bias + jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = conv_net.patches(x, stride) @ kernel.reshape(27, 4) + bias
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
