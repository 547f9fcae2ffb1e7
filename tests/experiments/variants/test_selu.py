"""Where the networks start, and what noise they have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from experiments.variants import selu
from tests.normals import standard_normal


@pytest.mark.parametrize(("start", "variance"), [("lecun", 1.0), ("he", 2.0), ("torch", 1 / 3)])
def test_the_variance_of_the_weights(start, variance):
    layers = selu.init(np.random.default_rng(0), (400, 300, 10), start)
    scaled = layers[0]["kernel"].ravel() * 20
    # The variance of a sample variance is at most 2 v**2 / n, of a normal's.
    assert abs(scaled.var() - variance) < 5 * variance * (2 / scaled.size) ** 0.5
    assert abs(scaled.mean()) < 5 * (variance / scaled.size) ** 0.5
    assert [layer["kernel"].shape for layer in layers] == [(400, 300), (300, 10)]
    bias = layers[0]["bias"]
    if start == "torch":
        assert np.abs(scaled).max() <= 1
        assert 0.9 < 20 * np.abs(bias).max() <= 1
    else:
        assert not bias.any()


@pytest.mark.parametrize(
    ("activation", "function", "drop"),
    [("selu", jax.nn.selu, jaxdrop.alpha_dropout), ("relu", jax.nn.relu, jaxdrop.dropout)],
)
def test_each_activation_has_its_dropout(activation, function, drop):
    layers = selu.init(np.random.default_rng(1), (6, 5, 4, 3), "torch")
    x = standard_normal(0, (2, 6))
    key, rate = jax.random.key(1), 0.3
    h, still = x, x
    for i, layer in enumerate(layers[:2]):
        h = drop(jax.random.fold_in(key, i), function(h @ layer["kernel"] + layer["bias"]), rate)
        still = function(still @ layer["kernel"] + layer["bias"])
    out = layers[2]
    np.testing.assert_allclose(
        selu.apply(layers, x, activation, key, rate), h @ out["kernel"] + out["bias"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        selu.apply(layers, x, activation), still @ out["kernel"] + out["bias"], rtol=1e-5, atol=1e-6
    )
    assert not jnp.allclose(h, still)


def test_the_full_sizes_are_those_of_the_notebook():
    config = selu.Config("mnist", 0, 5)
    assert (config.widths, config.train_size, selu.BATCH, selu.RATE) == ((512, 256), 50_000, 128, 0.05)
    assert config.sgd_steps == 20 * (config.train_size // selu.BATCH)
    assert pytest.approx({"SELU + alpha dropout, SGD": 7.96, "ReLU + dropout, SGD": 9.24}) == selu.PUBLISHED
