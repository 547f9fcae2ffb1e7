"""What a function returns as it is."""

import jax
import jax.numpy as jnp
import pytest

from jaxdrop.nnx import _forwarding

X, Y = jnp.ones(3), jnp.zeros(3)


def swapped(both, z):
    return both[::-1]


@pytest.mark.parametrize("transform", [lambda fun: fun, jax.jit, jax.checkpoint])
def test_what_is_handed_through(transform):
    def some(both, z):
        return both[0], both[1] + z

    assert _forwarding.is_forwarded(transform(some), (X, Y), X) == [True, False]
    assert _forwarding.is_forwarded(jax.jit(lambda *of: transform(some)(*of)), (X, Y), X) == [True, False]


def test_another_argument_or_a_number_is_not_the_argument():
    assert _forwarding.is_forwarded(swapped, (X, Y), X) == [False, False]
    assert _forwarding.is_forwarded(jax.jit(swapped), (X, Y), X) == [False, False]
    assert _forwarding.is_forwarded(lambda both, z: (both[0], z), (X, Y), X) == [True, False]
    assert _forwarding.is_forwarded(lambda x, z: 1.0, 1.0, X) == [False]


def test_a_loop_is_not_looked_into():
    assert _forwarding.is_forwarded(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: x * 2, x), X) == [False]


def test_custom_derivatives_are_looked_into():
    @jax.custom_jvp
    def same(both):
        return both

    same.defjvps(lambda tangent, primal, both: tangent)
    assert _forwarding.is_forwarded(lambda both, z: same(both), (X, Y), X) == [True, True]
