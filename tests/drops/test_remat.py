"""What is stored of a key for the backward pass."""

import jax
import jax.numpy as jnp
import pytest

import jaxdrop
from tests import gpu

KEY = jax.random.key(0)
SITES = 4


def loss(weights: list[jax.Array], key: jax.Array, x: jax.Array) -> jax.Array:
    for site, w in enumerate(weights):
        x = jaxdrop.dropout(jax.random.fold_in(key, site), jnp.tanh(x @ w), 0.1)
    return jnp.mean(x**2)


@pytest.mark.parametrize(("impl", "shapes"), [("threefry2x32", {()}), ("rbg", {(4,)})])
def test_the_words_of_a_threefry_key_are_stored_apart(impl: str, shapes: set[tuple[int, ...]]):
    key = jax.random.key(0, impl=impl)
    _, vjp = jax.vjp(lambda x: jaxdrop.dropout(key, x, 0.3), jnp.ones((8, 16)))
    assert {leaf.shape for leaf in jax.tree.leaves(vjp)} == shapes


@gpu.needs_plugin
def test_a_gpu_derives_all_keys_in_one_kernel():
    """As an array, the two words of each site were copied together in a separate kernel."""
    weights, x = [jnp.ones((64, 64))] * SITES, jnp.ones((64, 64))
    program = gpu.compiled(jax.grad(loss), weights, KEY, x)
    small = [kernel for kernel in program.kernels if kernel.largest <= 2]
    assert [len(kernel.shapes) for kernel in small] == [2 * SITES]
