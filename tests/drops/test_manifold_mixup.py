"""Manifold mixup: the layer, what is mixed there, and modules as layers."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
from tests.normals import standard_normal

KEY = jax.random.key(4)
X = standard_normal(1, (6, 3))
Y = jnp.eye(6)
LAYERS = (jnp.sin, jnp.square, jnp.tanh)


def test_one_layer_of_several_has_mixed_inputs():
    """Each equally often; partners and weights are those of `mixup` with the same key."""
    keys = jax.random.split(KEY, 1500)

    def one(key):
        found, y = jaxdrop.manifold_mixup(key, LAYERS, X, Y, 2.0)
        candidates = []
        for chosen in range(3):
            h = X
            for i, layer in enumerate(LAYERS):
                h = layer(jaxdrop.mixup(key, h, Y, 2.0)[0] if i == chosen else h)
            candidates.append(h)
        return found, y, jnp.stack(candidates), jaxdrop.mixup(key, X, Y, 2.0)[1]

    found, y, candidates, expected = jax.jit(jax.vmap(one))(keys)
    np.testing.assert_array_equal(y, expected)
    distance = np.abs(np.asarray(candidates) - np.asarray(found)[:, None]).max((2, 3))
    assert distance.min(1).max() < 1e-5
    mixed = np.asarray(y)[:, np.arange(6), np.arange(6)].min(1) < 0.999
    share = np.bincount(distance[mixed].argmin(1), minlength=3) / mixed.sum()
    assert (np.abs(share - 1 / 3) < 5 * np.sqrt(2 / 9 / mixed.sum())).all()


def test_alpha_zero_calls_the_layers_alone():
    calls = []

    def layer(h):
        calls.append(h.shape)
        return h + 1

    h, y = jaxdrop.manifold_mixup(KEY, [layer, layer], X, Y, 0.0)
    np.testing.assert_array_equal(h, X + 1 + 1)
    assert y is Y
    jaxdrop.manifold_mixup(KEY, [layer, layer], X, Y, 1.0)
    assert len(calls) == 4


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, y, key=None):
        layers = [
            nn.Dense(4),
            nn.BatchNorm(use_running_average=key is None),
            jaxdrop.linen.Dropout(0.5, deterministic=key is None),
            nn.Dense(2),
        ]
        return jaxdrop.manifold_mixup(key, layers, x, y, 0.0 if key is None else 2.0)


@pytest.mark.slow
def test_layers_are_modules():
    """With variables, states and noise; of Linen within a module, and of NNX; gradients are finite."""
    net = Net()
    variables = net.init(KEY, X, Y)

    def loss(params):
        (h, y), state = net.apply(
            variables | {"params": params}, X, Y, KEY, rngs={"dropout": KEY}, mutable=["batch_stats"]
        )
        return jnp.sum(h * y[:, :2]), state

    grads, state = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert all(jnp.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(grads)[-2:])
    assert not jnp.array_equal(state["batch_stats"]["BatchNorm_0"]["mean"], jnp.zeros(4))
    layers = nnx.List([nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(4, 2, rngs=nnx.Rngs(1))])
    h, _ = jaxdrop.manifold_mixup(KEY, layers, X, Y, 2.0)
    assert h.shape == (6, 2)


@pytest.mark.parametrize(
    ("error", "layers", "message"),
    [
        (TypeError, jnp.sin, "`layers` must be a sequence of functions, got "),
        (TypeError, [jnp.sin, 3], "`layers` must be a sequence of functions, got one of int."),
        (ValueError, [], "`layers` must hold at least one function, got none."),
        (
            ValueError,
            [jnp.transpose, jnp.sin],
            "`layers[0](...)` must have as many examples as `x`, got shape (3, 6) and `x` of shape (6, 3).",
        ),
        (
            TypeError,
            [jnp.argmax, jnp.sin],
            "`layers[0](...)` must be a floating-point array, got int32.",
        ),
    ],
)
def test_layers_that_do_not_fit(error, layers, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.manifold_mixup(KEY, layers, X, Y, 1.0)
