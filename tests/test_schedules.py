"""Schedules: their values at the corners, their bounds, and their use in a jitted step."""

import re
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdrop import schedules
from jaxdrop.drops.dropout import dropout

STEPS = np.arange(0, 400, 7)


def linear(start: float, end: float, steps: int, begin: int = 0) -> np.ndarray:
    return start + (end - start) * np.clip((STEPS - begin) / steps, 0, 1)


CASES = {
    "constant": (schedules.constant(0.3), np.full(len(STEPS), 0.3)),
    "linear up": (schedules.linear(0.1, 0.7, 200), linear(0.1, 0.7, 200)),
    "linear down": (schedules.linear(1.0, 0.1, 100, begin=50), linear(1.0, 0.1, 100, 50)),
    "early": (schedules.early(0.4, 70), np.where(STEPS < 70, 0.4, 0)),
    "early, decaying": (schedules.early(0.4, 70, decay=True), linear(0.4, 0, 70)),
    "late": (schedules.late(0.4, 70), np.where(STEPS < 70, 0, 0.4)),
    "late from the first": (schedules.late(0.4, 0), np.full(len(STEPS), 0.4)),
    "curriculum": (schedules.curriculum(0.4, 0.02), 0.4 * (1 - np.exp(-0.02 * STEPS))),
}
everyone = pytest.mark.parametrize("name", CASES)


@everyone
def test_values(name):
    """The same for a Python integer, a traced one, and an array of steps."""
    schedule, expected = CASES[name]
    close = {"rtol": 2e-6, "atol": 2e-7}
    np.testing.assert_allclose(schedule(jnp.asarray(STEPS)), expected, **close)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(jnp.asarray(STEPS)), expected, **close)
    for step, value in list(zip(STEPS, expected, strict=True))[::20]:
        for form in (int(step), np.uint32(step), jnp.int32(step)):
            chex.assert_trees_all_close(schedule(form), jnp.float32(value), **close)
            chex.assert_type(schedule(form), jnp.float32)
            assert schedule(form).shape == ()


@everyone
def test_no_retrace(name):
    schedule = CASES[name][0]

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(step, key, x):
        return step + 1, dropout(key, x, schedule(step))

    chex.clear_trace_counter()
    number = jnp.int32(0)
    for key in jax.random.split(jax.random.key(0), 4):
        number, y = step(number, key, jnp.ones(8))
        assert np.isfinite(y).all()


