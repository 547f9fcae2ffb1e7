"""Calls, branches and keys of a program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc

X = jnp.ones((2, 3))


def noisy(key: jax.Array, x: jax.Array) -> jax.Array:
    return x + jax.random.normal(key, x.shape)


@jax.custom_vjp
def doubled(x: jax.Array) -> jax.Array:
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (7 * g,))


@pytest.mark.parametrize(
    "predict",
    [
        jax.jit(lambda key, x: 2 * noisy(key, x)),
        jax.checkpoint(lambda key, x: 2 * noisy(key, x)),
        lambda key, x: doubled(noisy(key, x)),
        lambda key, x: jax.lax.platform_dependent(noisy(key, x), cuda=jnp.sin, default=lambda h: 2 * h),
        lambda key, x: jax.vmap(lambda key, row: 2 * noisy(key, row))(jax.random.split(key, len(x)), x),
    ],
)
def test_calls_are_opened(predict):
    found = mc.moments(predict, X)
    np.testing.assert_allclose(found.variance, 4, rtol=1e-6)
    assert found.rules == ()
