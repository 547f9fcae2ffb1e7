"""Predictors of Linen models: who draws, what stays as it is, and the defects of others."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop.linen as jl
from jaxdrop import mc
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X = standard_normal(1, (4, 8))


class Many(nn.Module):
    """A module of every kind that draws, told of its mode in every way that there is."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dropout(0.5, deterministic=not train, name="field")(nn.Dense(16)(x))
        x = nn.Dropout(0.4, name="argument")(x, not train)
        x = jl.Dropout(0.3, name="ours")(x, deterministic=not train)
        x = jl.Dropout(0.0, name="called")(x, deterministic=not train, rate=0.2)
        x = jl.GaussianNoise(1.0, name="noise", deterministic=not train)(x)
        x = jl.MCDropout(0.5, name="always")(x)
        x = jl.DropConnect(nn.Dense(16), 0.4, name="weights")(x, deterministic=not train)
        x = nn.Dropout(0.0, deterministic=not train, name="idle")(x)
        steps = x[:, None].repeat(3, 1)
        attention = nn.MultiHeadDotProductAttention(
            2, dropout_rate=0.3, deterministic=not train, broadcast_dropout=False, name="attention"
        )
        steps = attention(steps)
        split = {"params": False, "dropout": True}
        zoneout = jl.ZoneoutCell(nn.LSTMCell(8), 0.4, deterministic=not train, name="zoneout")
        steps = nn.RNN(zoneout, split_rngs=split)(steps)
        recurrent = jl.RecurrentDropoutCell(nn.LSTMCell(8), 0.4, deterministic=not train, name="recurrent")
        return nn.Dense(3)(nn.RNN(recurrent)(steps)[:, -1])


KINDS = {
    "field": "Dropout",
    "argument": "Dropout",
    "ours": "Dropout",
    "called": "Dropout",
    "noise": "GaussianNoise",
    "always": "MCDropout",
    "weights": "DropConnect",
    "attention": "MultiHeadDotProductAttention",
    "zoneout": "ZoneoutCell",
    "recurrent": "RecurrentDropoutCell",
}


@pytest.fixture(scope="module")
def variables():
    return Many().init({"params": KEY, "dropout": KEY}, X)


@pytest.mark.slow
def test_sites_are_listed(variables):
    predict = jl.stochastic(Many(), variables, X)
    assert {site.path: site.kind for site in predict.sites} == KINDS
    rates = {site.path: site.rate for site in predict.sites}
    assert rates["called"] == "0.2"
    assert rates["noise"] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("path", KINDS)
def test_each_site_draws_alone(variables, path: str):
    predict = jl.stochastic(Many(), variables, X, sites=path)
    assert [site.path for site in predict.sites] == [path]
    samples = np.asarray(mc.sample(predict, KEY, X, num_samples=16))
    assert len(np.unique(samples[:, 0], axis=0)) > 4


@pytest.mark.slow
def test_the_last(variables):
    assert [site.path for site in jl.stochastic(Many(), variables, X, sites="last").sites] == ["recurrent"]


@pytest.mark.slow
def test_a_sample_is_a_pass_in_training_mode(variables):
    predict = jl.stochastic(Many(), variables, X)
    expected = Many().apply(variables, X, train=True, rngs={"dropout": KEY})
    np.testing.assert_allclose(predict(KEY, X), expected, rtol=1e-5, atol=1e-6)


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        x = nn.SpectralNorm(nn.Dense(8))(x, update_stats=train)
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
def test_what_is_learnt_from_batches_is_used_and_not_changed(train: bool):
    """Predicting changes running statistics in lightning-uq-box, whose BatchNorm is left in training mode."""
    net = Normalized()
    variables = net.init({"params": KEY, "dropout": KEY}, X, train=False)
    variables = jax.tree.map(lambda leaf: leaf + 0.3, variables)
    before = jax.tree.map(np.array, variables)
    predict = jl.stochastic(net, variables, X, train=train)
    alone = mc.sample(predict, KEY, X[:1], num_samples=3)
    jax.tree.map(np.testing.assert_array_equal, predict.variables, before)
    # The statistics are those of training, not of this batch.
    np.testing.assert_allclose(mc.sample(predict, KEY, X, num_samples=3)[:, :1], alone, rtol=1e-4, atol=1e-5)


def test_masks_of_layers_of_one_shape_are_independent():
    """In probly they are identical, for each layer is seeded by itself."""

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            first = nn.Dropout(0.5, deterministic=False)(x)
            return jnp.stack([first, nn.Dropout(0.5, deterministic=False)(x)], 1)

    ones = jnp.ones((4, 1000))
    first, second = np.moveaxis(np.asarray(jl.stochastic(Twice(), {}, ones)(KEY, ones)), 1, 0)
    agree = np.mean((first == 0) == (second == 0))
    assert abs(agree - 0.5) < 5 * 0.5 / 4000**0.5


