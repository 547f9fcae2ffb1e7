"""The number of samples computed at once."""

import jax
import jax.numpy as jnp
import pytest

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc import _accumulation, _chunks, _program

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def budget_of_a_cpu(monkeypatch):
    monkeypatch.setattr(_chunks, "budget", lambda: _chunks.CPU_BYTES)  # a GPU has more


def wide(key: jax.Array, x: jax.Array, units: int) -> jax.Array:
    return jaxdrop.dropout(key, jnp.broadcast_to(x, (len(x), units)), 0.5)


def chunk(units: int, num_samples: int, chunk_size: int | None = None) -> int:
    def predict(key, x):
        return wide(key, x, units)

    return _program.plan(predict, KEY, jnp.ones((8, 1)), num_samples, chunk_size=chunk_size).execution.chunk


def test_the_chunks_fit_the_cache_and_are_of_one_size():
    assert chunk(4, 100) == 100  # little: all at once
    assert chunk(10_000_000, 100) == 1  # much: one at a time
    between = chunk(2**14, 100)
    assert 1 < between < 100
    assert -(-100 // between) * between < 100 + between
    assert chunk(4, 100, 7) == 7
    assert chunk(4, 5, 7) == 5


def test_a_chunk_works_on_as_many_bytes_as_the_state_takes():
    """Each chunk merges the state of all groups, which would take most of the time of small chunks."""

    def predict(key, x):
        return wide(key, x, 2**18)

    def call(reducer: mc.Reducer, **options) -> _accumulation.Call:
        options = {"num_samples": 100} | options
        return _accumulation.prepare(predict, KEY, jnp.ones((8, 1)), reducers=reducer, **options)

    plan = _program.plan(predict, KEY, jnp.ones((8, 1)), 100)
    assert plan.execution.chunk == 1
    sample_bytes, outputs = plan.sizes.sample_bytes, 8 * 2**18 * 4
    assert call(mc.Moments(groups=0)).execution.chunk <= -(-3 * outputs // sample_bytes)
    found = call(mc.Moments(groups=32), num_samples=1000).execution.chunk
    state = 2 * 32 * outputs  # the mean and the variance of each group, and little else
    assert 0.9 * state < found * sample_bytes < 1.3 * state
    # Not more than are asked for, at all or before a look, and not where the user chose.
    assert call(mc.Moments(groups=32), num_samples=3).execution.chunk == 3
    rule = mc.Until(1e-3, max_samples=100, every=10)
    assert call(mc.Moments(groups=32), num_samples=rule).execution.chunk <= 10
    assert call(mc.Moments(groups=32), chunk_size=1).execution.chunk == 1
    # Balanced sets are not cut at odd places.
    balanced = call(mc.Moments(groups=32), num_samples=96, balanced=8).execution.chunk
    assert balanced % 8 == 0 or 8 % balanced == 0
