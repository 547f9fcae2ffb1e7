"""Random arguments of the whole public API: a right value, or an error that names the argument.

The default run is short and always the same. `JAXDROP_FUZZ=600 python -m pytest -n 0 tests/test_fuzz.py`
tries new arguments for 600 seconds.
"""

import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from tests import fuzz
from tests.calls import CALLS

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
pytestmark = pytest.mark.usefixtures("compiled_in_haste")

SECONDS = float(os.environ.get("JAXDROP_FUZZ", "0"))
SHORT = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
NAMES = [name for name, one in CALLS.items() if one.args and not name.startswith(fuzz.OF_OTHERS)]


def run(check: Any, count: int, *strategies: Any) -> None:
    """Tries a property on `count` examples; in a long run on new ones until the time is over."""
    hypothesis.settings(SHORT, max_examples=count)(hypothesis.given(*strategies)(check))()
    end = time.monotonic() + SECONDS / 2
    while time.monotonic() < end:
        again = hypothesis.seed(time.monotonic_ns())(hypothesis.given(*strategies)(check))
        hypothesis.settings(SHORT, derandomize=False)(again)()


def test_a_value_or_an_error_of_ours():
    def check(data: Any) -> None:
        def choose(options: Any) -> Any:
            return data.draw(st.sampled_from(options))

        name = choose(NAMES)
        args, changes = fuzz.changed(name, CALLS[name], choose, choose([1, 1, 2]))
        found = fuzz.fault(name, CALLS[name], args)
        assert found is None, f"{name} with {changes}: {found}"

    run(check, 100, st.data())


SHAPES = [(), (1,), (0,), (5,), (2, 0), (3, 1), (2, 3, 4)]
RATES = [0.0, 1e-40, 1e-5, 0.004, 0.3, 0.999, 1 - 1e-7, 1.0]
FLOATS = ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
BITS = [None, 8, 16, 24, 32]
KINDS = ["threefry2x32", "rbg", "unsafe_rbg"]


def realized(rate: float, bits: int | None, traced: bool) -> float:
    """The probability of keeping that a mask of so many bits has."""
    keep = 1 - float(np.float32(rate))
    if bits == 32:
        return keep
    if bits is None:
        error = abs(round((1 - rate) * 2**16) / 2**16 - (1 - rate))
        bits = 16 if traced or error <= 1e-3 * min(rate, 1 - rate) else 24
    return round(keep * 2**bits) / 2**bits


def test_kept_elements_are_scaled_exactly():
    """Against float64: kept elements are divided by the realized probability, and rounded once."""
    jitted = jax.jit(jaxdrop.dropout, static_argnames="bits")

    def check(shape: tuple, dtype: str, rate: float, kind: str, bits: int | None, traced: bool) -> None:
        key, x = jax.random.key(5, impl=kind), jnp.linspace(0.5, 2, int(np.prod(shape)))
        x = x.reshape(shape).astype(dtype)
        try:
            y = (jitted if traced else jaxdrop.dropout)(key, x, rate, bits=bits)
        except ValueError as error:
            assert "`bits` must be enough" in str(error)  # noqa: PT017 - an outcome, not the test
            return
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        given, found = np.asarray(x, np.float64), np.asarray(y, np.float64)
        expected = np.where(found != 0, given / (realized(rate, bits, traced) or 1), 0)
        np.testing.assert_allclose(found, expected, rtol=1.1 * float(jnp.finfo(dtype).eps) + 3e-7)
        if rate == 0:
            np.testing.assert_array_equal(found, given)
        if rate == 1:
            assert not found.any()

    run(check, 30, *map(st.sampled_from, (SHAPES, FLOATS, RATES, KINDS, BITS, [False, True])))
