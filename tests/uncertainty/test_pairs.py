"""Sums in two numbers against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.uncertainty import _pairs

RNG = np.random.default_rng(0)


def value(pair: jax.Array) -> float:
    return float(np.sum(np.asarray(pair, np.float64)))


@pytest.mark.slow
def test_a_million_values_and_their_squares():
    x = (1e4 + RNG.normal(size=1_000_000)).astype(np.float32)
    both = jax.jit(lambda x: (_pairs.total(x), _pairs.of_squares(x)))(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose([*map(value, both)], [wide.sum(), (wide**2).sum()], rtol=1e-10)


def test_many_small_numbers_beside_a_large_one():
    """Each alone would be lost in float32."""

    def added(sums: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
        return _pairs.add(sums, jnp.stack([x, 0 * x])), None

    start = jnp.array([1e8, 0.0])
    found, _ = jax.lax.scan(added, start, jnp.full(20_000, 0.1))
    np.testing.assert_allclose(value(found), 1e8 + 20_000 * float(np.float32(0.1)), rtol=1e-10)


def test_a_scaled_pair_and_a_large_count():
    count = _pairs.of_count(jnp.int32(2**24 + 1), jnp.float32)
    assert value(count) == 2**24 + 1
    by = jnp.float32(0.1)
    np.testing.assert_allclose(value(_pairs.scaled(count, by)), (2**24 + 1) * float(by), rtol=1e-13)


def test_an_infinite_sum_is_infinite():
    assert value(_pairs.total(jnp.array([1.0, np.inf, 2.0]))) == np.inf
    assert np.isnan(value(_pairs.total(jnp.array([1.0, np.nan]))))
