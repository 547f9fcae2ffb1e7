"""Predictors of NNX models: who draws, what stays as it is, and the defects of others."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.nnx as jn
from jaxdrop import mc
from tests.nnx import patterns
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X = standard_normal(1, (4, 8))


class Many(nnx.Module):
    """A module of every kind that draws."""

    def __init__(self, rngs: nnx.Rngs):
        self.inner = nnx.Linear(8, 16, rngs=rngs)
        self.flax = nnx.Dropout(0.5, rngs=rngs)
        self.told = nnx.Dropout(0.4, rngs=rngs)
        self.ours = jn.Dropout(0.3, rngs=rngs)
        self.called = jn.Dropout(0.0, rngs=rngs)
        self.noise = jn.GaussianNoise(1.0, rngs=rngs)
        self.always = jn.MCDropout(0.5, rngs=rngs)
        self.weights = jn.DropConnect(nnx.Linear(16, 16, rngs=rngs), 0.4, rngs=rngs)
        self.idle = nnx.Dropout(0.0, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            2, 16, decode=False, dropout_rate=0.3, broadcast_dropout=False, rngs=rngs
        )
        zoneout = jn.ZoneoutCell(nnx.LSTMCell(16, 8, rngs=rngs), 0.4, rngs=rngs)
        recurrent = jn.RecurrentDropoutCell(nnx.LSTMCell(8, 8, rngs=rngs), 0.4, rngs=rngs)
        self.zoneout, self.recurrent = nnx.RNN(zoneout), nnx.RNN(recurrent)
        self.outer = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.ours(self.told(self.flax(self.inner(x)), deterministic=True))
        x = self.weights(self.always(self.noise(self.called(x, rate=0.2))))
        steps = self.attention(jnp.repeat(self.idle(x)[:, None], 3, 1))
        return self.outer(self.recurrent(self.zoneout(steps))[:, -1])


PATHS = ["flax", "told", "ours", "called", "noise", "always", "weights", "attention"]
PATHS += ["zoneout/cell", "recurrent/cell"]


@pytest.fixture(scope="module")
def model() -> Many:
    model = Many(nnx.Rngs(1))
    model.eval()
    return model


@pytest.mark.slow
def test_sites_are_listed(model: Many):
    """Training never turns `told` on."""
    assert [site.path for site in jn.stochastic(model, X).sites] == [path for path in PATHS if path != "told"]
    assert [site.path for site in jn.stochastic(model, X, sites="last").sites] == PATHS[-1:]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_each_site_draws_alone(model: Many, path: str):
    predict = jn.stochastic(model, X, sites=path)
    assert [site.path for site in predict.sites] == [path]
    assert draws(predict) > 4


def test_sixteen_samples_are_sixteen():
    """`nnx.reseed(model, dropout=key)` does nothing to one of `nnx.Rngs(1)`, whose stream is "default"."""
    rngs = nnx.Rngs(1)
    net = nnx.Sequential(
        nnx.Linear(8, 32, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), nnx.Linear(32, 1, rngs=rngs)
    )
    net.eval()
    samples = np.asarray(mc.sample(jn.stochastic(net, X), KEY, X, num_samples=16))
    assert len(np.unique(samples[:, 0])) == 16


class Normalized(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.norm = nnx.Linear(8, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.linear(x)))


def test_the_model_is_not_changed_and_statistics_are_those_of_training():
    model = Normalized(nnx.Rngs(0))
    model.train()
    model(X)
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState))))
    counts = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model, nnx.RngCount)))
    predict = jn.stochastic(model, X)
    alone = mc.sample(predict, KEY, X[:1], num_samples=3)
    np.testing.assert_allclose(mc.sample(predict, KEY, X, num_samples=3)[:, :1], alone, rtol=1e-4, atol=1e-5)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState)))
    jax.tree.map(np.testing.assert_array_equal, after, before)
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model, nnx.RngCount)), counts)
    assert not model.norm.use_running_average
    assert type(model.dropout) is nnx.Dropout


def test_masks_of_layers_of_one_shape_are_independent():
    class Twice(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.first, self.second = nnx.Dropout(0.5, rngs=rngs), jn.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return jnp.stack([self.first(x), self.second(x)], 1)

    ones = jnp.ones((4, 1000))
    first, second = np.moveaxis(np.asarray(jn.stochastic(Twice(nnx.Rngs(0)), ones)(KEY, ones)), 1, 0)
    assert abs(np.mean((first == 0) == (second == 0)) - 0.5) < 5 * 0.5 / 4000**0.5


def test_a_function_of_a_stream_of_the_model():
    class Own(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.rngs, self.dropout = rngs.fork(), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return jaxdrop.dropout(self.rngs.dropout(), x, 0.5) + 0 * self.dropout(x)

    samples = mc.sample(jn.stochastic(Own(nnx.Rngs(0)), X), KEY, X, num_samples=8)
    assert len(np.unique(np.asarray(samples), axis=0)) == 8


def test_new_weights_are_no_new_program():
    traces = []

    class Counted(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.linear, self.dropout = nnx.Linear(8, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            traces.append(None)
            return self.dropout(self.linear(x))

    one = mc.sample(jn.stochastic(Counted(nnx.Rngs(0)), X), KEY, X, num_samples=2)
    before = len(traces)
    other = mc.sample(jn.stochastic(Counted(nnx.Rngs(1)), X), KEY, X, num_samples=2)
    assert len(traces) == before + 1  # to find the sites
    assert not np.array_equal(one, other)


def test_a_model_with_nothing_to_draw_is_refused():
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(nnx.Linear(8, 3, rngs=rngs), nnx.Dropout(0.0, rngs=rngs))
    with pytest.raises(ValueError, match="`model` must have at least one stochastic site, got none"):
        jn.stochastic(net, X)


@pytest.mark.slow
def test_a_part_that_is_jitted_by_itself():
    """Its trace is kept: of a call with other sites it must not be used."""

    @nnx.jit
    def run(block, x):
        return block(x)

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.a = nnx.Sequential(nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
            self.b = nnx.Sequential(nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))

        def __call__(self, x):
            return run(self.b, run(self.a, x))

    net = Net(nnx.Rngs(0))
    for sites, zeros in (("all", True), ("a/*", False), ("last", True), ("all", True)):
        samples = np.asarray(mc.sample(jn.stochastic(net, X, sites=sites), KEY, X, num_samples=8))
        assert len(np.unique(samples, axis=0)) == 8
        assert (np.mean(samples == 0) > 0.3) == zeros


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")])
def test_keys_of_every_kind(key):
    net = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
    samples = np.asarray(mc.sample(jn.stochastic(net, X), key, X, num_samples=8))
    assert len(np.unique(samples, axis=0)) == 8


def test_a_rate_of_one_gives_zeros():
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(1.0, rngs=rngs))
    np.testing.assert_array_equal(jn.stochastic(net, X)(KEY, X), 0)


def test_keys_and_streams_among_the_arguments_are_refused():
    net = nnx.Dropout(0.5)
    for source in (nnx.Rngs(0), jax.random.key(0)):
        with pytest.raises(ValueError, match="`rngs` must not be given, for every sample has its own key"):
            jn.stochastic(net, X, rngs=source)


def test_stacked_layers_have_a_key_each():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(x)

    class Stack(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def make(rngs):
                return Block(rngs)

            self.blocks = make(rngs)

        def __call__(self, x):
            @nnx.vmap(in_axes=(0, None), out_axes=1)
            def run(block, x):
                return block(x)

            return run(self.blocks, x)

    x = jnp.ones((2, 500))
    predict = jn.stochastic(Stack(nnx.Rngs(0)), x)
    masks = np.asarray(mc.sample(predict, KEY, x, num_samples=2)).reshape(-1, 1000)
    # Of two samples and three layers; independent ones agree in a half, with a deviation of 1.6 %.
    agree = np.mean(masks[:, None] == masks, -1)[~np.eye(len(masks), dtype=bool)]
    assert abs(agree - 0.5).max() < 5 * 0.5 / 1000**0.5


@pytest.mark.parametrize("kind", [jn.Dropout, jn.GaussianNoise])
def test_a_rate_that_a_variable_holds(kind):
    predict = jn.stochastic(kind(nnx.Variable(jnp.float32(0.3)), rngs=nnx.Rngs(0)), X)
    assert [(site.kind, site.rate) for site in predict.sites] == [(kind.__name__, "array")]
    assert (predict(KEY, X) != X).any()


def draws(predict, x=X, num_samples: int = 16) -> int:
    """How many of the samples differ."""
    samples = jax.jit(jax.vmap(predict, (0, None)))(jax.random.split(KEY, num_samples), x)
    return len(np.unique(np.asarray(samples).reshape(num_samples, -1), axis=0))


@pytest.mark.slow
def test_a_subclass_that_hands_on_its_mode_obeys():
    """It was listed, its mode overridden, and its samples were all the same."""
    model = patterns.evaluated(patterns.Subclasses)(nnx.Rngs(0))
    assert draws(jn.stochastic(model, X)) == 16
    for path in ("attention", "dropout"):
        assert draws(jn.stochastic(model, X, sites=path)) > 8
    zeros = np.mean(np.asarray(jn.stochastic(model, X, sites="attention")(KEY, X)) == 0)
    assert zeros == 0


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_module_with_a_stream_of_its_own_obeys(mode: str):
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.residual, self.dropout = patterns.Residual(rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.residual(x))

    model = Net(nnx.Rngs(0))
    getattr(model, mode)()
    assert [site.path for site in jn.stochastic(model, X).sites] == ["residual/path", "dropout"]
    only = jn.stochastic(model, X, sites="dropout")
    outputs = np.asarray(only(KEY, X))
    model.eval()
    expected = np.asarray(model(X)) * 2
    np.testing.assert_allclose(outputs[outputs != 0], expected[outputs != 0], rtol=1e-5)
    assert not (np.asarray(jn.stochastic(model, X, sites="residual/*")(KEY, X)) == 0).any()


@pytest.mark.parametrize("name", ["noise of the parent", "key in the call"])
def test_draws_of_a_function_cannot_be_left_out(name: str):
    """With a key in the call, the model around it is what asks for it."""
    case = patterns.CASES[name]

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.inner, self.dropout = case.make(rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x, key=None):
            return self.dropout(self.inner(x) if key is None else self.inner(x, key))

    model = Net(nnx.Rngs(0))
    assert draws(jn.stochastic(model, X)) == 16
    with pytest.raises(ValueError, match=r"`sites` must include (inner|the model itself)"):
        jn.stochastic(model, X, sites="dropout")


def test_a_frozen_part_is_on_if_it_is_named():
    model = patterns.evaluated(patterns.Frozen)(nnx.Rngs(0))
    predict = jn.stochastic(model, X, sites="*")
    assert [site.path for site in predict.sites] == ["backbone/layers/1", "dropout"]
    only = jn.stochastic(model, X, sites="backbone/*")
    assert [site.path for site in only.sites] == ["backbone/layers/1"]
    assert draws(only) == 16


def test_a_model_partly_in_evaluation_mode_is_taken_as_it_is():
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(nnx.Dropout(0.5, deterministic=True, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
    assert [site.path for site in jn.stochastic(net, X).sites] == ["layers/1"]
    norm = nnx.Sequential(nnx.Dropout(0.5, deterministic=True, rngs=rngs), nnx.BatchNorm(8, rngs=rngs))
    with pytest.raises(ValueError, match="Name layers/0 in `sites`, if it is off in training too"):
        jn.stochastic(norm, X)
    assert draws(jn.stochastic(nnx.view(net, deterministic=True), X)) == 16


def test_the_sites_tell_class_stream_and_rate():
    rngs = nnx.Rngs(0, dropout=1)
    net = nnx.Sequential(nnx.Dropout(0.5, rngs=rngs), patterns.DropPath(0.25, nnx.Rngs(noise=1, default=2)))
    assert jn.stochastic(net, X).sites == (
        ("layers/0", "Dropout", "dropout", "0.5"),
        ("layers/1", "DropPath", "default", "0.25"),
    )


class ByMode(nnx.Module):
    """Draws by a function in one mode."""

    def __init__(self, rngs: nnx.Rngs):
        self.rngs, self.dropout = rngs.fork(), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train: bool = False):
        if train:
            x = x + self.rngs.noise.normal(x.shape)
        return self.dropout(x, deterministic=not train)


@pytest.mark.parametrize("options", [{}, {"train": False}])
def test_arguments_of_evaluation_that_hide_draws_are_refused(options: dict):
    message = (
        "must be called with the arguments of training, train=True: .* draws of the model itself|train=True"
    )
    with pytest.raises(ValueError, match=message):
        jn.stochastic(ByMode(nnx.Rngs(0)), X, **options)
    assert draws(jn.stochastic(ByMode(nnx.Rngs(0)), X, train=True)) == 16


class Statistics(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.mean, self.dropout = nnx.BatchStat(jnp.zeros((1, 8))), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train: bool = True):
        mean = x.mean(0, keepdims=True) if train else self.mean[...]
        if train:
            self.update(mean)
        return self.dropout(x - mean)

    def update(self, mean):
        self.mean[...] = 0.9 * self.mean[...] + 0.1 * mean


class Replacing(Statistics):
    def update(self, mean):
        self.mean = nnx.BatchStat(mean)


class Modeless(Statistics):
    def __call__(self, x):
        return super().__call__(x)


class ModelessReplacing(Replacing):
    def __call__(self, x):
        return super().__call__(x)


class Explicit(nnx.BatchNorm):
    """Its call of the base cannot be seen."""

    def __init__(self, rngs: nnx.Rngs):
        super().__init__(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(nnx.BatchNorm.__call__(self, x, use_running_average=False))


@pytest.mark.parametrize("kind", [Modeless, ModelessReplacing, Explicit])
def test_statistics_of_the_batch_are_refused(kind: type):
    with pytest.raises(
        ValueError, match=r"must not use statistics of its batch, but the model itself \(\w+\) w"
    ):
        jn.stochastic(kind(nnx.Rngs(0)), X)


@pytest.mark.parametrize("kind", [Statistics, Replacing])
@pytest.mark.parametrize("options", [{}, {"train": False}, {"train": True}])
def test_what_learns_by_its_mode_is_at_rest(kind: type, options: dict):
    outputs = np.asarray(jn.stochastic(kind(nnx.Rngs(0)), X, **options)(KEY, X))
    np.testing.assert_allclose(outputs[outputs != 0], 2 * X[outputs != 0], rtol=1e-6)


def test_a_predictor_under_jit():
    predict = jn.stochastic(nnx.Dropout(0.5, rngs=nnx.Rngs(0)), X)
    np.testing.assert_array_equal(jax.jit(predict)(KEY, X), predict(KEY, X))
    assert predict != jn.stochastic(nnx.Dropout(0.5, rngs=nnx.Rngs(0)), X)


def test_two_streams_of_one_seed_are_not_correlated():
    class Forks(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.first, self.second = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return jnp.stack([self.first(x), self.second(x)])

    ones = jnp.ones((4, 500))
    first, second = np.asarray(jn.stochastic(Forks(nnx.Rngs(0)), ones)(KEY, ones))
    assert abs(np.mean((first == 0) == (second == 0)) - 0.5) < 5 * 0.5 / 2000**0.5


def test_an_argument_of_the_batch_is_refused():
    class Masked(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x, mask):
            return self.dropout(x) * mask.reshape(-1, 1)[:1]

    model, message = Masked(nnx.Rngs(0)), "`mask` must not have the leading axis of `x`"
    with pytest.raises(ValueError, match=message):
        jn.stochastic(model, X, mask=jnp.ones((4, 1)))
    predict = jn.stochastic(model, X, mask=jnp.ones((3, 1)))
    assert draws(predict) == 16
    with pytest.raises(ValueError, match=message):
        predict(KEY, X[:3])
    inputs = (X, jnp.ones((4, 1)))
    assert draws(jn.stochastic(model, inputs, unpack=True), inputs) == 16
    with pytest.raises(TypeError, match="`x` must be a tuple or a dictionary to be unpacked"):
        jn.stochastic(model, X, unpack=True)


def test_a_method_that_is_a_function():
    traces = []

    def of(depth: int):
        def features(model, x):
            traces.append(None)
            return model.linear(x) * depth if depth else model.dropout(model.linear(x))

        return features

    def made():
        return lambda model, x: model.dropout(traces.append(None) or model.linear(x))

    model = Normalized(nnx.Rngs(0))
    one = mc.sample(jn.stochastic(model, X, method=made()), KEY, X, num_samples=2)
    before = len(traces)
    other = mc.sample(jn.stochastic(model, X, method=made()), KEY, X, num_samples=2)
    np.testing.assert_array_equal(one, other)
    assert len(traces) == before + 1
    with pytest.raises(ValueError, match="at least one stochastic site"):
        jn.stochastic(model, X, method=of(1))
    with pytest.raises(
        ValueError, match="`method` must be the name of a method of Normalized, got 'encoder'"
    ):
        jn.stochastic(model, X, method="encoder")


def test_a_bound_method_is_that_of_the_copy():
    model = patterns.Autoencoder(nnx.Rngs(0))
    assert draws(jn.stochastic(model, X, method=model.encode)) == 16
    assert model.rngs.default.count[...] == 0
    with pytest.raises(ValueError, match="`method` must be a method of the model or a function of it"):
        jn.stochastic(model, X, method=model.mean.__call__)


def test_what_is_no_module_is_refused():
    net = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    for model, message in (
        (nn.Dropout(0.5), "got a Linen module; use `jaxdrop.linen.stochastic`"),
        (nnx.split(net), "got tuple; merge it first"),
        (nnx.graphdef(net), "got GraphDef; merge it first"),
        (nnx.Dropout, "an instance of nnx.Module, got Dropout"),
        (lambda x: x, "an instance of nnx.Module, got function"),
    ):
        with pytest.raises(TypeError, match=f"`model` must be an? .*{message}|`model` must be {message}"):
            jn.stochastic(model, X)


class Softmax(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train: bool = False):
        x = self.dropout(x, deterministic=not train)
        return x if train else nnx.softmax(x)


class Unused(nnx.Module):
    """Asks for its key in both modes, and uses it in one."""

    def __init__(self, rngs: nnx.Rngs):
        self.rngs = rngs.fork()

    def __call__(self, x, train: bool = False):
        noise = self.rngs.dropout.normal(x.shape)
        return x + noise if train else x


def test_a_model_that_computes_something_else_at_evaluation_is_refused():
    net = Softmax(nnx.Rngs(0))
    jn.stochastic(net, X, train=True)
    with pytest.raises(ValueError, match=r"of training, train=True: .* the model computes something"):
        jn.stochastic(net, X)


def test_a_key_that_is_used_in_one_mode():
    """The mode of a module that draws is its own argument, which a predictor can set."""
    net = Unused(nnx.Rngs(0))
    samples = [jn.stochastic(net, X, **given)(KEY, X) for given in ({}, {"train": False}, {"train": True})]
    assert (samples[0] != X).all()
    np.testing.assert_array_equal(samples[0], samples[2])
    np.testing.assert_array_equal(samples[1], samples[2])


def test_keys_among_the_inputs_are_refused():
    with pytest.raises(ValueError, match="`x` must not hold keys"):
        jn.stochastic(Softmax(nnx.Rngs(0)), (X, KEY), unpack=True)
