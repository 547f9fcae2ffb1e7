"""Keys as known numbers."""

import jax
import jax.numpy as jnp
import pytest

from jaxdrop import _visible
from jaxdrop.mc._moments import keys
from jaxdrop.mc._moments.values import KeyValue, RefusalError

KEY = _visible.key(jnp.array([0, 1], jnp.uint32))


def last(fun) -> list:
    closed = jax.make_jaxpr(fun)(KEY)
    return keys.outcomes(closed.jaxpr, closed.consts, [KeyValue(KEY)])


def test_equal_keys_are_found_however_they_are_derived():
    (a,), (b,) = last(lambda key: jax.random.split(key)[1]), last(lambda key: list(jax.random.split(key))[1])
    (c,) = last(lambda key: jax.random.fold_in(key, jnp.int32(3) + 4))
    (d,) = last(jax.jit(lambda key: jax.random.fold_in(key, 7)))
    assert keys.identity(a) == keys.identity(b) != keys.identity(c) == keys.identity(d)


def test_what_no_key_derives_is_unknown():
    assert last(lambda key: jax.random.bits(key)) == [None]
    assert last(lambda key: jax.random.key_data(key) ^ 1) == [None]


def test_the_keys_of_the_steps_of_a_loop():
    rows, looped = keys.identity(KeyValue(jax.random.split(KEY, 3), 1))
    assert looped
    assert len(set(rows)) == 3
    assert keys.identity(KeyValue(jnp.stack([KEY, KEY]), 1)) == keys.identity(KeyValue(KEY))
    with pytest.raises(RefusalError, match="equal keys"):
        keys.identity(KeyValue(jnp.stack([KEY, KEY])))
