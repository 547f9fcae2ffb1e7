"""L2 in the gradient and past the optimizer, against optax's own decays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdrop import optim, penalties

PARAMS = {"kernel": jnp.linspace(-2.0, 2.0, 12).reshape(4, 3), "bias": jnp.ones(3)}
TARGET = {"kernel": jnp.full((4, 3), 0.7), "bias": jnp.zeros(3)}


def loss(params):
    differences = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 4), params, TARGET)
    return sum(jax.tree.leaves(differences))


def train(optimizer, objective=loss, steps=20):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), a, b)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [optax.sgd(0.01, momentum=0.9), optax.adam(0.05)])
def test_coupled_is_the_penalty(optimizer):
    chained = train(optax.chain(optim.coupled_l2(0.3), optimizer))
    assert_same(chained, train(optimizer, lambda params: loss(params) + penalties.l2(params, 0.3)))
    decay = optax.add_decayed_weights(0.6, mask=penalties.weight_mask)
    assert_same(chained, train(optax.chain(decay, optimizer)))


@pytest.mark.slow
def test_decoupled_is_adamw_of_twice_the_strength():
    mine = train(optax.chain(optax.adam(0.05), optim.decoupled_l2(0.3, 0.05)))
    assert_same(mine, train(optax.adamw(0.05, weight_decay=0.6, mask=penalties.weight_mask)))


def test_decoupled_follows_adamw_s_schedule():
    rate = optax.linear_schedule(0.05, 0.0, 15)
    mine = train(optax.chain(optax.adam(rate), optim.decoupled_l2(0.3, rate)))
    assert_same(mine, train(optax.adamw(rate, weight_decay=0.6, mask=penalties.weight_mask)))


def test_with_plain_sgd_both_are_one():
    coupled = train(optax.chain(optim.coupled_l2(0.3), optax.sgd(0.01)))
    assert_same(coupled, train(optax.chain(optax.sgd(0.01), optim.decoupled_l2(0.3, 0.01))))


def test_with_adam_they_are_not():
    coupled = train(optax.chain(optim.coupled_l2(0.3), optax.adam(0.05)))
    decoupled = train(optax.chain(optax.adam(0.05), optim.decoupled_l2(0.3, 0.05)))
    assert np.abs(coupled["kernel"] - decoupled["kernel"]).max() > 0.01