@pytest.mark.parametrize("start", [0.0, 0.1, 1 / 3, 0.7, 1.0])
@pytest.mark.parametrize("end", [0.0, 0.1, 2 / 3, 0.9, 1.0])
def test_a_line_never_leaves_its_ends(start, end):
    steps = jnp.arange(0, 1100)
    low, high = (jnp.float32(f(start, end)) for f in (min, max))
    for values in (
        schedules.linear(start, end, 997)(steps),
        jax.jit(schedules.linear(start, end, 997))(steps),
    ):
        assert (values >= low).all()
        assert (values <= high).all()
        np.testing.assert_allclose(values[jnp.array([0, 997, 1099])], [start, end, end], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("step", [0, 1, 2**24 + 1, 2**31 - 1])
def test_extreme_steps(step):
    for rate in (0.0, 0.3, 1.0):
        for schedule in (
            schedules.constant(rate),
            schedules.linear(rate, 1 - rate, 2**31 - 1),
            schedules.early(rate, 2**24 + 1),
            schedules.late(rate, 2**24 + 1),
            schedules.curriculum(rate, 1e30),
            schedules.curriculum(rate, 0.0),
        ):
            assert 0 <= float(schedule(step)) <= 1
    assert float(schedules.early(0.5, 2**24 + 1)(2**24)) == 0.5
    assert float(schedules.late(0.5, 2**24 + 1)(2**24)) == 0.0


def test_a_curriculum_of_no_speed_and_steps_before_the_first():
    assert float(schedules.curriculum(0.5, 0.0)(1000)) == 0.0
    assert float(schedules.curriculum(0.5, 0.1)(-5)) == 0.0
    assert float(schedules.curriculum(0.5, 10.0)(1000)) == 0.5


@pytest.mark.parametrize("step", [0, 1])
def test_a_curriculum_of_a_speed_beyond_float32(step):
    schedule = jax.jit(lambda gamma: schedules.curriculum(0.5, gamma)(step))
    assert schedule(jnp.inf) == 0.5 * step
    with warnings.catch_warnings(action="ignore"):  # of NumPy's, on the cast
        assert schedules.curriculum(0.5, 1e39)(step) == 0.5 * step


def test_rates_may_be_traced():
    """A sweep over rates, in one program."""
    rates, steps = jnp.array([0.1, 0.5]), jnp.int32(5)
    for make in (
        schedules.constant,
        lambda rate: schedules.linear(rate, 0.0, 10),
        lambda rate: schedules.early(rate, 10),
        lambda rate: schedules.late(rate, 3),
        lambda rate: schedules.curriculum(rate, rate),
    ):
        swept = jax.jit(jax.vmap(lambda rate, make=make: make(rate)(steps)))(rates)
        np.testing.assert_allclose(swept, [make(0.1)(5), make(0.5)(5)], rtol=1e-6)


def test_optax_joins_them():
    joined = optax.join_schedules([schedules.early(0.4, 10), schedules.constant(0.2)], [20])
    assert [round(float(joined(step)), 6) for step in (0, 10, 20)] == [0.4, 0.0, 0.2]


def test_depth_rates():
    np.testing.assert_allclose(schedules.depth_rates(0.5, 5), [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-12)
    np.testing.assert_allclose(schedules.depth_rates(0.3, 4, first=0.0), [0, 0.1, 0.2, 0.3], atol=1e-12)
    assert schedules.depth_rates(0.3, 1) == [0.3]
    assert schedules.depth_rates(0.3, 1, first=0.0) == [0.0]
    assert schedules.depth_rates(0.2, 2, first=0.4) == [0.4, 0.2]
    for rate in (1.0, 0.3, 0.1):
        rates = schedules.depth_rates(rate, 7)
        assert rates[-1] == rate
        assert all(type(value) is float and 0 <= value <= 1 for value in rates)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: schedules.constant(1.3), ValueError, "`rate` must lie in [0, 1], got 1.3."),
        (lambda: schedules.linear(-0.1, 0.5, 10), ValueError, "`start` must lie in [0, 1], got -0.1."),
        (lambda: schedules.linear(0.1, 1.5, 10), ValueError, "`end` must lie in [0, 1], got 1.5."),
        (lambda: schedules.linear(0.1, 0.5, 0), ValueError, "`steps` must be at least 1, got 0."),
        (lambda: schedules.linear(0.1, 0.5, 1.5), TypeError, "`steps` must be an integer, got 1.5."),
        (lambda: schedules.linear(0.1, 0.5, 5, begin=-1), ValueError, "`begin` must be at least 0, got -1."),
        (lambda: schedules.early(2.0, 10), ValueError, "`rate` must lie in [0, 1], got 2."),
        (lambda: schedules.early(2.0, 10, decay=True), ValueError, "`rate` must lie in [0, 1], got 2."),
        (lambda: schedules.early(0.5, 0), ValueError, "`steps` must be at least 1, got 0."),
        (lambda: schedules.late(0.5, -1), ValueError, "`begin` must be at least 0, got -1."),
        (lambda: schedules.late(0.5, "9"), TypeError, "`begin` must be an integer, got '9'."),
        (lambda: schedules.curriculum(0.5, -1), ValueError, "`gamma` must be finite and at least 0, got -1."),
        (
            lambda: schedules.constant(jnp.array([0.1, 0.2])),
            ValueError,
            "`rate` must be a scalar, got shape (2,).",
        ),
        (lambda: schedules.depth_rates(0.5, 0), ValueError, "`depth` must be at least 1, got 0."),
        (lambda: schedules.depth_rates(1.5, 3), ValueError, "`rate` must lie in [0, 1], got 1.5."),
        (
            lambda: schedules.depth_rates(0.5, 3, first=-1.0),
            ValueError,
            "`first` must lie in [0, 1], got -1.",
        ),
        (
            lambda: schedules.depth_rates(jnp.array([0.5]), 3),
            TypeError,
            "`rate` must be a number known when tracing, got [0.5].",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("step", [None, "5", 1j, object()])
def test_a_step_that_is_no_number(step):
    early, late = schedules.early(0.5, 3), schedules.late(0.5, 3)
    lines = (schedules.linear(0.0, 0.5, 3), schedules.early(0.5, 3, decay=True))
    for schedule in (schedules.constant(0.5), early, late, *lines, schedules.curriculum(0.5, 0.1)):
        with pytest.raises(TypeError, match="`step` must be a real number or an array of them, got "):
            schedule(step)
