"""Loops: keys by step, one key for all steps, carried keys, loops backwards, outputs of the steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from tests.normals import standard_normal

W = standard_normal(0, (6, 6)) / 6**0.5
X = standard_normal(1, (2, 6))


def step(key: jax.Array, h: jax.Array) -> jax.Array:
    return jaxdrop.dropout(key, h, 0.25) @ W


def split_keys(key: jax.Array, x: jax.Array, loop: bool) -> jax.Array:
    keys = jax.random.split(key, 3)
    if loop:
        h, ys = jax.lax.scan(lambda h, key: (step(key, h), h.sum(-1)), x, keys)
        return h + ys.sum(0)[:, None]
    ys = jnp.zeros(len(x))
    for each in keys:
        ys, x = ys + x.sum(-1), step(each, x)
    return x + ys[:, None]


def carried(key: jax.Array, x: jax.Array, loop: bool) -> jax.Array:
    """A key and a counter are carried, backwards."""

    def once(carry: tuple, i: jax.Array) -> tuple:
        h, key, count = carry
        key, own = jax.random.split(key)
        return (step(jax.random.fold_in(own, i + count), h), key, count + 1), None

    start = x, key, jnp.int32(0)
    if loop:
        return jax.lax.scan(once, start, jnp.arange(3), reverse=True)[0][0]
    for i in (2, 1, 0):
        start, _ = once(start, i)
    return start[0]


def one_key(key: jax.Array, x: jax.Array, loop: bool) -> jax.Array:
    """One mask for all steps, as in a variational RNN."""
    if loop:
        return jax.lax.scan(lambda h, _: (step(key, h), None), x, None, length=3)[0]
    for _ in range(3):
        x = step(key, x)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("program", [split_keys, carried, one_key])
def test_a_loop_is_the_same_as_its_steps_in_a_row(program):
    found, expected = (
        mc.moments(lambda key, x, loop=loop: program(key, x, loop), X) for loop in (True, False)
    )
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-4, atol=1e-5)
    assert len(found.shares) == 2  # one site for all steps, and interactions


def test_draws_in_a_loop_within_a_loop_are_refused():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        def outer(h: jax.Array, keys: jax.Array) -> tuple:
            return jax.lax.scan(lambda h, key: (step(key, h), None), h, keys)[0], None

        return jax.lax.scan(outer, x, jax.random.split(key, (2, 3)))[0]

    with pytest.raises(ValueError, match="loop within a loop"):
        mc.moments(predict, X)
