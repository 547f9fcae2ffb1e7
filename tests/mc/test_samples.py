"""The chunks of a sampler: rows by number, copied only where a chunk does not hold them all."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import mc
from jaxdrop.mc import _program, _samples

KEY = jax.random.key(0)
X = jnp.ones((2, 3))
ROWS = jnp.arange(5.0)


def drawn(chunk_size: int, chunk: int) -> jax.Array:
    predict = mc.Indexed(lambda row, key, t, x: row * x, ROWS)
    plan = _program.plan(predict, KEY, X, 10, chunk_size)
    static = plan.program.static
    return _samples.make_sampler(static, plan.arrays, KEY, X, plan.execution).draw(chunk)[:, 0, 0]


def test_a_chunk_has_the_rows_of_its_numbers():
    np.testing.assert_array_equal(drawn(3, 1), [3, 4, 0])
    np.testing.assert_array_equal(drawn(5, 0), ROWS)


def test_a_chunk_of_all_rows_has_no_copy():
    found = _samples._rows_of({"a": ROWS}, 0, jnp.arange(5))
    assert found["a"] is ROWS
