"""Wrappers of NNX layers: other weights for a call, or no call at all."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
from jaxdrop.nnx import DropConnect, DropLayer, EmbeddingDropout, TargetedDropout
from tests.normals import standard_normal
from tests.shells import draws, loop_bodies, primitives

KEY = jax.random.key(3)
X = standard_normal(1, (6, 5, 4))


class Block(nnx.Module):
    """Of a shape that stays, with batch statistics and a random stream."""

    def __init__(self, rngs):
        self.dense, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, scale=1.0):
        return scale * self.dropout(self.norm(self.dense(x)))


def linear() -> nnx.Linear:
    return nnx.Linear(4, 3, rngs=nnx.Rngs(0))


def test_dropconnect_is_the_function_of_the_parameters():
    module = DropConnect(linear(), 0.5, bits=8)
    plain = linear()
    dropped = linear()
    nnx.update(dropped, jaxdrop.dropconnect(KEY, nnx.state(dropped, nnx.Param), 0.5, bits=8))
    np.testing.assert_array_equal(module(X, rngs=KEY), dropped(X))
    np.testing.assert_array_equal(module.layer.kernel[...], plain.kernel[...])
    np.testing.assert_array_equal(module(X, rate=0.0), plain(X))
    with pytest.raises(ValueError, match="`rngs` must be given to the constructor or the call"):
        module(X)
    module.eval()
    np.testing.assert_array_equal(module(X), plain(X))


def test_what_a_layer_keeps_beside_its_parameters_is_brought_up_to_date():
    module, block = DropConnect(Block(nnx.Rngs(0)), 0.5), Block(nnx.Rngs(0))
    nnx.update(block, jaxdrop.dropconnect(KEY, nnx.state(block, nnx.Param), 0.5))
    np.testing.assert_array_equal(module(X, rngs=KEY, scale=2.0), block(X, scale=2.0))
    others = nnx.Not(nnx.Param)
    got, expected = nnx.state(module.layer, others), nnx.state(block, others)
    assert int(got["dropout"]["rngs"]["count"][...]) == 1
    jax.tree.map(
        np.testing.assert_array_equal,
        nnx.to_pure_dict(nnx.filter_state(got, nnx.Not(nnx.RngKey))),
        nnx.to_pure_dict(nnx.filter_state(expected, nnx.Not(nnx.RngKey))),
    )
    assert np.any(module.layer.norm.mean[...] != 0)


def test_where_chooses_within_the_layer():
    module = DropConnect(linear(), 1.0, where=lambda path, leaf: path == "bias", rngs=nnx.Rngs(0))
    module.layer.bias[...] = 7.0
    np.testing.assert_array_equal(module(X), linear()(X))


def test_where_may_be_a_tree_of_booleans():
    module = DropConnect(linear(), 1.0, where={"kernel": True, "bias": False})
    expected = jnp.broadcast_to(module.layer.bias[...], (6, 5, 3))
    np.testing.assert_array_equal(module(X, rngs=KEY), expected)
    np.testing.assert_array_equal(nnx.jit(lambda module, key: module(X, rngs=key))(module, KEY), expected)


def test_around_a_recurrent_network_one_mask_serves_all_steps():
    layer = nnx.RNN(nnx.SimpleCell(4, 16, rngs=nnx.Rngs(0)))
    module = DropConnect(layer, 0.5, where=lambda path, leaf: "dense_h" in path and leaf.ndim == 2)
    graph, params, others = nnx.split(module, nnx.Param, ...)

    def loss(params):
        return jnp.sum(nnx.merge(graph, params, others, copy=True)(X, rngs=KEY))

    program = jax.make_jaxpr(loss)(params).jaxpr
    (body,) = loop_bodies(program)
    assert draws(program)
    assert not draws(body)
    cell = jax.jit(jax.grad(loss))(params)["layer"]["cell"]
    assert 0 < (cell["dense_h"]["kernel"][...] == 0).mean() < 1
    assert np.all(cell["dense_i"]["kernel"][...] != 0)


def test_embedding_dropout_drops_words():
    module = EmbeddingDropout(nnx.Embed(20, 4, rngs=nnx.Rngs(0)), 0.5)
    tokens = jnp.arange(20).reshape(2, 10)
    expected = jaxdrop.embedding_dropout(KEY, module.layer.embedding[...], 0.5)[tokens]
    np.testing.assert_array_equal(module(tokens, rngs=KEY), expected)
    assert np.any(np.all(expected == 0, axis=-1))


def test_targeted_dropout_prunes_small_weights():
    options = {"fraction": 0.5, "unit": True, "bits": 8}
    module = TargetedDropout(linear(), 0.7, **options)
    kernel = jaxdrop.targeted_dropout(KEY, module.layer.kernel[...], 0.7, **options)
    np.testing.assert_allclose(module(X, rngs=KEY), X @ kernel, rtol=1e-5, atol=1e-6)


def test_several_weights_have_draws_of_their_own():
    model = nnx.List([nnx.Param(jnp.ones((4, 4))), nnx.Param(jnp.ones((4, 4)))])

    class Two(nnx.Module):
        def __init__(self):
            self.kernels = model

        def __call__(self):
            return [kernel[...] for kernel in self.kernels]

    got = TargetedDropout(Two(), 0.5, fraction=1.0)(rngs=KEY)
    assert not np.array_equal(*got)
    for key, kernel in zip(jax.random.split(KEY), got, strict=True):
        np.testing.assert_array_equal(
            kernel, jaxdrop.targeted_dropout(key, jnp.ones((4, 4)), 0.5, fraction=1.0)
        )


def test_a_layer_without_weights():
    module = EmbeddingDropout(linear(), 0.5)
    with pytest.raises(ValueError, match=re.escape("`layer` must have weights to drop, got Linear.")):
        module(X, rngs=KEY)


def test_in_a_jitted_step_with_a_traced_rate():
    module = DropConnect(linear(), 0.9, rngs=nnx.Rngs(0))

    @nnx.jit
    def gradient(module, rate):
        return nnx.grad(lambda module: jnp.sum(module(X, rate=rate) ** 2))(module)

    assert np.all(gradient(module, 0.0)["layer"]["kernel"][...] != 0)
    assert np.all(gradient(module, 1.0)["layer"]["kernel"][...] == 0)
    assert int(module.rngs.count[...]) == 2


@pytest.mark.parametrize("seed", [1, 2])
def test_drop_layer_is_the_function(seed: int):
    module, key = DropLayer(Block(nnx.Rngs(0)), 0.5), jax.random.key(seed)
    y = module(X, rngs=key)
    expected = jaxdrop.drop_layer(key, X, 0.5, layer=lambda x: Block(nnx.Rngs(0))(x))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    mean = module.layer.norm.mean[...]
    assert np.all(mean == 0) if np.array_equal(y, X) else np.any(mean != 0)


def test_drop_layer_at_its_ends():
    module = DropLayer(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), 0.5)
    np.testing.assert_array_equal(module(X, rate=0.0), module.layer(X))
    np.testing.assert_array_equal(module(X, rate=1.0), X)
    assert np.isnan(jax.jit(lambda rate: module(X, rate=rate, rngs=KEY))(1.5)).all()
    module.eval()
    np.testing.assert_array_equal(module(X), module.layer(X))
    with pytest.raises(ValueError, match=re.escape("`layer(x)` must have the shape")):
        DropLayer(linear(), 0.5)(X, rngs=KEY)
    with pytest.raises(ValueError, match=re.escape("`rate` must lie in [0, 1], got 1.5.")):
        DropLayer(linear(), 1.5)


def test_a_skipped_layer_is_not_computed():
    """Its product lies in a branch of the program, not in its trunk."""
    module = DropLayer(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), 0.5)
    jaxpr = jax.make_jaxpr(lambda x: module(x, rngs=KEY))(X)
    trunk = [equation.primitive.name for equation in jaxpr.eqns]
    assert "cond" in trunk
    assert "dot_general" not in trunk
    assert "dot_general" in primitives(jaxpr.jaxpr)


class Loss(nnx.Variable):
    """What an auxiliary loss is sown into."""


@pytest.mark.slow
def test_what_it_sows_into_a_variable_of_its_own_is_lost_and_statistics_are_kept():
    class Auxiliary(Block):
        def __call__(self, x):
            self.sow(Loss, "auxiliary", x.sum())
            return super().__call__(x)

    wrapped = DropLayer(Auxiliary(nnx.Rngs(0)), 0.5, rngs=nnx.Rngs(1))
    before, moved = wrapped.layer.norm.mean[...], set()
    for _ in range(8):
        wrapped(X)
        assert not jax.tree.leaves(nnx.state(wrapped.layer, Loss))
        now = wrapped.layer.norm.mean[...]
        moved.add(bool((now != before).any()))
        before = now
    assert moved == {False, True}
    wrapped(X, deterministic=True)
    assert len(jax.tree.leaves(nnx.state(wrapped.layer, Loss))) == 1
    wrapped(X)
    assert len(jax.tree.leaves(nnx.state(wrapped.layer, Loss))) == 1


class Told(nnx.Module):
    """A layer that is told its mode in the call."""

    def __call__(self, x, deterministic):
        return 0 * x if deterministic else x


@pytest.mark.parametrize("wrapper", [DropLayer, DropConnect])
def test_a_layer_is_told_the_mode(wrapper):
    """Of the call or the constructor, if it takes one, and has no mode that is set."""
    for off in (True, False):
        y = wrapper(Told(), 0.0)(X, deterministic=off)
        np.testing.assert_array_equal(y, 0 if off else X)
        y = wrapper(Told(), 0.0, deterministic=off)(X)
        np.testing.assert_array_equal(y, 0 if off else X)
    own = wrapper(nnx.Dropout(0.5, deterministic=True), 0.0)
    np.testing.assert_array_equal(own(X, deterministic=False), X)
