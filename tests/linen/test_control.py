"""What a predictor of a Linen model refuses, and what it can be told: modes, statistics, sites, inputs."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop.linen as jl
from jaxdrop import mc
from tests.linen.patterns import KEY, STEPS, TOKENS, Config, Configured, Encoder, Frozen, Several, X, drop

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def started(model: nn.Module, x=X, **options):
    return model.init({"params": KEY, "dropout": KEY}, x, **options)


def test_a_draw_by_hand_cannot_be_left_out():
    net = Encoder()
    with pytest.raises(
        ValueError, match="`sites` must include attention, got 'dropout': it draws by a function"
    ):
        jl.stochastic(net, started(net, STEPS), STEPS, sites="dropout", deterministic=False)
    alone = jl.stochastic(net, started(net, STEPS), STEPS, sites="attention", deterministic=False)
    assert [site.path for site in alone.sites] == ["attention"]


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
        ValueError, match=r"got none: .* layers_1: off in training mode too, unless named in `sites`"
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
        ValueError, match=r"must hold the collection 'batch_stats' of BatchNorm_0 .BatchNorm."
    ):
        jl.stochastic(Net(), {"params": variables["params"]}, X, train=True)


def test_a_bound_model():
    net = nn.Sequential([nn.Dense(8), nn.Dropout(0.5, deterministic=False)])
    variables = started(net)
    expected = net.apply(variables, X, rngs={"dropout": KEY})
    bound = net.bind(variables, rngs={"dropout": jax.random.key(7)})
    np.testing.assert_allclose(jl.stochastic(bound, variables, X)(KEY, X), expected, rtol=1e-6)


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
