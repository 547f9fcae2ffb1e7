"""Keys whose draws stay visible: canaries on the private names of JAX that the analysis relies on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrop
from jaxdrop import _bits, _visible

WORDS = jnp.array([3, 5], jnp.uint32)


def calls(fun) -> list[str]:
    """The names of the jitted calls of a function of a visible key, in order."""

    def names(jaxpr) -> list[str]:
        found = []
        for eqn in jaxpr.eqns:
            found += [eqn.params["name"]] if "name" in eqn.params else []
            inner = [value for value in eqn.params.values() if hasattr(value, "eqns")]
            found += [name for one in inner for name in names(getattr(one, "jaxpr", one))]
        return found

    return names(jax.make_jaxpr(fun)(_visible.key(WORDS)).jaxpr)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda key: jax.random.bernoulli(key, 0.3, (4,)), "_bernoulli"),
        (lambda key: jax.random.normal(key, (4,)), "_normal"),
        (lambda key: jax.random.uniform(key, (4,)), "_uniform"),
        (lambda key: jax.random.gumbel(key, (4,)), "_uniform"),
        (lambda key: jaxdrop.dropout(key, jnp.ones(4), 0.5), "_bernoulli"),
        (lambda key: jaxdrop.dropout(key, jnp.ones(4), 0.5, bits=32), "_bernoulli"),
        (lambda key: jaxdrop.gaussian_noise(key, jnp.ones(4), 0.5), "_normal"),
        (lambda key: jaxdrop.neftune(key, jnp.ones((1, 2, 2)), 0.5), "_uniform"),
        (
            lambda key: nn.Dropout(0.5, deterministic=False).apply({}, jnp.ones(4), rngs={"dropout": key}),
            "_bernoulli",
        ),
    ],
)
def test_draws_are_calls_of_these_names(draw, name: str):
    assert name in calls(draw)


def test_keys_and_draws_are_those_of_threefry():
    key, plain = _visible.key(WORDS), jax.random.wrap_key_data(WORDS, impl="threefry2x32")
    for derive in (lambda key: jax.random.split(key, 3)[1], lambda key: jax.random.fold_in(key, 7)):
        np.testing.assert_array_equal(jax.random.key_data(derive(key)), jax.random.key_data(derive(plain)))
        key, plain = derive(key), derive(plain)
    np.testing.assert_array_equal(jax.random.normal(key, (5,)), jax.random.normal(plain, (5,)))


def test_seeds_say_the_kind():
    seed = _bits.consume(_visible.key(WORDS))
    assert seed.impl == _visible.IMPL
    parts = _bits.split(_visible.key(WORDS), 2)
    assert {_bits.consume(part).impl for part in parts} == {_visible.IMPL}
    assert [part.impl for part in _bits.split_seed(seed, 2)] == [_visible.IMPL] * 2
