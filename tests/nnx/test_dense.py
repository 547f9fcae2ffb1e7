"""NNX dense layers whose weights and noise are one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
from jaxdrop.nnx import ShakeoutDense, SparseVariationalDense, VariationalDense
from tests.normals import standard_normal

KEY = jax.random.key(3)
X = standard_normal(1, (8, 5))


def shapes(module) -> dict:
    return jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(module, nnx.Param)))


@pytest.mark.parametrize(
    ("shared", "shape"), [("layer", ()), ("input", (5, 1)), ("output", (3,)), ("weight", (5, 3))]
)
def test_variational_dense(shared: str, shape: tuple):
    module = VariationalDense(5, 3, rate=0.2, shared=shared, rngs=nnx.Rngs(0))
    module.bias[...] += 1.0
    assert shapes(module) == {"kernel": (5, 3), "bias": (3,), "log_alpha": shape}
    kernel, log_alpha = module.kernel[...], module.log_alpha[...]
    np.testing.assert_allclose(jnp.exp(log_alpha), 0.25, rtol=1e-6)
    y, penalty = module(X, rngs=KEY)
    expected = jaxdrop.variational_dropout(KEY, X, kernel, log_alpha)
    np.testing.assert_array_equal(y, expected[0] + 1)
    np.testing.assert_array_equal(penalty, expected[1])
    module.eval()
    still, none = module(X)
    np.testing.assert_array_equal(still, X @ kernel + 1)
    assert none == 0


def test_sparse_variational_dense():
    module = SparseVariationalDense(5, 3, log_variance_init=-4.0, threshold=1.0, rngs=nnx.Rngs(0))
    module.bias[...] += 1.0
    assert shapes(module) == {"kernel": (5, 3), "bias": (3,), "log_variance": (5, 3)}
    weights = module.kernel[...], module.log_variance[...]
    y, penalty = module(X, rngs=KEY)
    expected = jaxdrop.sparse_variational_dropout(KEY, X, *weights)
    np.testing.assert_array_equal(y, expected[0] + 1)
    np.testing.assert_array_equal(penalty, expected[1])
    pruned = jaxdrop.sparse_kernel(*weights, threshold=1.0)
    assert 0 < (pruned == 0).mean() < 1
    module.eval()
    still, none = module(X)
    np.testing.assert_array_equal(still, X @ pruned + 1)
    assert none == 0


def test_shakeout_dense():
    module = ShakeoutDense(5, 3, 0.4, 0.1, bits=8, rngs=nnx.Rngs(0))
    module.bias[...] += 1.0
    kernel = module.kernel[...]
    np.testing.assert_array_equal(
        module(X, rngs=KEY), jaxdrop.shakeout(KEY, X, kernel, 0.4, constant=0.1, bits=8) + 1
    )
    half = module(X, rngs=KEY, rate=0.5)
    np.testing.assert_array_equal(half, jaxdrop.shakeout(KEY, X, kernel, 0.5, constant=0.1, bits=8) + 1)
    module.eval()
    np.testing.assert_array_equal(module(X), X @ kernel + 1)


@pytest.mark.parametrize(
    "module",
    [
        VariationalDense(5, 3, use_bias=False, rngs=nnx.Rngs(0)),
        SparseVariationalDense(5, 3, rngs=nnx.Rngs(0)),
        ShakeoutDense(5, 3, 0.4, 0.1, rngs=nnx.Rngs(0)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_they_train(module):
    def loss(module):
        return sum(jnp.sum(part**2) for part in jax.tree.leaves(module(X)))

    gradient = nnx.jit(nnx.grad(loss))
    first, second = (nnx.to_pure_dict(gradient(module)) for _ in range(2))
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(first))
    assert not np.array_equal(first["kernel"], second["kernel"])


def test_bad_arguments():
    with pytest.raises(ValueError, match=re.escape("`rngs` must be given to the constructor, got None.")):
        VariationalDense(5, 3)
    with pytest.raises(ValueError, match=re.escape("`rate` must lie in (0, 0.5], got 0.6.")):
        VariationalDense(5, 3, rate=0.6, rngs=nnx.Rngs(0))
    message = "`shared` must be one of layer, input, output, weight, got 'neuron'."
    with pytest.raises(ValueError, match=re.escape(message)):
        VariationalDense(5, 3, shared="neuron", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=re.escape("`rate` must lie in [0, 1], got 1.5.")):
        ShakeoutDense(5, 3, 1.5, 0.1, rngs=nnx.Rngs(0))
