"""Subset depth: what the branch sees, how often each example is chosen, and what it costs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests.normals import standard_normal

KEY = jax.random.key(6)


@pytest.mark.parametrize(("rate", "seen"), [(0.1, 9), (0.3, 7), (0.55, 4), (0.7, 3), (0.99, 1)])
def test_the_branch_sees_a_part_of_the_batch(rate, seen):
    sizes = []

    def branch(x):
        sizes.append(x.shape)
        return x

    y = jaxdrop.subset_depth(KEY, jnp.ones((10, 3)), rate, branch=branch)
    assert sizes == [(seen, 3)]
    np.testing.assert_allclose(np.sort(y[:, 0]), [1.0] * (10 - seen) + [1 + 10 / seen] * seen, rtol=1e-6)


def test_every_example_is_chosen_alike_and_the_mean_is_the_sum():
    x = jnp.arange(1.0, 9.0)[:, None]
    keys = jax.random.split(KEY, 8000)
    run = jax.vmap(lambda key: jaxdrop.subset_depth(key, x, 0.375, branch=jnp.square))
    y = np.asarray(run(keys))[..., 0]
    chosen = y != np.asarray(x[:, 0])
    assert (chosen.sum(1) == 5).all()
    error = 5 * np.sqrt(0.625 * 0.375 / 8000)
    assert (np.abs(chosen.mean(0) - 0.625) < error).all()
    np.testing.assert_allclose(y.mean(0), np.asarray(x + x**2)[:, 0], atol=64 / 0.625 * error)


def test_gradients_reach_the_parameters_of_the_branch():
    x = standard_normal(KEY, (8, 4))

    def loss(w):
        return jaxdrop.subset_depth(KEY, x, 0.5, branch=lambda x: x @ w).sum()

    chosen = np.asarray(jaxdrop.subset_depth(KEY, x, 0.5, branch=lambda x: x + 100) - x)[:, 0] > 50
    expected = 2 * np.asarray(x)[chosen].sum(0)[:, None] * np.ones((1, 3))
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.ones((4, 4)))[:, :3], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("error", "x", "rate", "branch", "message"),
    [
        (
            ValueError,
            jnp.ones((2, 3)),
            1.0,
            jnp.sin,
            "`rate` must be below 1, so that something is kept, got 1.",
        ),
        (ValueError, jnp.ones((2, 3)), 0.5, jnp.sum, "`branch(x)` must have the shape and dtype of `x`"),
        (ValueError, jnp.ones((0, 3)), 0.5, jnp.sin, "`x` must hold at least one item to keep, got 0."),
        (
            TypeError,
            jnp.ones((2, 3)),
            jnp.full(2, 0.5),
            jnp.sin,
            "`rate` must be a number known when tracing",
        ),
    ],
)
def test_bad_input(error, x, rate, branch, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.subset_depth(KEY, x, rate, branch=branch)


def test_a_traced_rate():
    with pytest.raises(TypeError, match="`rate` must be a number known when tracing"):
        jax.jit(lambda rate: jaxdrop.subset_depth(KEY, jnp.ones((2, 3)), rate, branch=jnp.sin))(0.5)
