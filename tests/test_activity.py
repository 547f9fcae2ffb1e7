"""Penalties on activations against float64 NumPy."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import penalties
from tests.normals import standard_normal

KEY = jax.random.key(0)


def test_activity_is_keras_s():
    h = {"a": standard_normal(KEY, (8, 3, 2)), "b": [standard_normal(KEY, (8, 5))]}
    parts = [np.asarray(part, np.float64) for part in jax.tree.leaves(h)]
    expected = sum(0.2 * np.abs(part).sum() + 0.5 * (part**2).sum() for part in parts) / 8
    np.testing.assert_allclose(penalties.activity(h, (0.2, 0.5)), expected, rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(penalties.activity)(jnp.zeros((2, 3)), 1.0), 0)


def test_kl_sparsity_against_numpy():
    h = jax.nn.sigmoid(standard_normal(KEY, (8, 3, 2)))
    mean, t = np.asarray(h, np.float64).mean(0), 0.05
    expected = 0.3 * (t * np.log(t / mean) + (1 - t) * np.log((1 - t) / (1 - mean))).sum()
    np.testing.assert_allclose(penalties.kl_sparsity(h, 0.3, target=t), expected, rtol=1e-5)
    np.testing.assert_allclose(penalties.kl_sparsity(jnp.full((4, 2), t), 1.0, target=t), 0, atol=1e-6)


def test_kl_sparsity_pulls_means_to_the_target_and_is_finite_at_the_ends():
    h = jnp.array([[0.0, 0.01, 0.5, 1.0]] * 4)
    value, grad = jax.value_and_grad(lambda h: penalties.kl_sparsity(h, 1.0, target=0.1))(h)
    assert np.isfinite(value)
    np.testing.assert_array_equal(np.sign(grad[0]), [0, -1, 1, 0])
    assert np.isnan(jax.jit(lambda h: penalties.kl_sparsity(h, 1.0, target=0.1))(2 * h))


def test_an_empty_batch_costs_nothing():
    empty = jnp.ones((0, 3))
    assert penalties.activity(empty, 1.0) == 0
    assert jax.jit(lambda h: penalties.kl_sparsity(h, 1.0, target=0.1))(empty) == 0


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        x = nn.tanh(nn.Dense(3)(x))
        self.sow("intermediates", "h", x)
        return x, None


@pytest.mark.slow
def test_layers_under_scan():
    """Their activations are `[L, B, ...]`: a mean over the batch is not one over the layers."""
    scan = nn.scan(
        Block, variable_axes={"params": 0, "intermediates": 0}, split_rngs={"params": True}, length=4
    )
    x = standard_normal(KEY, (6, 3))
    variables = scan().init(KEY, x, None)
    _, sown = scan().apply({"params": variables["params"]}, x, None, mutable="intermediates")
    (h,) = jax.tree.leaves(sown)
    assert h.shape == (4, 6, 3)
    expected = 0.5 * np.abs(np.asarray(h, np.float64)).sum() / 6
    np.testing.assert_allclose(penalties.activity(sown, (0.5, 0.0), batch_axis=1), expected, rtol=1e-6)
    h = (h + 1) / 2
    expected = sum(penalties.kl_sparsity(layer, 2.0, target=0.1) for layer in h)
    found = penalties.kl_sparsity({"h": h}, 2.0, target=0.1, batch_axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_batches_that_differ_are_refused():
    message = "got sizes 4, 6 along axis 0."
    for call in (penalties.activity, lambda h, c: penalties.kl_sparsity(h, c, target=0.1)):
        with pytest.raises(ValueError, match=re.escape(message)):
            call([jnp.ones((4, 6, 3)), jnp.ones((6, 3))], 1.0)
    with pytest.raises(ValueError, match=r"`batch_axis` must lie in .* for an array of rank 1, got 1"):
        penalties.activity(jnp.ones(3), 1.0, batch_axis=1)
