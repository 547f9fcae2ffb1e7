"""Wrappers of Linen layers: other weights for a call, or no call at all."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop.linen import DropConnect, DropLayer, EmbeddingDropout, TargetedDropout
from tests.normals import standard_normal
from tests.shells import draws, loop_bodies, primitives

KEY = jax.random.key(3)
X = standard_normal(1, (6, 5, 4))


class Block(nn.Module):
    """Of a shape that stays, with batch statistics."""

    @nn.compact
    def __call__(self, x, scale=1.0):
        return scale * nn.BatchNorm(use_running_average=False, momentum=0.5)(nn.Dense(4)(x))


def start(module: nn.Module, x=X):
    return module.init(jax.random.key(0), x, deterministic=True)


def inner(variables) -> dict:
    return {name: tree["layer"] for name, tree in variables.items()}


def test_dropconnect_is_the_function_of_the_parameters():
    module = DropConnect(nn.Dense(3), 0.5, bits=8)
    variables = start(module)
    params = inner(variables)["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (4, 3), "bias": (3,)}
    dropped = jaxdrop.dropconnect(KEY, params, 0.5, bits=8)
    expected = nn.Dense(3).apply({"params": dropped}, X)
    np.testing.assert_array_equal(module.apply(variables, X, deterministic=False, rng=KEY), expected)
    plain = nn.Dense(3).apply({"params": params}, X)
    np.testing.assert_array_equal(module.apply(variables, X, deterministic=True), plain)
    np.testing.assert_array_equal(module.apply(variables, X, deterministic=False, rate=0.0), plain)
    with pytest.raises(Exception, match="dropout"):
        module.apply(variables, X, deterministic=False)


def test_what_a_layer_keeps_beside_its_parameters_is_brought_up_to_date():
    module = DropConnect(Block(), 0.5, deterministic=False)
    variables = module.init(jax.random.key(0), X)
    dropped = jaxdrop.dropconnect(KEY, inner(variables)["params"], 0.5)
    y, after = module.apply(variables, X, rng=KEY, scale=2.0, mutable=["batch_stats"])
    own = {**inner(variables), "params": dropped}
    expected, stats = Block().apply(own, X, scale=2.0, mutable=["batch_stats"])
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, inner(after), stats)


def test_where_chooses_within_the_layer():
    module = DropConnect(Block(), 1.0, where=lambda path, leaf: path == "Dense_0/bias", deterministic=False)
    variables = module.init(jax.random.key(0), X)
    variables["params"]["layer"]["Dense_0"]["bias"] += 7.0
    y, _ = module.apply(variables, X, rng=KEY, mutable=["batch_stats"])
    variables["params"]["layer"]["Dense_0"]["bias"] *= 0
    expected, _ = module.apply(variables, X, deterministic=None, rng=KEY, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, expected)


def test_where_may_be_a_tree_of_booleans():
    module = DropConnect(nn.Dense(3), 0.5, where={"kernel": False, "bias": True})
    variables = start(module)
    variables = jax.tree.map(lambda leaf: leaf + 1, variables)
    dropped = jaxdrop.dropconnect(KEY, inner(variables)["params"], 0.5, where=lambda path, _: path == "bias")
    expected = nn.Dense(3).apply({"params": dropped}, X)
    np.testing.assert_array_equal(module.apply(variables, X, deterministic=False, rng=KEY), expected)


def test_what_a_layer_that_may_be_skipped_sows_is_lost():
    module = DropLayer(nn.Dense(4), 0.5)
    variables = start(module)
    expected = module.apply(variables, X, deterministic=False, rng=KEY)
    y, found = module.apply(
        variables, X, deterministic=False, rng=KEY, capture_intermediates=True, mutable=["intermediates"]
    )
    np.testing.assert_array_equal(y, expected)
    assert list(found["intermediates"]) == ["__call__"]


def test_what_it_sows_into_a_collection_of_its_own_is_lost_and_statistics_are_kept():
    class Auxiliary(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("losses", "size", x.sum())
            return nn.BatchNorm(use_running_average=False)(nn.Dense(4)(x))

    module = DropLayer(Auxiliary(), 0.5)
    sown = module.init(KEY, X, deterministic=True)
    assert "losses" in sown
    variables = {name: sown[name] for name in ("params", "batch_stats")}
    module.apply(sown, X, deterministic=False, rng=KEY, mutable=["losses", "batch_stats"])
    moved = set()
    for seed in range(6):
        _, found = module.apply(
            variables, X, deterministic=False, rng=jax.random.key(seed), mutable=["losses", "batch_stats"]
        )
        assert "losses" not in found
        pairs = zip(*map(jax.tree.leaves, (found["batch_stats"], variables["batch_stats"])), strict=True)
        moved.add(any((a != b).any() for a, b in pairs))
    assert moved == {False, True}


def test_around_a_recurrent_network_one_mask_serves_all_steps():
    """Made in one compact method, each scope of parameters gets its masks, and paths stay."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            layer = nn.RNN(nn.SimpleCell(16))
            if train:
                layer = DropConnect(layer, 0.5, where=lambda path, _: path[0] == "h", deterministic=False)
            return layer(x)

    plain = jax.jit(lambda: Model().init(KEY, X, train=False))()
    noisy = jax.eval_shape(lambda: Model().init(KEY, X, train=True))
    assert jax.tree.structure(plain) == jax.tree.structure(noisy)

    def loss(variables):
        return jnp.sum(Model().apply(variables, X, train=True, rngs={"dropout": KEY}))

    program = jax.make_jaxpr(loss)(plain).jaxpr
    (body,) = loop_bodies(program)
    assert draws(program)
    assert not draws(body)
    cell = jax.jit(jax.grad(loss))(plain)["params"]["SimpleCell_0"]
    assert 0 < (cell["h"]["kernel"] == 0).mean() < 1
    assert np.all(cell["i"]["kernel"] != 0)


