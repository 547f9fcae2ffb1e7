"""Mixup: partners, weights, labels."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdrop
from jaxdrop import _meshes
from tests.devices import make_mesh
from tests.normals import standard_normal

KEY = jax.random.key(5)
X = standard_normal(1, (8, 3, 2))
# Of these labels a mixed one shows its partner and both weights.
Y = jnp.eye(8)


def pairs(y) -> tuple[np.ndarray, np.ndarray]:
    """The partner of each example, and its own weight, from mixed labels."""
    y = np.asarray(y, np.float64)
    own = np.diagonal(y, axis1=-2, axis2=-1)
    others = y * (1 - np.eye(y.shape[-1]))
    return np.where(own == 1, np.arange(y.shape[-1]), others.argmax(-1)), own


@pytest.mark.parametrize("per_example", [False, True])
def test_it_is_the_mean_of_a_pair(per_example):
    x, y = jaxdrop.mixup(KEY, X, Y, 1.0, per_example=per_example)
    rows, own = pairs(y)
    assert sorted(rows) == list(range(8))
    assert (own >= 0.5).all()
    mixed = rows != np.arange(8)
    assert len(set(own[mixed])) == (mixed.sum() if per_example else 1)
    w = own[:, None, None]
    expected = w * np.asarray(X, np.float64) + (1 - w) * np.asarray(X, np.float64)[rows]
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(y.sum(1), np.ones(8))


def test_the_laws_of_partners_weights_and_labels():
    """One partner of eight is the example itself; all are equally likely; the mean label is kept."""
    labels = jnp.concatenate([Y, jax.nn.softmax(X[:, :, 0])], 1)
    keys = jax.random.split(KEY, 4000)

    def means(key, per_example):
        x, y = jaxdrop.mixup(key, X, labels, 1.0, per_example=per_example)
        return y[:, :8], x.mean(0), y[:, 8:].mean(0)

    y, x_mean, y_mean = jax.jit(jax.vmap(lambda key: means(key, True)))(keys)
    rows, own = pairs(y)
    count = np.array([np.bincount(rows[:, i], minlength=8) for i in range(8)]) / 4000
    assert (np.abs(count - 1 / 8) < 5 * np.sqrt(1 / 8 * 7 / 8 / 4000)).all()
    # The larger of b and 1 - b is uniform in [1/2, 1] for alpha 1.
    weights = own[:, 0][rows[:, 0] != 0]
    assert abs(weights.mean() - 0.75) < 5 * np.sqrt(1 / 48 / len(weights))
    for found, data in ((x_mean, X), (y_mean, labels[:, 8:])):
        error = np.std(found, 0) / np.sqrt(4000)
        assert (np.abs(np.mean(found, 0) - data.mean(0)) < 5 * error + 1e-6).all()
    _, x_mean, y_mean = means(KEY, False)
    np.testing.assert_allclose(x_mean, X.mean(0), atol=1e-6)
    np.testing.assert_allclose(y_mean, labels[:, 8:].mean(0), atol=1e-6)


def test_a_key_mixes_every_array_alike():
    """Inputs, a hidden layer and labels, each in its dtype."""
    h = jnp.stack([X[:, 0, 0], X[:, 1, 1]], 1).astype(jnp.bfloat16)
    _, y = jaxdrop.mixup(KEY, X, Y, 0.4)
    mixed, again = jaxdrop.mixup(KEY, h, Y.astype(jnp.float16), 0.4)
    assert (mixed.dtype, again.dtype) == (jnp.bfloat16, jnp.float16)
    np.testing.assert_array_equal(again, y.astype(jnp.float16))
    single, _ = jaxdrop.mixup(KEY, h.astype(jnp.float32), Y, 0.4)
    np.testing.assert_array_equal(mixed, single.astype(jnp.bfloat16))


def test_the_gradient_goes_to_both_of_a_pair():
    cotangent = jax.random.normal(KEY, X.shape)

    def mixed(x):
        return jaxdrop.mixup(KEY, x, Y, 1.0)

    (_, y), pull = jax.vjp(mixed, X)
    (found,) = pull((cotangent, jnp.zeros_like(y)))
    np.testing.assert_allclose(found, jnp.einsum("ij,i...->j...", y, cotangent), rtol=1e-5, atol=1e-6)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(pull)) <= 16 * 8 + 64


def test_alpha_zero_and_a_batch_of_one_are_the_identity():
    x, y = jaxdrop.mixup(KEY, X.at[1].set(jnp.inf), Y, 0)
    assert y is Y
    assert x[1, 0, 0] == jnp.inf
    traced, _ = jax.jit(jaxdrop.mixup)(KEY, X.at[1].set(jnp.inf), Y, 0.0)
    np.testing.assert_array_equal(traced, x)
    x, y = jaxdrop.mixup(KEY, X[:1], Y[:1], 1.0)
    np.testing.assert_array_equal(x, X[:1])
    np.testing.assert_array_equal(y, Y[:1])


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_sharding_is_kept(kind):
    mesh = make_mesh((4,), ("a",), (kind,))
    with jax.set_mesh(mesh):
        x, y = (jax.device_put(array, NamedSharding(mesh, P("a"))) for array in (X, Y))
        found = jax.jit(jaxdrop.mixup)(KEY, x, y, 1.0)
        for array, given in zip(found, (x, y), strict=True):
            assert array.sharding.is_equivalent_to(given.sharding, array.ndim)
        if kind is AxisType.Explicit:
            assert _meshes.partition(found[0])[0] == "a"
    for array, expected in zip(found, jaxdrop.mixup(KEY, X, Y, 1.0), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("error", "y", "message"),
    [
        (TypeError, jnp.arange(8), "array, such as `jax.nn.one_hot(y, num_classes)`, got int32."),
        (TypeError, jnp.eye(8, dtype=bool), "such as `jax.nn.one_hot(y, num_classes)`, got bool."),
        (ValueError, Y[:4], "`y` must have as many examples as `x`, got shape (4, 8) and `x` of shape (8,"),
        (ValueError, jnp.ones(()), "`y` must be of shape [B, ...], got ()."),
    ],
)
def test_labels_that_do_not_fit(error, y, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.mixup(KEY, X, y, 1.0)
