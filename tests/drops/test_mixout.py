"""Mixout: the two values of a weight, the mean, and the gradient that the authors' code halves."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(13)
W = standard_normal(KEY, (64, 48))
T = standard_normal(14, (64, 48))


@pytest.mark.parametrize("rate", [0.25, 0.9])
def test_the_two_values_and_the_gradient(rate):
    """With m = 1 where kept: (m w + (1 - m) t - p t) / (1 - p), whose slope along w is m / (1 - p)."""
    y = jaxdrop.mixout(KEY, W, T, rate, bits=24)
    kept = np.asarray(jaxdrop.mixout(KEY, jnp.ones_like(W), jnp.zeros_like(W), rate, bits=24)) != 0
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / W.size)
    w, t = np.asarray(W, np.float64), np.asarray(T, np.float64)
    np.testing.assert_allclose(y, (np.where(kept, w, t) - rate * t) / (1 - rate), rtol=2e-5, atol=2e-6)
    grad = jax.grad(lambda w: jaxdrop.mixout(KEY, w, T, rate, bits=24).sum())(W)
    np.testing.assert_allclose(grad, kept / (1 - rate), rtol=1e-5)


def test_the_mean_is_the_weight():
    keys = jax.random.split(KEY, 4000)
    y = jax.vmap(lambda key: jaxdrop.mixout(key, W[:4, :8], T[:4, :8], 0.5))(keys)
    error = np.abs(W - T)[:4, :8] / np.sqrt(4000)
    assert (np.abs(np.asarray(y).mean(0) - W[:4, :8]) < 5 * error).all()


def test_a_dict_of_a_checkpoint_is_a_target():
    class Model(nnx.Module):
        def __init__(self):
            self.layers = nnx.List([nnx.Param(W + i) for i in range(11)])

    state = nnx.state(Model())
    target = {"layers": {str(i): T + i for i in range(11)}}  # strings sort in another order than numbers
    mixed = jaxdrop.mixout(KEY, state, target, 1.0)
    assert jax.tree.structure(mixed) == jax.tree.structure(state)
    for i in range(11):
        np.testing.assert_array_equal(mixed["layers"][i][...], T + i)


def test_trees_and_rate_zero_and_one():
    params, target = {"a": {"kernel": W, "bias": W[0]}}, {"a": {"kernel": T, "bias": T[0]}}
    assert jaxdrop.mixout(KEY, params, target, 0.0) is params
    mixed = jaxdrop.mixout(KEY, params, target, 1.0)
    np.testing.assert_array_equal(mixed["a"]["kernel"], T)
    assert mixed["a"]["bias"] is params["a"]["bias"]


def test_bad_input():
    with pytest.raises(ValueError, match="`target` must have the structure of the parameters"):
        jaxdrop.mixout(KEY, {"kernel": W}, {"weight": T}, 0.5)
    with pytest.raises(
        ValueError, match=re.escape("`target` must have the shape of `params`, (64, 48), got (48,).")
    ):
        jaxdrop.mixout(KEY, {"kernel": W}, {"kernel": T[0]}, 0.5)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_integer_leaves_are_named(rate):
    for params, target, name in ((W.astype(int), T, "params"), (W, T.astype(int), "target")):
        message = f"`{name}` must be a floating-point array, got int32 at a/kernel: exclude it with `where`."
        with pytest.raises(TypeError, match=re.escape(message)):
            jaxdrop.mixout(KEY, {"a": {"kernel": params}}, {"a": {"kernel": target}}, rate)


def test_a_traced_rate_of_zero_leaves_an_infinite_target_out():
    params, target = jnp.ones((2, 3)), jnp.full((2, 3), jnp.inf)
    y = jax.jit(lambda rate: jaxdrop.mixout(jax.random.key(0), params, target, rate))(0.0)
    np.testing.assert_array_equal(y, params)


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.first, self.other = nnx.Linear(16, 16, rngs=rngs), nnx.Linear(16, 16, rngs=rngs)
        self.second = self.first


@pytest.mark.parametrize("where", [None, lambda path, leaf: path == "second/kernel"])
def test_a_shared_variable_is_drawn_once(where):
    model = Tied(nnx.Rngs(0))
    target = jax.tree.map(jnp.zeros_like, model)
    for y in (
        jaxdrop.mixout(KEY, model, target, 0.5, where=where),
        jaxdrop.dropconnect(KEY, model, 0.5, where=where),
    ):
        first = np.asarray(y.first.kernel[...])
        assert 0 < (first == 0).mean() < 1
        np.testing.assert_array_equal(y.second.kernel[...], first)
        other = np.asarray(y.other.kernel[...])
        assert (other == model.other.kernel[...]).all() == (where is not None)
        assert not np.array_equal(other == 0, first == 0)
