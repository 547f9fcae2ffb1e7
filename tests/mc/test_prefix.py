"""Key-free computation is evaluated once, and nothing else changes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrop
import jaxdrop.linen
from jaxdrop import mc
from tests.normals import standard_normal

KEY = jax.random.key(0)
X = standard_normal(1, (16, 32))
WEIGHTS = standard_normal(2, (4, 32, 32)) / 32**0.5


def deep(weights: jax.Array, key: jax.Array, x: jax.Array) -> jax.Array:
    """Three layers, dropout, and a last one."""
    for w in weights[:-1]:
        x = nn.relu(x @ w)
    return jaxdrop.dropout(key, x, 0.5) @ weights[-1]


FORMS = {"plain": deep, "jit": jax.jit(deep), "remat": jax.checkpoint(deep)}


def naive(fun, key: jax.Array, count: int) -> jax.Array:
    keys = jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(count))
    return jax.jit(lambda w, x: jax.lax.map(lambda k: fun(w, k, x), keys, batch_size=4))(WEIGHTS, X)


@pytest.mark.parametrize("name", FORMS)
def test_it_is_exact_to_the_bit(name: str):
    predict = jax.tree_util.Partial(FORMS[name], WEIGHTS)
    samples = mc.sample(predict, KEY, X, num_samples=8, chunk_size=4)
    np.testing.assert_array_equal(samples, naive(FORMS[name], KEY, 8))


def matmuls(text: str) -> list[bool]:
    """For each matrix product of a compiled program, whether it stands in a loop over chunks."""
    return [
        re.search(r'op_name="[^"]*while', line) is not None for line in text.splitlines() if " dot(" in line
    ]


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("chunk", [1, 4])
def test_the_matmuls_are_counted(name: str, chunk: int):
    """Three are computed once, and one in the loop; without the division all four were in it."""

    @jax.jit
    def run(weights, x):
        predict = jax.tree_util.Partial(FORMS[name], weights)
        return mc.sample(predict, KEY, x, num_samples=12, chunk_size=chunk)

    inside = matmuls(run.lower(WEIGHTS, X).compile().as_text())
    assert sorted(inside) == [False, False, False, True]

    @jax.jit
    def plainly(weights, x):
        return jax.lax.map(lambda key: FORMS[name](weights, key, x), jax.random.split(KEY, 12))

    assert len(matmuls(plainly.lower(WEIGHTS, X).compile().as_text())) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_a_linen_model():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                x = nn.relu(nn.Dense(32)(x))
            return nn.Dense(3)(nn.Dropout(0.5, deterministic=False)(x))

    net = Net()
    predict = jaxdrop.linen.stochastic(net, net.init(KEY, X), X)
    run = jax.jit(lambda predict, x: mc.sample(predict, KEY, x, num_samples=12, chunk_size=4))
    assert sorted(matmuls(run.lower(predict, X).compile().as_text())) == [False, False, False, True]


def test_what_the_key_reaches_in_a_loop_or_a_branch_is_left_whole():
    def predict(key, x):
        def body(carry, w):
            return jaxdrop.dropout(key, carry @ w, 0.1), None

        y, _ = jax.lax.scan(body, x @ WEIGHTS[0], WEIGHTS[1:])
        return jax.lax.cond(jax.random.bernoulli(key), lambda y: y, lambda y: -y, y)

    samples = mc.sample(predict, KEY, X, num_samples=6, chunk_size=3)
    for t in range(6):
        expected = jax.jit(predict)(jax.random.fold_in(KEY, t), X)
        np.testing.assert_allclose(samples[t], expected, rtol=1e-4, atol=1e-5)


def test_functions_with_derivatives_of_their_own():
    def predict(key, x):
        return jax.nn.logsumexp(nn.gelu(jaxdrop.dropout(key, nn.relu(x @ WEIGHTS[0]), 0.5)), -1)

    samples = mc.sample(predict, KEY, X, num_samples=3)
    for t in range(3):
        expected = predict(jax.random.fold_in(KEY, t), X)
        np.testing.assert_allclose(samples[t], expected, rtol=1e-5, atol=1e-6)


def test_outputs_that_no_key_reaches():
    samples = mc.sample(lambda key, x: {"x": x, "y": jaxdrop.dropout(key, x, 0.5)}, KEY, X, num_samples=3)
    np.testing.assert_array_equal(samples["x"], jnp.broadcast_to(X, (3, *X.shape)))
