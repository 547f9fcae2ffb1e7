"""Chunks of examples and of outputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.stages import Compiled

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc._moments import chunks
from tests.normals import standard_normal

X = standard_normal(0, (60, 16))
W = standard_normal(1, (16, 64)) / 4
V = standard_normal(2, (64, 9)) / 8


def moments() -> Compiled:
    """A program, compiled anew."""

    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        h = jax.nn.relu(jaxdrop.dropout(first, x, 0.2) @ W)
        return jaxdrop.dropout(second, h, 0.5) @ V

    return jax.jit(lambda x: mc.moments(predict, x)).lower(X).compile()


def test_plan():
    """Chunks of equal size that fit; outputs are divided where one example does not fit."""
    assert chunks.plan(100, 10, 10, True) == (100, 10)
    assert chunks.plan(100, 10, 10, True, 30) == (25, 10)
    # 4 * 16 * 10,000 bytes per example: 39 fit into 24 MiB.
    assert chunks.plan(100, 10, 10_000, True) == (34, 10)
    # Variances alone: blocks of outputs fit into 24 MiB.
    assert chunks.plan(8, 1000, 10_000, False) == (1, 500)
    # Covariances: two blocks fit into 1 GiB, and each example is a chunk.
    assert chunks.plan(8, 1000, 1_000_000, True) == (1, 125)
    assert chunks.plan(8, 10, 10**9, True) == (1, 1)
    assert chunks.plan(8, 10, 0, True) == (8, 10)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 9])
def test_mapped(size: int):
    x = {"a": jnp.arange(7.0), "b": jnp.arange(14.0).reshape(7, 2)}
    found = chunks.mapped(lambda row: (row["a"] * 2, row["b"] + row["a"]), x, size)
    np.testing.assert_array_equal(found[0], 2 * x["a"])
    np.testing.assert_array_equal(found[1], x["b"] + x["a"][:, None])


@pytest.mark.slow
def test_chunks_change_no_moments_and_bound_the_memory(monkeypatch: pytest.MonkeyPatch):
    whole = moments()
    # Two blocks of four outputs of 208 numbers.
    monkeypatch.setattr(chunks, "_MOST_BYTES", 2 * 4 * 4 * 208)
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 5 * 4 * (4 + 6) * 208)
    divided = moments()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), divided(X), whole(X))
    small, large = (one.memory_analysis().temp_size_in_bytes for one in (divided, whole))
    assert small < large / 3
