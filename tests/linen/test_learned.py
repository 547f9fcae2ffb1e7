"""Linen modules that own a rate, or masks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop.linen import ConcreteDropout, Masksembles
from tests.normals import standard_normal

KEY = jax.random.key(3)
X = standard_normal(1, (8, 5))
KERNEL = jnp.ones((5, 2))


def test_concrete_dropout_is_the_function_of_its_logit():
    options = {"weight_strength": 0.1, "dropout_strength": 0.2, "temperature": 0.3, "broadcast_dims": (0,)}
    module = ConcreteDropout(0.25, **options)
    variables = module.init(KEY, X, deterministic=True)
    (logit,) = jax.tree.leaves(variables)
    np.testing.assert_allclose(jax.nn.sigmoid(logit), 0.25, rtol=1e-6)
    y, penalty = module.apply(variables, X, deterministic=False, rng=KEY, kernel=KERNEL)
    expected = jaxdrop.concrete_dropout(KEY, X, logit, kernel=KERNEL, **options)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(penalty, expected[1])
    still, none = module.apply(variables, X, deterministic=True, kernel=KERNEL)
    np.testing.assert_array_equal(still, X)
    assert none == 0
    with pytest.raises(Exception, match="dropout"):
        module.apply(variables, X, deterministic=False)


def test_the_rate_learns():
    """Of noise that only hurts, a step down the gradient takes some away."""
    module = ConcreteDropout(0.5, deterministic=False)
    variables = module.init(KEY, X)

    @jax.jit
    def gradient(variables):
        def loss(variables):
            y, penalty = module.apply(variables, X, kernel=KERNEL, rngs={"dropout": KEY})
            return jnp.mean((y - X) ** 2) + penalty

        return jax.grad(loss)(variables)

    assert gradient(variables)["params"]["logit"] > 0


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_that_cannot_be_learned_from(rate: float):
    message = re.escape(f"`rate` must lie in (0, 1), got {rate:g}.")
    with pytest.raises(ValueError, match=message):
        ConcreteDropout(rate, deterministic=False).init(KEY, X)


def test_masksembles_draws_its_masks_once():
    module = Masksembles(4, 2.0, channel_axis=1)
    x = jnp.ones((8, 10, 3))
    variables = module.init(KEY, x)
    assert jax.tree.map(jnp.shape, variables) == {"masks": {"masks": (4, 10)}}
    masks = variables["masks"]["masks"]
    assert masks.dtype == bool
    y = jax.jit(module.apply)(variables, x)
    np.testing.assert_array_equal(y, jaxdrop.masksembles(x, masks, channel_axis=1))
    np.testing.assert_array_equal(masks.sum(1), jaxdrop.masksembles_masks(KEY, 10, 4, 2.0).sum(1))
    assert not np.array_equal(module.init(jax.random.key(9), x)["masks"]["masks"], masks)


def test_masksembles_is_made_from_one_example():
    """The batch is a multiple of the number of masks in calls alone."""
    module, x = Masksembles(4, 2.0), jnp.ones((1, 10))
    made = module.init(KEY, x)
    np.testing.assert_array_equal(
        made["masks"]["masks"], module.init(KEY, jnp.ones((8, 10)))["masks"]["masks"]
    )
    with pytest.raises(ValueError, match="multiple"):
        module.apply(made, x)


def test_masksembles_takes_a_list():
    module, x = Masksembles(num_masks=2, scale=2.0), [[1.0, 2.0], [3.0, 4.0]]
    found, variables = module.init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(found, module.apply(variables, jnp.array(x)))
