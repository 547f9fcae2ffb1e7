"""The convolutional network against Flax's own layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.active import network

MODEL = network.ConvNet((3, 4), 5, 10, (0.25, 0.5))
X = jax.random.normal(jax.random.key(1), (2, 64))
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
    rates = {name: network.ConvNet((3, 4), 5, 10, name) for name in ((0.9, 0.0), (0.0, 0.9))}
    still = MODEL.apply(VARIABLES, X)
    for model in rates.values():
        noisy = model.apply(VARIABLES, X, deterministic=False, rngs={"dropout": jax.random.key(2)})
        assert not np.allclose(noisy, still)
        np.testing.assert_array_equal(model.apply(VARIABLES, X), still)
