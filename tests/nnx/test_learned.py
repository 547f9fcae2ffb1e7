"""NNX modules that own a rate, or masks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
from jaxdrop.nnx import ConcreteDropout, Masksembles
from jaxdrop.nnx.learned import Masks
from tests.normals import standard_normal

KEY = jax.random.key(3)
X = standard_normal(1, (8, 5))
KERNEL = jnp.ones((5, 2))


def test_concrete_dropout_is_the_function_of_its_logit():
    options = {"weight_strength": 0.1, "dropout_strength": 0.2, "temperature": 0.3, "broadcast_dims": (0,)}
    module = ConcreteDropout(0.25, **options)
    logit = module.logit[...]
    np.testing.assert_allclose(jax.nn.sigmoid(logit), 0.25, rtol=1e-6)
    y, penalty = module(X, rngs=KEY, kernel=KERNEL)
    expected = jaxdrop.concrete_dropout(KEY, X, logit, kernel=KERNEL, **options)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(penalty, expected[1])
    with pytest.raises(ValueError, match="`rngs` must be given to the constructor or the call"):
        module(X)
    module.eval()
    still, none = module(X, kernel=KERNEL)
    np.testing.assert_array_equal(still, X)
    assert none == 0


def test_the_rate_learns():
    """Of noise that only hurts, a step down the gradient takes some away."""

    def loss(module):
        y, penalty = module(X, kernel=KERNEL)
        return jnp.mean((y - X) ** 2) + penalty

    gradient = nnx.jit(nnx.grad(loss))(ConcreteDropout(0.5, rngs=nnx.Rngs(0)))
    assert gradient["logit"][...] > 0


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_that_cannot_be_learned_from(rate: float):
    message = re.escape(f"`rate` must lie in (0, 1), got {rate:g}.")
    with pytest.raises(ValueError, match=message):
        ConcreteDropout(rate)


def test_masksembles_draws_its_masks_once():
    module = Masksembles(10, 4, 2.0, channel_axis=1, rngs=nnx.Rngs(0))
    x = jnp.ones((8, 10, 3))
    expected = jaxdrop.masksembles_masks(nnx.Rngs(0).params(), 10, 4, 2.0)
    np.testing.assert_array_equal(module.masks[...], expected)
    np.testing.assert_array_equal(
        nnx.jit(lambda m: m(x))(module), jaxdrop.masksembles(x, expected, channel_axis=1)
    )
    assert not jax.tree.leaves(nnx.state(module, nnx.Param))
    graph, masks = nnx.split(module)
    assert isinstance(masks["masks"], Masks)
    np.testing.assert_array_equal(nnx.merge(graph, masks)(x), module(x))
