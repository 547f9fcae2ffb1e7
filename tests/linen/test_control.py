"""What a predictor of a Linen model refuses, and what it can be told: modes, statistics, sites, inputs."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop.linen as jl
from jaxdrop import mc
from tests.linen.patterns import KEY, STEPS, TOKENS, Config, Configured, Encoder, Frozen, Several, X, drop

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def started(model: nn.Module, x=X, **options):
    return model.init({"params": KEY, "dropout": KEY}, x, **options)


@pytest.mark.slow
def test_a_draw_by_hand_cannot_be_left_out():
    net = Encoder()
    with pytest.raises(
        ValueError, match="`sites` must include attention, got 'dropout': it draws by a function"
    ):
        jl.stochastic(net, started(net, STEPS), STEPS, sites="dropout", deterministic=False)
    alone = jl.stochastic(net, started(net, STEPS), STEPS, sites="attention", deterministic=False)
    assert [site.path for site in alone.sites] == ["attention"]


@pytest.mark.slow
def test_what_training_never_turns_on_is_named():
    net, variables = Frozen(), started(Frozen())
    for sites, paths in (("*", ["backbone", "head"]), ("backbone", ["backbone"]), ("all", ["head"])):
        for train in (True, False):
            predict = jl.stochastic(net, variables, X, sites=sites, train=train)
            assert [site.path for site in predict.sites] == paths
            zeros = np.mean(np.asarray(mc.sample(predict, KEY, X, num_samples=100)) == 0)
            assert abs(zeros - (0.75 if len(paths) == 2 else 0.5)) < 5 * 0.5 / 3200**0.5


def test_nothing_but_what_training_never_turns_on():
    net = nn.Sequential([nn.Dense(3), nn.Dropout(0.5, deterministic=True)])
    variables = started(net)
    with pytest.raises(
        ValueError, match=r"got none: .* Name layers_1 in `sites`, if it is off in training too"
    ):
        jl.stochastic(net, variables, X)
    assert (jl.stochastic(net, variables, X, sites="layers_1")(KEY, X) == 0).any()


@pytest.mark.parametrize("field", ["deterministic", "train"])
def test_a_mode_in_a_field_or_a_configuration(field: str):
    """A model made for evaluation has the predictor of the one made for training."""

    class Model(nn.Module):
        deterministic: bool | None = None
        train: bool | None = None

        def setup(self):
            off = self.deterministic if self.train is None else not self.train
            self.dropout = nn.Dropout(0.5, deterministic=off)

        def __call__(self, x):
            return self.dropout(x)

    modes = [Model(**{field: value}) for value in (True, False)]
    for pair in (modes, [Configured(Config(deterministic=value)) for value in (True, False)]):
        variables = started(pair[0])
        samples = [jl.stochastic(net, variables, X)(KEY, X) for net in pair]
        np.testing.assert_allclose(*samples, rtol=1e-6)


class NoMode(nn.Module):
    """A norm that always uses its batch while it learns, and does not say how to stop it."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(x.shape[1:]))
        if train and not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
        x = x - (x.mean(0) if train else mean.value)[None]
        return nn.Dropout(0.5)(x, deterministic=not train)


def test_statistics_of_the_batch_are_refused():
    net, variables = NoMode(), started(NoMode())
    message = "`model` must not use statistics of its batch, but the model itself .NoMode. writes them"
    with pytest.raises(ValueError, match=message):
        jl.stochastic(net, variables, X, train=True)
    predict = jl.stochastic(net, variables, X, train=False)
    many, one = mc.sample(predict, KEY, X, num_samples=4), mc.sample(predict, KEY, X[:1], num_samples=4)
    np.testing.assert_allclose(many[:, :1], one, rtol=1e-5)


def test_missing_statistics_are_refused():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            return nn.Dropout(0.5)(nn.BatchNorm(use_running_average=not train)(x), deterministic=not train)

    variables = started(Net(), train=False)
    with pytest.raises(
        ValueError, match=r"must hold the collection 'batch_stats' with 'mean' of BatchNorm_0."
    ):
        jl.stochastic(Net(), {"params": variables["params"]}, X, train=True)


