"""Penalties against float64 NumPy, and which leaves they concern."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxdrop import penalties

KEY = jax.random.key(0)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Dense(5)(x))
        return nn.MultiHeadDotProductAttention(2, qkv_features=4)(x)


def linen_params():
    params = Net().init(KEY, jnp.ones((1, 3, 4)))["params"]
    return jax.tree.map(lambda leaf: leaf + 0.1, params)


def weights(params) -> np.ndarray:
    """The kernels, all in one float64 vector."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return np.concatenate(
        [
            np.asarray(leaf, np.float64).ravel()
            for path, leaf in leaves
            if "kernel" in jax.tree_util.keystr(path)
        ]
    )


@pytest.mark.parametrize(
    ("penalty", "strength", "reference"),
    [
        (penalties.l1, 0.3, lambda w: 0.3 * np.abs(w).sum()),
        (penalties.l2, 0.3, lambda w: 0.3 * (w**2).sum()),
        (penalties.l1_l2, (0.3, 0.2), lambda w: 0.3 * np.abs(w).sum() + 0.2 * (w**2).sum()),
        (penalties.l1_l2, 0.3, lambda w: 0.3 * np.abs(w).sum() + 0.3 * (w**2).sum()),
    ],
)
def test_values_against_numpy(penalty, strength, reference):
    params = linen_params()
    expected = reference(weights(params))
    np.testing.assert_allclose(penalty(params, strength), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(penalty)(params, strength), expected, rtol=1e-6)
    assert penalty(params, 0.0) == 0


def test_gradients():
    params = {"kernel": jnp.array([[1.0, -2.0, 0.0]]), "bias": jnp.array([5.0])}
    grad = jax.grad(penalties.l1)(params, 0.5)
    np.testing.assert_array_equal(grad["kernel"], [[0.5, -0.5, 0.0]])
    grad = jax.grad(penalties.l2)(params, 0.5)
    np.testing.assert_array_equal(grad["kernel"], [[1.0, -2.0, 0.0]])
    np.testing.assert_array_equal(grad["bias"], [0.0])


def test_l2_is_the_coupled_decay_of_twice_its_strength():
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0])}
    decay = optax.chain(optax.add_decayed_weights(0.6, mask=penalties.weight_mask), optax.sgd(0.1))
    zero = jax.tree.map(jnp.zeros_like, params)
    decayed, _ = decay.update(zero, decay.init(params), params)
    penalised, _ = optax.sgd(0.1).update(jax.grad(penalties.l2)(params, 0.3), optax.sgd(0.1).init(params))
    np.testing.assert_allclose(decayed["kernel"], penalised["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(decayed["bias"], 0)


def test_complex_leaves_are_refused():
    with pytest.raises(TypeError, match=re.escape("`params` must be a floating-point array, got complex64.")):
        penalties.l2({"kernel": jnp.ones((2, 2), jnp.complex64)}, 1.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sums_do_not_overflow(dtype):
    params = {"kernel": jnp.full((1000, 1000), 2.0, dtype)}
    assert penalties.l1(params, 1.0) == 2e6
    assert penalties.l2(params, 1.0) == 4e6
    assert jax.grad(penalties.l2)(params, 1.0)["kernel"].dtype == dtype


def test_default_rule_on_linen():
    mask = penalties.weight_mask(linen_params())
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(mask)
    }
    assert len(found) == 12
    assert all(use == path.endswith("/kernel") for path, use in found.items())


def test_default_rule_on_nnx():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.LayerNorm(4, rngs=rngs)

    params = nnx.state(Model(nnx.Rngs(0)), nnx.Param)
    names = []
    mask = penalties.weight_mask(
        params, lambda path, leaf: names.append(path) or penalties.is_weight(path, leaf)
    )
    assert sorted(names) == ["linear/bias", "linear/kernel", "norm/bias", "norm/scale"]
    assert jax.tree.leaves(nnx.to_pure_dict(mask)["linear"]) == [False, True]
    assert not any(jax.tree.leaves(nnx.to_pure_dict(mask)["norm"]))
    np.testing.assert_allclose(penalties.l2(params, 2.0), 2 * (weights(params) ** 2).sum(), rtol=1e-6)


def test_where():
    params = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    assert penalties.l1(params, 1.0, where=lambda path, _: path.startswith("b/")) == 6
    tree = {"a": {"kernel": True}, "b": {"kernel": False, "bias": True}}
    assert penalties.l1(params, 1.0, where=tree) == 6
    assert penalties.l1_l2(params, (1.0, 1.0), where=tree) == 12
    assert penalties.l2(params, 1.0, where=lambda *_: False) == 0
    assert penalties.l1_l2(params, jnp.array([1.0, 0.0]), where=tree) == 6
    with pytest.raises(ValueError, match="`where` must hold one boolean for each leaf"):
        penalties.l1(params, 1.0, where=jax.tree.map(lambda leaf: leaf > 0, params))
    with pytest.raises(ValueError, match="`where` must have the structure of the parameters"):
        penalties.l1(params, 1.0, where={"a": True})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: penalties.l1(p, -1.0), "`strength` must be finite and at least 0, got -1."),
        (lambda p: penalties.l2(p, float("nan")), "`strength` must be finite and at least 0, got nan."),
        (lambda p: penalties.l2(p, jnp.ones(2)), "`strength` must be a scalar, got shape (2,)."),
        (lambda p: penalties.l1_l2(p, jnp.ones(3)), "`strength` must be a scalar or a pair (l1, l2), got"),
        (lambda p: penalties.l1_l2(p, (1.0,)), "`strength` must be a scalar or a pair (l1, l2), got (1.0,)."),
    ],
)
def test_bad_strengths(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call({"kernel": jnp.ones((2, 2))})
