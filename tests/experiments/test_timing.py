"""Timing: everyone in every round, and what is counted beside."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from experiments import report, timing
from experiments.benchmark import peers


def test_every_call_is_timed_in_every_round():
    counts = {"a": 0, "b": 0}

    def call(name):
        counts[name] += 1
        return jnp.zeros(())

    programs = {n: timing.Program(lambda n=n: call(n)) for n in counts}
    times = timing.interleave(programs, rounds=4, seconds=0.0)
    assert counts == {"a": 6, "b": 6}
    assert all(values.shape == (4,) and np.all(values > 0) for values in times.values())


def test_short_calls_are_repeated():
    calls = []
    program = timing.Program(lambda: calls.append(None))
    timing.interleave({"a": program}, rounds=1, seconds=0.01)
    assert len(calls) > 10


def test_large_results_are_not_held_by_the_dozen():
    class Large:
        nbytes = 2**31

    waited = []
    program = timing.Program(Large, wait=waited.append)
    timing.interleave({"a": program}, rounds=3, seconds=0.01)
    # Two to get ready, then a call a round.
    assert [len(results) for results in waited[2:]] == [1, 1, 1]


def test_compiled_is_the_function():
    program = timing.compiled(lambda x, y: x + y, jnp.ones(3), jnp.ones(3))
    np.testing.assert_array_equal(program.call(), 2)
    assert program.compile_seconds > 0
    assert program.moved_bytes == 36


def test_compiled_in_threads():
    def fails(x):
        raise ValueError("no")

    with timing.in_threads(2):
        program, failing = timing.compiled(lambda x: x + 1, jnp.ones(3)), timing.compiled(fails, jnp.ones(3))
        program.ready()
    np.testing.assert_array_equal(program.call(), 2)
    assert program.compile_seconds > 0
    with pytest.raises(ValueError, match="no"):
        failing.ready()
    with pytest.raises(ValueError, match="no"):
        timing.compiled(fails, jnp.ones(3))


def test_on_a_gpu_a_round_waits_for_the_last_call(monkeypatch):
    monkeypatch.setattr(report, "device", lambda: types.SimpleNamespace(platform="gpu"))
    calls, waited = [], []

    def call():
        calls.append(None)
        return len(calls)

    timing.interleave({"a": timing.Program(call, wait=waited.append)}, rounds=2, seconds=10.0)
    most = timing.MOST_IN_FLIGHT
    assert waited == [1, 2, 2 + most, 2 + 2 * most]


def test_kept_bytes():
    x, key = jnp.ones((64, 128)), jax.random.key(0)
    setting, _ = peers.load(quick=True)
    assert timing.kept_bytes(lambda x: jaxdrop.dropout(key, x, 0.1), x) <= 20
    assert timing.kept_bytes(lambda x: setting.drops["flax"](key, x, 0.1), x) >= x.size
    assert timing.kept_bytes(jnp.sin, x) == x.nbytes
    assert timing.kept_bytes(lambda x: x * x, x) == 0  # `x` itself is there anyway