def test_a_bound_model():
    net = nn.Sequential([nn.Dense(8), nn.Dropout(0.5, deterministic=False)])
    variables = started(net)
    expected = net.apply(variables, X, rngs={"dropout": KEY})
    bound = net.bind(variables, rngs={"dropout": jax.random.key(7)})
    np.testing.assert_allclose(jl.stochastic(bound, variables, X)(KEY, X), expected, rtol=1e-6)


@pytest.mark.slow
def test_an_array_of_the_batch_belongs_to_the_inputs():
    """Bound once, it would give each batch the rows of the first."""
    net = Several()
    variables = net.init({"params": KEY, "dropout": KEY}, **TOKENS, train=True)
    ids, mask = TOKENS["ids"], TOKENS["mask"]
    with pytest.raises(ValueError, match=r"`mask` must not have the leading axis of `x`.*; pass it in `x`"):
        jl.stochastic(net, variables, ids, mask=mask, train=True)
    # Bound with one example, and called with a batch of the mask's size.
    predict = jl.stochastic(net, variables, ids[:1], mask=mask, train=True)
    with pytest.raises(ValueError, match="`mask` must not have the leading axis of `x`"):
        mc.sample(predict, KEY, ids, num_samples=2)
    predict = jl.stochastic(net, variables, TOKENS, unpack=True, train=True)
    parts = mc.estimate_dataset(
        predict, KEY, TOKENS, batch_size=2, num_samples=2, reducers=mc.Moments(), chunk_size=1
    )
    batches = [jax.tree.map(lambda leaf, i=i: leaf[2 * i : 2 * i + 2], TOKENS) for i in range(2)]
    means = [
        mc.sample(predict, jax.random.fold_in(KEY, i), x, num_samples=2).mean(0)
        for i, x in enumerate(batches)
    ]
    np.testing.assert_allclose(parts.value["mean"], np.concatenate(means), rtol=1e-5, atol=1e-6)


def test_inputs_to_unpack():
    net = Several()
    variables = net.init({"params": KEY, "dropout": KEY}, **TOKENS, train=True)
    with pytest.raises(
        TypeError, match="`x` must be a tuple or a dictionary to be unpacked into the call, got"
    ):
        jl.stochastic(net, variables, TOKENS["ids"], unpack=True, train=True)
    with pytest.raises(TypeError, match="`mask` must be given once, in `x` or as an argument, got both"):
        jl.stochastic(net, variables, TOKENS, unpack=True, mask=1.0, train=True)

    class Sum(nn.Module):
        @nn.compact
        def __call__(self, a, b):
            return nn.Dropout(0.5, deterministic=False)(a + b)

    predict = jl.stochastic(Sum(), {}, (X, X), unpack=True)
    np.testing.assert_array_equal(predict(KEY, (X, X)), Sum().apply({}, X, X, rngs={"dropout": KEY}))


def test_a_predictor_under_jit():
    net = Frozen()
    predict = jl.stochastic(net, started(net), X, train=True)
    np.testing.assert_allclose(jax.jit(predict)(KEY, X), predict(KEY, X), rtol=1e-6)
    as_argument = jax.jit(lambda predict, key: predict(key, X))
    np.testing.assert_allclose(as_argument(predict, KEY), predict(KEY, X), rtol=1e-6)
    assert len({predict, predict}) == 1


def test_functions_made_anew_share_a_program():
    traces = []

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            traces.append(None)
            return nn.Dropout(0.5, deterministic=False)(x)

    net, counts = Net(), []
    for _ in range(3):
        predict = jl.stochastic(net, {}, X, method=lambda module, x: module(2 * x))
        before = len(traces)
        mc.sample(predict, KEY, X, num_samples=2)
        counts.append(len(traces) - before)
    assert counts[0] > 0
    assert counts[1:] == [0, 0]
    # The same code with another value is another program.
    values = [
        jl.stochastic(net, {}, X, method=lambda module, x, scale=scale: module(scale * x))(KEY, X).max()
        for scale in (1.0, 3.0)
    ]
    assert values[1] == pytest.approx(3 * values[0])


