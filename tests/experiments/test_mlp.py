"""The dense network: its own draws fit Flax's structure, and dropout follows every hidden layer."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import mlp

MODEL = mlp.MLP((400, 300), 5, rate=0.5)


def test_the_weights_have_the_structure_and_sizes_of_flax():
    params = mlp.init(np.random.default_rng(0), MODEL, 200)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 200)))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    layers = params["params"]
    for i, variance in enumerate((2 / 200, 2 / 400, 1 / 300)):
        values = layers[f"Dense_{i}"]["kernel"]
        # The variance of a normal's sample variance is 2 / n.
        assert abs(values.var() / variance - 1) < 5 * (2 / values.size) ** 0.5
        assert not layers[f"Dense_{i}"]["bias"].any()


def test_gain_and_biases_are_those_asked_for():
    layers = mlp.init(np.random.default_rng(0), MODEL, 200, gain=1.0, bias=0.5)["params"]
    assert abs(layers["Dense_0"]["kernel"].var() * 200 - 1) < 5 * (2 / 80_000) ** 0.5
    assert abs(layers["Dense_0"]["bias"].std() - 0.5) < 5 * 0.5 / 800**0.5
    assert not layers["Dense_2"]["bias"].any()


def test_dropout_is_after_each_hidden_layer():
    model = mlp.MLP((50, 40), 5, jnp.tanh, rate=0.5)
    params = mlp.init(np.random.default_rng(0), model, 20)
    x = jnp.ones((3, 20))
    _, state = model.apply(
        params,
        x,
        deterministic=False,
        rngs={"dropout": jax.random.key(0)},
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    for i in range(2):
        (units,) = state["intermediates"][f"Dropout_{i}"]["__call__"]
        assert 0.2 < (np.asarray(units) == 0).mean() < 0.8
    still = np.asarray(x)
    for i in range(3):
        layer = params["params"][f"Dense_{i}"]
        still = still @ layer["kernel"] + layer["bias"]
        still = np.tanh(still) if i < 2 else still
    np.testing.assert_allclose(model.apply(params, x), still, rtol=1e-5, atol=1e-5)