def test_several_collections_draw_apart():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = jl.Dropout(0.5, deterministic=False, rng_collection="other", name="one")(x)
            return jnp.stack([y, jl.Dropout(0.5, deterministic=False, name="two")(x)], 1)

    ones = jnp.ones((4, 1000))
    predict = jl.stochastic(Two(), {}, ones)
    assert predict.collections == ("dropout", "other")
    first, second = np.moveaxis(np.asarray(predict(KEY, ones)), 1, 0)
    assert abs(np.mean((first == 0) == (second == 0)) - 0.5) < 5 * 0.5 / 4000**0.5


def test_several_inputs_by_a_method():
    class Sum(nn.Module):
        @nn.compact
        def __call__(self, a, b):
            return nn.Dropout(0.5, deterministic=False)(a + b)

    x = {"a": X, "b": X}
    predict = jl.stochastic(Sum(), {}, x, method=lambda module, x: module(x["a"], x["b"]))
    assert mc.sample(predict, KEY, x, num_samples=5).shape == (5, *X.shape)


@pytest.mark.slow
def test_new_variables_are_no_new_program(variables):
    traces = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x):
            traces.append(None)
            return nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(x))

    net = Counted()
    first, second = (net.init(jax.random.key(seed), X) for seed in (0, 1))
    one = mc.sample(jl.stochastic(net, first, X), KEY, X, num_samples=2)
    before = len(traces)
    other = mc.sample(jl.stochastic(net, second, X), KEY, X, num_samples=2)
    assert len(traces) == before + 1  # to find the sites
    assert not np.array_equal(one, other)


def test_a_model_with_nothing_to_draw_is_refused():
    net = nn.Sequential([nn.Dense(3), nn.Dropout(0.0, deterministic=False)])
    with pytest.raises(ValueError, match="`model` must have at least one stochastic site, got none"):
        jl.stochastic(net, net.init(KEY, X), X)


def test_a_pattern_that_fits_nothing(variables):
    with pytest.raises(ValueError, match="got 'atention'; the nearest are attention"):
        jl.stochastic(Many(), variables, X, sites="atention")


@pytest.mark.slow
def test_a_block_that_is_jitted_by_itself():
    """Its trace is kept, and must not serve another choice of sites; two blocks of a kind share it."""

    class Block(nn.Module):
        @nn.jit
        @nn.compact
        def __call__(self, x):
            return nn.Dropout(0.5, deterministic=False)(nn.Dense(8)(x))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dropout(0.5, deterministic=False, name="outer")(x)
            return Block(name="b")(Block(name="a")(x))

    net = Net()
    variables = net.init({"params": KEY, "dropout": KEY}, X)
    net.apply(variables, X, rngs={"dropout": KEY})
    assert [site.path for site in jl.stochastic(net, variables, X).sites] == ["outer", "a/Dropout_0"]
    for sites, zeros in (("all", True), ("outer", False), ("a/*", True), ("outer", False), ("all", True)):
        predict = jl.stochastic(net, variables, X, sites=sites)
        samples = np.asarray(mc.sample(predict, KEY, X, num_samples=8))
        assert len(np.unique(samples, axis=0)) == 8
        # Whatever is dropped by the second block is zero at the end.
        assert (np.mean(samples == 0) > 0.3) == zeros


def test_a_rate_of_one_gives_zeros():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            half = nn.Dropout(0.5, deterministic=False)(x)
            return jnp.stack([half, nn.Dropout(1.0, deterministic=False)(x)], 1)

    ones = jnp.ones((2, 50))
    half, nothing = np.moveaxis(np.asarray(jl.stochastic(Net(), {}, ones)(KEY, ones)), 1, 0)
    assert set(np.unique(half)) == {0, 2}
    np.testing.assert_array_equal(nothing, 0)


def test_arrays_among_the_arguments_are_no_constants():
    class Masked(nn.Module):
        @nn.compact
        def __call__(self, x, mask):
            return nn.Dropout(0.5, deterministic=False)(x) * mask

    net = Masked()
    for scale in (1.0, 2.0):
        predict = jl.stochastic(net, {}, X, mask=scale * jnp.ones((1, 8)))
        samples = mc.sample(predict, KEY, X, num_samples=3)
        np.testing.assert_allclose(
            samples / scale, mc.sample(jl.stochastic(net, {}, X, mask=1.0), KEY, X, num_samples=3)
        )


def test_keys_among_the_arguments_are_refused():
    with pytest.raises(ValueError, match="`rng` must not be given, for every sample has its own key"):
        jl.stochastic(nn.Dropout(0.5, deterministic=False), {}, X, rng=KEY)


def test_arguments_that_are_equal_but_not_the_same_are_other_programs():
    class Filled(nn.Module):
        @nn.compact
        def __call__(self, x, value):
            return nn.Dropout(0.5, deterministic=False)(x), jnp.full(len(x), value)

    net = Filled()
    for value in (2, 2.0, 0.0, -0.0):
        predict = jl.stochastic(net, {}, X, value=value)
        _, found = mc.sample(predict, KEY, X, num_samples=1)
        expected = np.full((1, len(X)), value, jnp.asarray(value).dtype)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