@pytest.mark.parametrize(
    ("model", "variables", "message"),
    [
        (Frozen().apply, {"params": {}}, "`model` must be the Linen module itself, got its method `apply`"),
        (SimpleNamespace(module=Frozen()), {}, "got SimpleNamespace: pass its `module`, and variables"),
        (drop, {}, "`model` must be a Linen module, got function: for another model write a function"),
        (Frozen(), None, "`variables` must be a dictionary of collections, such as .*, got NoneType"),
    ],
)
def test_what_is_not_a_model_or_not_its_variables(model, variables, message: str):
    with pytest.raises(TypeError, match=message):
        jl.stochastic(model, variables, X, train=True)


def test_parameters_alone():
    net = Frozen()
    with pytest.raises(
        ValueError, match=r"`variables` must be a dictionary of collections, .*, got the keys Dense_0"
    ):
        jl.stochastic(net, started(net)["params"], X, train=True)


def test_a_part_that_does_not_obey_its_mode():
    class Stubborn(nn.Dropout):
        @nn.compact
        def __call__(self, inputs, deterministic=None):
            return drop(self.make_rng("dropout"), inputs, self.rate)

    net = nn.Sequential([Stubborn(0.5, deterministic=False), nn.Dropout(0.5, deterministic=False)])
    assert len(jl.stochastic(net, {}, X).sites) == 2
    with pytest.raises(ValueError, match=r"`sites` must select modules that obey .*; layers_0 does not"):
        jl.stochastic(net, {}, X, sites="layers_1")


class Unused(nn.Module):
    """Asks for its key in both modes, and uses it in one."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        noise = jax.random.normal(self.make_rng("dropout"), x.shape)
        return x + noise if train else x


class Softmax(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dropout(0.5)(x, deterministic=not train)
        return x if train else nn.softmax(x)


@pytest.mark.parametrize("net", [Unused(), Softmax()])
def test_a_model_that_computes_something_else_at_evaluation_is_refused(net):
    jl.stochastic(net, {}, X, train=True)
    with pytest.raises(ValueError, match=r"of training, train=True: .* the model computes something"):
        jl.stochastic(net, {}, X)


class After(nn.Module):
    """A block that draws, and writes statistics, after its compact method has ended."""

    statistics: bool = False

    @nn.compact
    def __call__(self, x):
        if self.statistics:
            self.variable("batch_stats", "mean", jnp.zeros, ())
        return nn.Dropout(0.5, deterministic=False)(x)

    @nn.nowrap
    def noise(self, x):
        if self.statistics and not self.is_initializing():
            self.put_variable("batch_stats", "mean", x.mean())
        return drop(self.make_rng("noise"), x, 0.5)


class Outside(nn.Module):
    statistics: bool = False

    @nn.compact
    def __call__(self, x):
        block = After(self.statistics, name="block")
        return block.noise(block(x))


def test_draws_after_a_compact_method():
    keys = {"dropout": KEY, "noise": KEY}
    predict = jl.stochastic(Outside(), {}, X)
    assert [site.path for site in predict.sites] == ["block/Dropout_0", "block"]
    np.testing.assert_allclose(predict(KEY, X), Outside().apply({}, X, rngs=keys), rtol=1e-6)
    with pytest.raises(ValueError, match="`sites` must include block, "):
        jl.stochastic(Outside(), {}, X, sites="block/Dropout_0")
    net = Outside(statistics=True)
    with pytest.raises(ValueError, match="`model` must not use statistics of its batch, but block"):
        jl.stochastic(net, net.init({"params": KEY} | keys, X), X)


class Table(nn.Module):
    def double(self, x):
        return 2 * x


def test_a_module_that_is_not_bound():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dropout(0.5, deterministic=False)(Table(parent=None).double(x))

    assert [site.path for site in jl.stochastic(Net(), {}, X).sites] == ["Dropout_0"]


def test_a_model_that_calls_itself_at_evaluation():
    """As R-drop may; the mode of the inner call is the model's own."""

    class Twice(nn.Module):
        def setup(self):
            self.dense, self.dropout = nn.Dense(8), nn.Dropout(0.5)

        def encode(self, x, train: bool = False):
            return self.dropout(self.dense(x), deterministic=not train)

        def __call__(self, x, train: bool):
            return self.encode(x, train=train) + self.encode(x)

    net = Twice()
    variables = started(net, train=True)
    expected = net.apply(variables, X, train=True, rngs={"dropout": KEY})
    np.testing.assert_allclose(jl.stochastic(net, variables, X, train=True)(KEY, X), expected, rtol=1e-5)


