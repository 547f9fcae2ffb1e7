"""The pattern of a softmax, and its moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc._moments import softmax
from tests.normals import standard_normal

X = standard_normal(0, (2, 6))


@pytest.mark.parametrize(
    "fun",
    [
        jax.nn.softmax,
        nn.softmax,
        lambda x: jax.nn.softmax(x, axis=(0, 1)),
        lambda x: jax.nn.softmax(x.astype(jnp.bfloat16)),
    ],
)
def test_canary_of_the_pattern(fun):
    """If JAX spells a softmax otherwise, `find` must learn that."""
    found = []

    def search(jaxpr) -> None:
        found.append(softmax.find(jaxpr))
        for eqn in jaxpr.eqns:
            for value in eqn.params.values():
                if hasattr(value, "eqns"):
                    search(getattr(value, "jaxpr", value))

    search(jax.make_jaxpr(fun)(X).jaxpr)
    assert sum(len(one.ends) for one in found) == 1


@pytest.mark.slow
def test_moments_of_a_softmax():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        return jax.nn.softmax(x + 0.5 * jax.random.normal(key, x.shape))

    found = mc.moments(predict, X)
    samples = jax.vmap(lambda key: predict(key, X))(jax.random.split(jax.random.key(1), 20_000))
    np.testing.assert_allclose(found.mean, samples.mean(0), atol=0.02)
    np.testing.assert_allclose(np.sqrt(found.variance), samples.std(0), rtol=0.25)
    np.testing.assert_allclose(found.mean.sum(-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_hidden_logits():
    def predict(key: jax.Array, x: jax.Array) -> jax.Array:
        return jax.nn.softmax(jaxdrop.drop_key(key, x[:, None], 0.2), -1)[:, 0]

    found = mc.moments(predict, X)
    samples = jax.vmap(lambda key: predict(key, X))(jax.random.split(jax.random.key(1), 20_000))
    np.testing.assert_allclose(found.mean, samples.mean(0), atol=0.08)
    np.testing.assert_allclose(np.sqrt(found.variance), samples.std(0), rtol=0.25, atol=0.02)
    assert "softmax: hidden logits one at a time" in found.rules


def test_sums_along_another_axis_are_no_softmax():
    def powers(x: jax.Array) -> jax.Array:
        square = jnp.outer(x[0], x[0])
        return jnp.exp(square - square.max(-1, keepdims=True))

    along = jax.make_jaxpr(lambda x: powers(x) / powers(x).sum(-1)[:, None])
    assert not softmax.find(along(X).jaxpr).ends  # of another array
    for over, count in (((slice(None), None), 1), ((None, slice(None)), 0)):

        def divided(x: jax.Array, over: tuple = over) -> jax.Array:
            power = powers(x)
            return power / power.sum(-1)[over]

        assert len(softmax.find(jax.make_jaxpr(divided)(X).jaxpr).ends) == count
