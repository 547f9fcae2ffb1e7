"""Streams that begin anew from a key."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdrop.nnx._streams import restart

KEY = jax.random.key(5)


def words(key):
    return jax.random.key_data(key).tolist()


def test_a_single_stream_takes_the_key_and_several_split_it():
    one = nnx.RngStream(0, tag="dropout")
    one()
    assert restart([one], KEY) == []
    assert words(one.key[...]) == words(KEY)
    assert int(one.count[...]) == 0
    streams = [nnx.RngStream(seed, tag="dropout") for seed in range(2)]
    (further,) = restart(streams, KEY, 1)
    found = [words(stream.key[...]) for stream in streams] + [words(further)]
    assert found == words(jax.random.split(KEY, 3))


def test_no_stream_leaves_the_key_to_the_other():
    (further,) = restart([], KEY, 1)
    assert words(further) == words(KEY)
    assert restart([], KEY) == []


def test_stacked_streams_and_untyped_keys():
    stacked = nnx.RngStream(jax.random.split(KEY, 3), tag="dropout")
    restart([stacked], jax.random.PRNGKey(5))
    np.testing.assert_array_equal(
        jax.random.key_data(stacked.key[...]), jax.random.key_data(jax.random.split(KEY, 3))
    )
    np.testing.assert_array_equal(stacked.count[...], jnp.zeros(3))