def test_a_layer_of_parts_made_beside_it():
    """Each part has its tree of parameters, and each tree its own draw; paths stay."""

    class Pair(nn.Module):
        a: nn.Module
        b: nn.Module

        def __call__(self, x):
            return self.a(x), self.b(x)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            pair = Pair(nn.Dense(4, use_bias=False), nn.Dense(4, use_bias=False))
            return DropConnect(pair, 0.5, deterministic=False)(x)

    variables = jax.tree.map(jnp.ones_like, Model().init(KEY, X))
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "Dense_0": {"kernel": (4, 4)},
        "Dense_1": {"kernel": (4, 4)},
    }
    first, second = Model().apply(variables, jnp.eye(4), rngs={"dropout": KEY})
    assert set(np.unique(first)) == set(np.unique(second)) == {0.0, 2.0}
    assert not np.array_equal(first, second)


def test_embedding_dropout_drops_words():
    module = EmbeddingDropout(nn.Embed(20, 4), 0.5, deterministic=False)
    tokens = jnp.arange(20).reshape(2, 10)
    variables = module.init(KEY, tokens)
    table = inner(variables)["params"]["embedding"]
    expected = jaxdrop.embedding_dropout(KEY, table, 0.5)[tokens]
    np.testing.assert_array_equal(module.apply(variables, tokens, rng=KEY), expected)
    assert np.any(np.all(expected == 0, axis=-1))


def test_targeted_dropout_prunes_small_weights():
    options = {"fraction": 0.5, "unit": True, "bits": 8}
    module = TargetedDropout(nn.Dense(6, use_bias=False), 0.7, **options, deterministic=False)
    variables = module.init(KEY, X)
    kernel = jaxdrop.targeted_dropout(KEY, inner(variables)["params"]["kernel"], 0.7, **options)
    np.testing.assert_allclose(module.apply(variables, X, rng=KEY), X @ kernel, rtol=1e-5, atol=1e-6)


def test_several_weights_have_draws_of_their_own():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4, name="a")(x), nn.Dense(4, name="b")(x)

    module = TargetedDropout(Two(), 0.5, fraction=1.0, deterministic=False)
    variables = module.init(KEY, X)
    same = jax.tree.map(jnp.ones_like, variables)
    first, second = module.apply(same, jnp.eye(4), rngs={"dropout": KEY})
    assert not np.array_equal(first, second)
    two = inner(same)["params"]
    keys = jax.random.split(KEY)
    expected = [
        jnp.eye(4) @ jaxdrop.targeted_dropout(key, two[name]["kernel"], 0.5, fraction=1.0) + 1
        for key, name in zip(keys, "ab", strict=True)
    ]
    got = module.apply(same, jnp.eye(4), rng=KEY)
    jax.tree.map(np.testing.assert_array_equal, list(got), expected)


