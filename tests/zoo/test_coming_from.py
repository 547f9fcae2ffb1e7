"""The page for those who come from other libraries: what it says of their dropout, tried on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop

RATE = 0.25
X = jnp.ones((64, 6, 6, 8))


def scaled(y) -> bool:
    """Whether all elements are zero, or ones divided by the probability of keeping, at about the rate."""
    y = np.asarray(y)
    kept = np.abs(y - 1 / (1 - RATE)) < 1e-3
    return bool((kept | (y == 0)).all() and abs(1 - kept.mean() - RATE) < 0.15)


def whole(y, axes: tuple[int, ...]) -> bool:
    """Whether one decision is shared along the axes."""
    y = np.asarray(y)
    return bool((y == y.max(axes, keepdims=True)).all())


def test_ours():
    assert scaled(jaxdrop.dropout(jax.random.key(0), X, RATE))
    assert whole(jaxdrop.dropout(jax.random.key(1), X, RATE, broadcast_dims=(1, 2)), (1, 2))


def test_haiku_takes_the_rate_before_the_array():
    hk = pytest.importorskip("haiku")
    assert scaled(hk.dropout(jax.random.key(0), RATE, X))


def test_equinox_takes_one_example_and_its_key():
    eqx = pytest.importorskip("equinox")
    layer = eqx.nn.Dropout(RATE)
    keys = jax.random.split(jax.random.key(0), len(X))
    y = jax.vmap(lambda row, key: layer(row, key=key))(X, keys)
    assert scaled(y)
    assert not whole(y, (0,))
    assert (eqx.nn.inference_mode(layer)(X) == X).all()
    z = jax.vmap(lambda row, key: jaxdrop.dropout(key, row, RATE))(X, keys)
    assert scaled(z)
    assert not whole(z, (0,))


def test_keras_shares_a_decision_along_ones(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    y = keras.layers.Dropout(RATE, noise_shape=(None, 1, 1, None))(X, training=True)
    assert scaled(y)
    assert whole(y, (1, 2))
    z = jaxdrop.adapters.keras_dropout(jax.random.key(0), X, RATE, noise_shape=(None, 1, 1, None))
    assert scaled(z)
    assert whole(z, (1, 2))


def test_torch_drops_channels_of_the_second_axis():
    torch = pytest.importorskip("torch")
    y = torch.nn.Dropout2d(RATE)(torch.ones(64, 8, 6, 6)).numpy()
    assert scaled(y)
    assert whole(y, (2, 3))
    z = jaxdrop.adapters.dropout2d(jax.random.key(0), jnp.moveaxis(X, -1, 1), RATE)
    assert scaled(z)
    assert whole(z, (2, 3))
