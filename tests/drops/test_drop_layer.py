"""Drop layer: how often, what is computed, and its gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop

KEY = jax.random.key(11)


def test_how_often():
    keys = jax.random.split(KEY, 4000)
    y = jax.vmap(lambda key: jaxdrop.drop_layer(key, jnp.float32(1), 0.3, layer=lambda x: 10 * x))(keys)
    assert set(np.unique(y).tolist()) == {1.0, 10.0}
    assert abs((np.asarray(y) == 1).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 4000)


def test_a_skipped_layer_is_not_computed():
    calls = []

    def layer(x):
        jax.debug.callback(lambda: calls.append(1))
        return x + 1

    run = jax.jit(lambda key: jaxdrop.drop_layer(key, jnp.zeros(3), 0.5, layer=layer))
    results = [float(run(key)[0]) for key in jax.random.split(KEY, 20)]
    jax.effects_barrier()
    assert 0 < sum(results) < 20
    assert len(calls) == sum(results)


def test_gradients_reach_the_parameters_where_the_layer_ran():
    def loss(w, key):
        return jaxdrop.drop_layer(key, jnp.ones(3), 0.5, layer=lambda x: x * w).sum()

    keys = jax.random.split(KEY, 20)
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(loss), (None, 0)))(jnp.float32(2), keys)
    np.testing.assert_array_equal(grads, np.where(np.asarray(values) == 6, 3.0, 0.0))
    assert 0 < (np.asarray(grads) == 3).sum() < 20


def test_bad_input():
    with pytest.raises(
        ValueError, match=re.escape("`layer(x)` must have the shape and dtype of `x`, (3,) float32")
    ):
        jaxdrop.drop_layer(KEY, jnp.ones(3), 0.5, layer=jnp.sum)
    with pytest.raises(ValueError, match="`rate` must be a scalar"):
        jaxdrop.drop_layer(KEY, jnp.ones(3), jnp.array([0.5, 0.5]), layer=jnp.sin)
