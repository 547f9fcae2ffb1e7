"""Linen dense layers whose weights and noise are one."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop.linen import ShakeoutDense, SparseVariationalDense, VariationalDense
from tests.normals import standard_normal

KEY = jax.random.key(3)
X = standard_normal(1, (8, 5))


def start(module: nn.Module) -> dict:
    """Its variables, with a bias that is not zero."""
    variables = module.init(KEY, X, deterministic=True)
    variables["params"]["bias"] += 1.0
    return variables


@pytest.mark.parametrize(
    ("shared", "shape"), [("layer", ()), ("input", (5, 1)), ("output", (3,)), ("weight", (5, 3))]
)
def test_variational_dense(shared: str, shape: tuple):
    module = VariationalDense(3, rate=0.2, shared=shared)
    variables = start(module)
    params = variables["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (5, 3), "bias": (3,), "log_alpha": shape}
    np.testing.assert_allclose(jnp.exp(params["log_alpha"]), 0.25, rtol=1e-6)
    y, penalty = module.apply(variables, X, deterministic=False, rng=KEY)
    expected = jaxdrop.variational_dropout(KEY, X, params["kernel"], params["log_alpha"])
    np.testing.assert_array_equal(y, expected[0] + 1)
    np.testing.assert_array_equal(penalty, expected[1])
    still, none = module.apply(variables, X, deterministic=True)
    np.testing.assert_array_equal(still, X @ params["kernel"] + 1)
    assert none == 0


@pytest.mark.slow
def test_sparse_variational_dense():
    module = SparseVariationalDense(3, log_variance_init=-4.0, threshold=1.0)
    variables = start(module)
    params = variables["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (5, 3), "bias": (3,), "log_variance": (5, 3)}
    y, penalty = module.apply(variables, X, deterministic=False, rng=KEY)
    weights = params["kernel"], params["log_variance"]
    expected = jaxdrop.sparse_variational_dropout(KEY, X, *weights)
    np.testing.assert_array_equal(y, expected[0] + 1)
    np.testing.assert_array_equal(penalty, expected[1])
    pruned = jaxdrop.sparse_kernel(*weights, threshold=1.0)
    assert 0 < (pruned == 0).mean() < 1
    still, none = module.apply(variables, X, deterministic=True)
    np.testing.assert_array_equal(still, X @ pruned + 1)
    assert none == 0


def test_shakeout_dense():
    module = ShakeoutDense(3, 0.4, 0.1, bits=8)
    variables = start(module)
    kernel = variables["params"]["kernel"]
    y = module.apply(variables, X, deterministic=False, rng=KEY)
    np.testing.assert_array_equal(y, jaxdrop.shakeout(KEY, X, kernel, 0.4, constant=0.1, bits=8) + 1)
    np.testing.assert_array_equal(module.apply(variables, X, deterministic=True), X @ kernel + 1)
    half = module.apply(variables, X, deterministic=False, rng=KEY, rate=0.5)
    np.testing.assert_array_equal(half, jaxdrop.shakeout(KEY, X, kernel, 0.5, constant=0.1, bits=8) + 1)
    with pytest.raises(Exception, match="dropout"):
        module.apply(variables, X, deterministic=False)


@pytest.mark.parametrize(
    "module",
    [VariationalDense(3, use_bias=False), SparseVariationalDense(3), ShakeoutDense(3, 0.4, 0.1)],
    ids=lambda module: type(module).__name__,
)
def test_they_train(module):
    variables = module.init(KEY, X, deterministic=True)

    @jax.jit
    def gradient(key):
        def loss(variables):
            outputs = module.apply(variables, X, deterministic=False, rngs={"dropout": key})
            return sum(jnp.sum(part**2) for part in jax.tree.leaves(outputs))

        return jax.grad(loss)(variables)

    first, second = (gradient(key) for key in jax.random.split(KEY))
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(first))
    assert not np.array_equal(first["params"]["kernel"], second["params"]["kernel"])


def test_half_precision_stays():
    for module in (VariationalDense(3), SparseVariationalDense(3), ShakeoutDense(3, 0.4, 0.1)):
        variables = module.init(KEY, X, deterministic=True)
        for deterministic in (True, False):
            y = module.apply(variables, X.astype(jnp.bfloat16), deterministic=deterministic, rng=KEY)
            assert jax.tree.leaves(y)[0].dtype == jnp.bfloat16


def test_bad_arguments():
    with pytest.raises(ValueError, match=re.escape("`rate` must lie in (0, 0.5], got 0.6.")):
        VariationalDense(3, rate=0.6).init(KEY, X, deterministic=True)
    message = "`shared` must be one of layer, input, output, weight, got 'neuron'."
    with pytest.raises(ValueError, match=re.escape(message)):
        VariationalDense(3, shared="neuron").init(KEY, X, deterministic=True)


@pytest.mark.parametrize(
    "module", [VariationalDense(3), SparseVariationalDense(3), ShakeoutDense(3, 0.4, 0.1)]
)
def test_inputs_without_an_axis(module):
    with pytest.raises(ValueError, match=r"`inputs` must be of shape \[..., I\], got \(\)\."):
        module.init(KEY, 0.5, deterministic=True)
