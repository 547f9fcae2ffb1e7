"""Linen shells inside models; that a shell is the pure function is a law of the family."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop.linen

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (16, 8))


def mlp(dropout: type[nn.Module], **options) -> nn.Module:
    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            for _ in range(3):
                x = dropout(0.4, **options)(nn.relu(nn.Dense(32)(x)), deterministic=not train)
            return nn.Dense(1)(x)

    return MLP()


def test_dropout_takes_every_argument_of_flax():
    for ours, theirs in ((jaxdrop.linen.Dropout, nn.Dropout),):
        mine = list(inspect.signature(ours.__init__).parameters)
        flax = [
            name for name in inspect.signature(theirs.__init__).parameters if name not in ("parent", "name")
        ]
        assert mine[: len(flax)] == flax
        call = list(inspect.signature(ours.__call__).parameters)
        assert call[:4] == list(inspect.signature(theirs.__call__).parameters)


def test_a_model_switches_by_its_import():
    """With 32 bits the same variables, keys and masks give the same outputs and gradients."""
    ours, theirs = mlp(jaxdrop.linen.Dropout, bits=32), mlp(nn.Dropout)
    variables = theirs.init(KEY, X, train=False)
    assert jax.tree.structure(ours.init(KEY, X, train=False)) == jax.tree.structure(variables)

    def loss(model, variables):
        return jnp.mean(model.apply(variables, X, train=True, rngs={"dropout": KEY}) ** 2)

    for f in (loss, jax.grad(loss, 1)):
        for mine, flax in zip(
            jax.tree.leaves(f(ours, variables)), jax.tree.leaves(f(theirs, variables)), strict=True
        ):
            np.testing.assert_allclose(mine, flax, rtol=1e-5, atol=1e-6)


def test_each_site_and_key_has_its_own_draw():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            drop = jaxdrop.linen.Dropout(0.5, deterministic=False)
            return drop(x), drop(x), jaxdrop.linen.Dropout(0.5, deterministic=False)(x)

    draws = [
        *Two().apply({}, X, rngs={"dropout": KEY}),
        *Two().apply({}, X, rngs={"dropout": jax.random.key(9)}),
    ]
    assert len({np.asarray(draw).tobytes() for draw in draws}) == 6


def test_another_collection_and_missing_arguments():
    module = jaxdrop.linen.AlphaDropout(0.5, rng_collection="noise")
    assert module.apply({}, X, deterministic=False, rngs={"noise": KEY}).shape == X.shape
    with pytest.raises(Exception, match="noise"):
        module.apply({}, X, deterministic=False, rngs={"dropout": KEY})
    with pytest.raises(ValueError, match="deterministic"):
        module.apply({}, X, rngs={"noise": KEY})


def test_a_scheduled_rate_compiles_once():
    traces = []

    @jax.jit
    def f(rate, key):
        traces.append(1)
        module = jaxdrop.linen.SpatialDropout(0.9, deterministic=False)
        return module.apply({}, X, rate=rate, rngs={"dropout": key})

    shares = [float((f(rate, KEY) == 0).mean()) for rate in (0.0, 0.5, 1.0)]
    assert shares[0] == 0
    assert 0 < shares[1] < 1
    assert shares[2] == 1
    assert len(traces) == 1
