"""Whether outputs depend on a key, through everything that may take it and ignore it."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from jaxdrop.mc import _dependence
from tests.normals import standard_normal

KEY = jax.random.key(0)
X = standard_normal(1, (4, 8))


def uses_key(fun) -> bool:
    return any(_dependence.dependent_outputs(jax.make_jaxpr(fun)(KEY).jaxpr, [True]))


class Block(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x, _=None):
        return nn.Dropout(0.5, deterministic=not self.train)(nn.Dense(8)(x)), None


LIFTS = {
    "plain": lambda cls: cls,
    "remat": nn.remat,
    "jit": nn.jit,
    "scan": partial(
        nn.scan, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True}, length=2
    ),
}


@pytest.mark.parametrize("lift", LIFTS)
@pytest.mark.parametrize("train", [False, True])
def test_the_key_is_followed_into_lifted_modules(lift: str, train: bool):
    """They take the key in evaluation mode as well."""
    net = LIFTS[lift](Block)(train)
    variables = net.init({"params": KEY, "dropout": KEY}, X)
    assert uses_key(lambda key: net.apply(variables, X, rngs={"dropout": key})[0]) == train


def loop(key: jax.Array, draw: bool) -> jax.Array:
    def body(state):
        i, key, x = state
        key, own = jax.random.split(key)
        return i + 1, key, x + (jax.random.normal(own, x.shape) if draw else 1)

    return jax.lax.while_loop(lambda state: state[0] < 3, body, (0, key, X))[2]


@jax.custom_vjp
def doubled(key: jax.Array, x: jax.Array) -> jax.Array:
    return 2 * x


doubled.defvjp(lambda key, x: (2 * x, None), lambda _, g: (None, 2 * g))


@jax.custom_jvp
def noisy(key: jax.Array, x: jax.Array) -> jax.Array:
    return x + jax.random.normal(key, x.shape)


noisy.defjvp(lambda given, tangents: (noisy(*given), tangents[1]))


def with_a_reference(key: jax.Array) -> jax.Array:
    cell = jax.new_ref(X)
    cell[...] = X + jax.random.normal(key, X.shape)
    return cell[...]


def with_a_late_carry(key: jax.Array) -> jax.Array:
    """The key reaches the result in the third step."""
    start = (jax.random.normal(key, X.shape), X, X)
    return jax.lax.scan(lambda carry, _: ((carry[0], carry[0], carry[1]), carry[2]), start, length=3)[1]


USES = {
    "a loop that draws": (lambda key: loop(key, True), True),
    "a loop that only splits": (lambda key: loop(key, False), False),
    "the number of steps": (
        lambda key: jax.lax.fori_loop(0, jax.random.randint(key, (), 0, 3), lambda i, x: 2 * x, X),
        True,
    ),
    "a late carry": (with_a_late_carry, True),
    "a choice": (lambda key: jax.lax.cond(jax.random.bernoulli(key), lambda: X, lambda: -X), True),
    "branches": (lambda key: jax.lax.cond(X[0, 0] > 0, lambda key: X, lambda key: -X, key), False),
    "one branch": (
        lambda key: jax.lax.cond(X[0, 0] > 0, lambda key: X, lambda key: noisy(key, X), key),
        True,
    ),
    "a call": (lambda key: jax.jit(doubled)(key, X), False),
    "custom derivatives": (lambda key: doubled(key, X), False),
    "custom derivatives that draw": (lambda key: noisy(key, X), True),
    "a reference": (with_a_reference, True),
    "a callback": (
        lambda key: jax.pure_callback(
            lambda words: words, jax.random.key_data(key), jax.random.key_data(key)
        ),
        True,
    ),
    "one output of two": (lambda key: (X, noisy(key, X)), True),
    "the shape alone": (lambda key: (X, jnp.zeros_like(noisy(key, X))), False),
    "no output": (lambda key: (), False),
}


@pytest.mark.parametrize("name", USES)
def test_whether_the_outputs_depend_on_the_key(name: str):
    fun, expected = USES[name]
    assert uses_key(fun) == expected


def test_each_output_has_its_answer():
    def fun(a, b, c):
        return jax.jit(lambda a, b, c: (a + b, c, 2 * a, 3))(a, b, c)

    jaxpr = jax.make_jaxpr(fun)(1.0, 2.0, 3.0).jaxpr
    assert _dependence.dependent_outputs(jaxpr, [False, True, False]) == [True, False, False, False]
    assert _dependence.dependent_outputs(jaxpr, [True, False, True]) == [True, True, True, False]