def test_a_layer_without_weights():
    module = EmbeddingDropout(nn.Dense(3), 0.5, deterministic=False)
    with pytest.raises(ValueError, match=re.escape("`layer` must have weights to drop, got Dense.")):
        module.apply(module.init(KEY, X), X, rng=KEY)


def test_in_a_jitted_step_with_a_traced_rate():
    module = DropConnect(nn.Dense(3), 0.9, deterministic=False)
    variables = start(DropConnect(nn.Dense(3), 0.9))

    @jax.jit
    def gradient(rate):
        def loss(variables):
            return jnp.sum(module.apply(variables, X, rate=rate, rngs={"dropout": KEY}) ** 2)

        return jax.grad(loss)(variables)["params"]["layer"]["kernel"]

    assert np.all(gradient(0.0) != 0)
    assert np.all(gradient(1.0) == 0)


@pytest.mark.parametrize("seed", [1, 2])
def test_drop_layer_is_the_function(seed: int):
    module = DropLayer(Block(), 0.5, deterministic=False)
    variables = module.init(jax.random.key(0), X)
    assert set(inner(variables)["params"]) == {"Dense_0", "BatchNorm_0"}

    def layer(x):
        return Block().apply(inner(variables), x, mutable=["batch_stats"])[0]

    key = jax.random.key(seed)
    y, after = module.apply(variables, X, rng=key, mutable=["batch_stats"])
    np.testing.assert_allclose(y, jaxdrop.drop_layer(key, X, 0.5, layer=layer), rtol=1e-5, atol=1e-6)
    skipped = np.array_equal(y, X)
    mean = after["batch_stats"]["layer"]["BatchNorm_0"]["mean"]
    assert np.all(mean == 0) if skipped else np.any(mean != 0)


def test_drop_layer_at_its_ends():
    module = DropLayer(nn.Dense(4), 0.5, deterministic=False)
    variables = module.init(jax.random.key(0), X)
    plain = nn.Dense(4).apply(inner(variables), X)
    np.testing.assert_array_equal(module.apply(variables, X, rate=0.0), plain)
    np.testing.assert_array_equal(module.apply(variables, X, rate=1.0), X)
    still = DropLayer(nn.Dense(4), 0.5, deterministic=True)
    np.testing.assert_array_equal(still.apply(variables, X), plain)
    assert np.isnan(jax.jit(lambda rate: module.apply(variables, X, rate=rate, rng=KEY))(1.5)).all()
    wide = DropLayer(nn.Dense(5), 0.5, deterministic=False)
    with pytest.raises(ValueError, match=re.escape("`layer(x)` must have the shape")):
        wide.init(KEY, X)


def test_a_skipped_layer_is_not_computed():
    """Its product lies in a branch of the program, not in its trunk."""
    module = DropLayer(nn.Dense(4), 0.5, deterministic=False)
    variables = module.init(jax.random.key(0), X)
    jaxpr = jax.make_jaxpr(lambda x: module.apply(variables, x, rngs={"dropout": KEY}))(X)
    trunk = [equation.primitive.name for equation in jaxpr.eqns]
    assert "cond" in trunk
    assert "dot_general" not in trunk
    assert "dot_general" in primitives(jaxpr.jaxpr)


class Told(nn.Module):
    """A layer that is told its mode in the call."""

    def __call__(self, x, deterministic):
        return 0 * x if deterministic else x


@pytest.mark.parametrize("wrapper", [DropLayer, DropConnect])
def test_a_layer_is_told_the_mode(wrapper):
    """Of the call or the constructor, if it takes one, and has no mode that is set."""
    for off in (True, False):
        y = wrapper(Told(), 0.0).apply({}, X, deterministic=off)
        np.testing.assert_array_equal(y, 0 if off else X)
        y = wrapper(Told(), 0.0, deterministic=off).apply({}, X)
        np.testing.assert_array_equal(y, 0 if off else X)
    own = wrapper(nn.Dropout(0.5, deterministic=True), 0.0)
    np.testing.assert_array_equal(own.apply({}, X, deterministic=False), X)