def noisy(module, x):
    return module(drop(module.make_rng("noise"), x, 0.5))


@pytest.mark.parametrize("method", [noisy, After.noise, "noise"])
def test_a_method_that_draws_by_itself(method):
    net, keys = After(), {"dropout": KEY, "noise": KEY}
    predict = jl.stochastic(net, {}, X, method=method)
    assert predict.sites[0 if method is noisy else -1][:3] == ("", "After", "noise")
    np.testing.assert_allclose(predict(KEY, X), net.apply({}, X, rngs=keys, method=method), rtol=1e-6)


def test_a_method_that_is_none():
    with pytest.raises(ValueError, match="`method` must be the name of a method of Frozen, got 'encode'"):
        jl.stochastic(Frozen(), {}, X, method="encode")


def test_a_missing_collection_is_not_begun():
    """Flax would begin it, if it may change; a cache is begun in passing."""

    class Book(nn.Module):
        @nn.compact
        def __call__(self, x):
            book = self.variable("vq", "book", lambda: jnp.zeros(8))
            cache = self.variable("cache", "last", jnp.zeros, (4, 8))
            cache.value = x
            return nn.Dropout(0.5, deterministic=False)(x + book.value[None])

    variables = started(Book())
    jl.stochastic(Book(), {"vq": variables["vq"]}, X)
    with pytest.raises(ValueError, match="must hold the collection 'vq' with 'book' of the model itself"):
        jl.stochastic(Book(), {}, X)


@pytest.mark.parametrize("arguments", [{}, {"train": None}, {"train": 0}], ids=["by default", "none", "zero"])
def test_a_mode_that_is_not_a_boolean(arguments: dict):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool | None = None):
            return drop(self.make_rng("dropout"), x, 0.5) if train else x

    with pytest.raises(ValueError, match="must be called with the arguments of training, train=True"):
        jl.stochastic(Net(), {}, X, **arguments)


def test_a_call_that_says_training_is_training():
    """Other settings may look like a mode."""

    class Policy(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool, deterministic: bool):
            x = nn.Dropout(0.5)(x, deterministic=not train)
            return x if deterministic else x + jax.random.normal(self.make_rng("action"), x.shape)

    predict = jl.stochastic(Policy(), {}, X, train=True, deterministic=True)
    assert [site.path for site in predict.sites] == ["Dropout_0"]


def test_a_norm_whose_mode_cannot_be_set():
    class Norm(nn.Module):
        @property
        def use_running_average(self):
            return False

        @nn.compact
        def __call__(self, x):
            mean = self.variable("norm_stats", "mean", jnp.zeros, ())
            mean.value = x.mean()
            return nn.Dropout(0.5, deterministic=False)(x - x.mean())

    with pytest.raises(ValueError, match="`model` must not use statistics of its batch"):
        jl.stochastic(Norm(), started(Norm()), X)


def test_a_stream_of_an_nnx_module_inside():
    """Of a stream that is not there, an NNX module inside would take a constant key."""
    inner = nnx.bridge.to_linen(nnx.Dropout, 0.5, rng_collection="noise")
    predict = jl.stochastic(inner, {}, X)
    assert len(np.unique(np.asarray(mc.sample(predict, KEY, X, num_samples=8)), axis=0)) == 8
    norm = nnx.bridge.to_linen(nnx.BatchNorm, 8)
    with pytest.raises(ValueError, match="`model` must not use statistics of its batch"):
        jl.stochastic(norm, started(norm), X)
