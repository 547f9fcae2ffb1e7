"""Rates of other people's Linen models, by pattern of path."""

import dataclasses

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdrop
import jaxdrop.linen as jl
from tests.normals import standard_normal
from tests.rates import FAULTS

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "few_objects_to_search")

KEY = jax.random.key(0)
X = standard_normal(1, (4, 8))
RNGS = {"dropout": KEY}


@dataclasses.dataclass(frozen=True)
class Config:
    """As other libraries have one, with rates that are numbers."""

    hidden: float = 0.0
    attention: float = 0.0


class TrainDropout(nn.Dropout):
    """A subclass with its own signature."""

    def __call__(self, x, *, train: bool):
        return super().__call__(x, deterministic=not train)


class Encoder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x, train: bool):
        options = {"dropout_rate": self.config.attention, "deterministic": not train}
        x = nn.Dropout(self.config.hidden, broadcast_dims=(0,))(nn.Dense(8)(x), not train)
        x = nn.SelfAttention(2, **options, name="self")(x[:, None].repeat(3, 1))
        return nn.MultiHeadAttention(2, **options, broadcast_dropout=False, name="cross")(x, x)[:, 0]


class Library(nn.Module):
    """A third-party model: nothing in it takes a rate but its config."""

    config: Config = Config()

    def setup(self):
        self.encoder = Encoder(self.config)
        self.middle = TrainDropout(self.config.hidden)
        self.last = jl.Dropout(self.config.hidden, bits=32)
        self.head = nn.Dense(3)

    def __call__(self, x, train: bool = True):
        x = self.middle(nn.relu(self.encoder(x, train)), train=train)
        return self.head(self.last(x, deterministic=not train, rate=self.config.hidden))


BUILT = Library(Config(hidden=0.3, attention=0.2))
PATHS = ["encoder/Dropout_0", "encoder/self", "encoder/cross", "middle", "last"]


def by_pattern(hidden, attention) -> dict:
    return {"*": hidden, "encoder/[sc]*": attention}


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: Library().init(KEY, X, train=False))()


@pytest.fixture(scope="module")
def expected(variables):
    """Of Flax's own code in a model built with the rates."""
    return BUILT.apply(variables, X, rngs=RNGS)


def built(variables, hidden: float, attention: float):
    return jax.jit(Library(Config(hidden, attention)).apply)(variables, X, rngs=RNGS)


def rated(variables, hidden, attention, model=None):
    apply = jl.with_rates((model or Library()).apply, by_pattern(hidden, attention), bits=32)
    return apply(variables, X, rngs=RNGS)


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.slow
def test_concrete_rates_are_those_of_a_built_model(variables, expected):
    """In the model without dropout, and in one with much of it."""
    near(rated(variables, 0.3, 0.2), expected)
    near(jax.jit(lambda: rated(variables, 0.3, 0.2, Library(Config(0.9, 1.0))))(), expected)


@pytest.mark.slow
def test_traced_rates_are_concrete_ones(variables, expected):
    near(jax.jit(rated)(variables, 0.3, 0.2), expected)


@pytest.mark.slow
def test_a_vmap_over_rates_is_a_loop(variables):
    pairs = jnp.array([[0.0, 0.5], [0.3, 0.2], [1.0, 0.0]])
    found = jax.jit(jax.vmap(lambda pair: rated(variables, *pair)))(pairs)
    near(found, jnp.stack([built(variables, *map(float, pair)) for pair in pairs]))


def test_own_masks_by_default():
    net = nn.Dropout(0.0, broadcast_dims=(1,), deterministic=False)
    found = jl.with_rates(net.apply, {"*": 0.5}, bits=8)({}, X, rng=KEY)
    np.testing.assert_array_equal(found, jaxdrop.dropout(KEY, X, 0.5, broadcast_dims=(1,), bits=8))


def test_the_model_and_its_modules_are_unchanged(variables, expected):
    net = Library()
    jax.eval_shape(lambda: rated(variables, 0.3, 0.2, net))
    near(net.apply(variables, X), net.apply(variables, X, train=False))
    assert net == Library()
    bound = BUILT.bind(variables, rngs=RNGS)
    with pytest.raises(flax.errors.InvalidRngError):
        jl.with_rates(lambda: bound.middle(X, train=True) + bound.make_rng("none"), {"*": 0.1})()
    assert (bound.middle.rate, bound.encoder.config.hidden) == (0.3, 0.3)


def test_modes_and_keys_are_those_of_the_model(variables):
    apply = jl.with_rates(Library().apply, {"*": 0.3})
    near(apply(variables, X, train=False), Library().apply(variables, X, train=False))
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        apply(variables, X)
    off = jax.jit(jl.with_rates(BUILT.apply, {"*": 0}))
    near(off(variables, X), Library().apply(variables, X))
    with pytest.raises(ValueError, match="deterministic"):
        jl.with_rates(nn.Dropout(0.0).apply, {"*": 0.3})({}, X)


def test_a_traced_rate_out_of_range_is_not_a_number(variables):
    assert np.isnan(jax.jit(rated)(variables, 1.3, 0.2)).all()


class Block(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(self.rate, deterministic=False)(nn.Dense(8)(x))


class Lifted(nn.Module):
    rate: float
    kind: str

    @nn.compact
    def __call__(self, x):
        split = {"params": True, "dropout": True}
        if self.kind == "jit":
            block = nn.jit(Block)
            return block(self.rate)(block(self.rate)(x))
        if self.kind == "jit of a site":
            attention = nn.jit(nn.MultiHeadAttention)
            return attention(2, dropout_rate=self.rate, deterministic=False)(x[:, None].repeat(2, 1))
        if self.kind == "remat":
            return nn.remat(Block)(self.rate)(x)
        if self.kind == "scan":
            options = {"variable_axes": {"params": 0}, "split_rngs": split, "length": 2}
            return nn.scan(lambda block, x: (block(x), None), **options)(Block(self.rate), x)[0]
        if self.kind == "vmap":
            options = {"variable_axes": {"params": 0}, "split_rngs": split, "axis_size": 2}
            return nn.vmap(Block, in_axes=None, **options)(self.rate)(x).sum(0)
        if self.kind == "rnn":
            inner = jl.ZoneoutCell(nn.LSTMCell(8), (self.rate, self.rate), deterministic=False, bits=32)
            cell = jl.RecurrentDropoutCell(inner, self.rate, deterministic=False, bits=32)
            return nn.RNN(cell, split_rngs={"params": False, "dropout": True})(x[:, None].repeat(2, 1))
        if self.kind == "weights":
            return jl.DropConnect(nn.Dense(8), self.rate, deterministic=False, bits=32)(x)
        block = Block(self.rate)
        return block(x) if self.is_initializing() else nn.cond(True, Block.__call__, lambda _, x: x, block, x)


KINDS = ["jit", "jit of a site", "remat", "scan", "vmap", "rnn", "weights", "cond"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_lifted_transformations(kind: str):
    """Value and gradient at two traced rates in one program; jitted blocks keep no tracer and no rate."""

    def loss(variables, rate, apply):
        return (apply(variables, X, rngs=RNGS) ** 2).sum()

    def rated(variables, rate):
        return loss(variables, rate, jl.with_rates(Lifted(0.0, kind).apply, {"*": rate}, bits=32))

    @jax.jit
    def both(variables, rates):
        expected = jax.value_and_grad(loss)(variables, 0.3, Lifted(0.3, kind).apply)
        return jax.vmap(jax.value_and_grad(rated), (None, 0))(variables, rates), expected

    variables = jax.jit(Lifted(0.3, kind).init)({"params": KEY, **RNGS}, X)
    with jax.checking_leaks():
        (values, gradients), expected = both(variables, jnp.array([0.1, 0.3]))
    assert values[0] != values[1]
    found = jax.tree.map(lambda leaf: leaf[1], (values, gradients))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, expected)


def test_traces_of_jitted_functions_are_not_shared_between_rates():
    net = nn.Dropout(0.5, deterministic=False)
    apply = jax.jit(lambda rng: net.apply({}, jnp.ones(1000), rng=rng))
    shares = [np.mean(call(KEY) == 0) for call in (apply, jl.with_rates(apply, {"*": 0.1}), apply)]
    shares.append(np.mean(jl.with_rates(apply, {"*": 0.9})(KEY) == 0))
    np.testing.assert_allclose(shares, [0.5, 0.1, 0.5, 0.9], atol=5 * 0.5 / 1000**0.5)


def test_patterns_in_a_block_with_a_shared_trace_are_refused():
    variables = Lifted(0.0, "jit").init(KEY, X)
    message = "one pattern '\\*' if a site is in a block under `nn.jit`, .* got 'JitBlock_./Dropout_0'"
    for rates in ({"JitBlock_0/*": 0.1}, {"*": 0.1, "JitBlock_0/*": None}, {"J*": 0.1}):
        with pytest.raises(ValueError, match=message):
            jl.with_rates(Lifted(0.0, "jit").apply, rates)(variables, X, rngs=RNGS)


class Sites(nn.Module):
    """Sites at rates that are its output."""

    @nn.compact
    def __call__(self, x):
        names = ("first", "middle", "mid", "head")
        drops = [nn.Dropout(0.5, deterministic=False, name=name)(x) for name in names]
        return jnp.stack([jnp.mean(drop == 0) for drop in drops])


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"mid*": 0.1, "*": 0.9}, [0.9, 0.1, 0.1, 0.9]),
        ({"*": 0.9, "mid*": 0.1, "middle": 0.7}, [0.9, 0.7, 0.1, 0.9]),
        ({"head": 0.0}, [0.5, 0.5, 0.5, 0.0]),
        ({"*": 0.0, "[fh]*": None}, [0.5, 0.0, 0.0, 0.5]),
    ],
)
def test_the_longest_pattern_applies(rates: dict, expected: list[float], jitted: bool):
    """In any order: `jit` sorts the keys of a dict."""
    call = lambda rates: jl.with_rates(Sites().apply, rates)({}, jnp.ones(1000), rngs=RNGS)  # noqa: E731
    for order in (rates, dict(reversed(rates.items()))):
        found = (jax.jit(call) if jitted else call)(order)
        np.testing.assert_allclose(found, expected, atol=5 * 0.5 / 1000**0.5)


@FAULTS
def test_faults(rates, error, message: str):
    with pytest.raises(error, match=message):
        jl.with_rates(Sites().apply, rates)({}, X, rngs=RNGS)


def test_models_and_functions_without_a_rate():
    with pytest.raises(ValueError, match="with at least one site of a rate, got none"):
        jl.with_rates(nn.Dense(3).init, {"*": 0.1})(KEY, X)
    for call in (jl.list_rates, lambda fun: jl.with_rates(fun, {"*": 0.1})):
        with pytest.raises(TypeError, match=r"`fun` must be a function that runs a model, .* got Sites."):
            call(Sites())
    with pytest.raises(ValueError, match="`bits` must be one of"):
        jl.with_rates(Sites().apply, {"*": 0.1}, bits=12)  # pyright: ignore[reportArgumentType]
    inner = jl.with_rates(Sites().apply, {"*": 0.1})
    with pytest.raises(ValueError, match="`with_rates` must not run inside another"):
        jl.with_rates(inner, {"*": 0.2})({}, X, rngs=RNGS)


@pytest.mark.parametrize("fun", [jl.attention_fn(jaxdrop.drop_key), jl.attention_fn(bits=8)])
def test_attention_functions_stay(fun):
    x = X[:, None].repeat(5, 1)

    def layer(rate: float) -> nn.Module:
        return nn.SelfAttention(2, dropout_rate=rate, deterministic=False, attention_fn=fun)

    variables = layer(0.0).init(KEY, x)
    rated = jax.jit(lambda rate: jl.with_rates(layer(0.0).apply, {"*": rate})(variables, x, rngs=RNGS))
    near(rated(0.4), layer(0.4).apply(variables, x, rngs=RNGS))


def test_attention_functions_without_a_rate_are_refused():
    layer = nn.SelfAttention(2, deterministic=False, attention_fn=lambda query, key, value, mask=None: value)
    with pytest.raises(TypeError, match="whose `attention_fn` takes `dropout_rate`, got ''"):
        jl.with_rates(layer.init, {"*": 0.1})(KEY, X[:, None])


def test_a_subclass_with_its_own_code_gets_the_rate():
    class Own(nn.Dropout):
        def __call__(self, x):
            return x * self.rate

    near(jax.jit(lambda rate: jl.with_rates(Own(0.5).apply, {"*": rate})({}, X))(0.25), X / 4)


class Direct(nn.Module):
    """Attention as some libraries write it: a function with a rate of the config."""

    @nn.compact
    def __call__(self, x):
        rng = self.make_rng("dropout")
        options = {"dropout_rng": rng, "dropout_rate": 0.5, "broadcast_dropout": False}
        return nn.dot_product_attention_weights(x, x, **options) + self.noise()

    @nn.jit
    def noise(self):
        return jax.random.normal(self.make_rng("noise"))


@pytest.mark.slow
def test_code_that_draws_itself_is_refused_unless_it_is_left_alone():
    class Mixed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Direct(name="direct")(nn.Dropout(0.5, deterministic=False)(x))

    x, rngs = X.reshape(1, 4, 2, 4), RNGS | {"noise": KEY}
    message = r"`rates` must be None for 'direct', or have .*: Direct drops by its own code"
    for rates in ({"*": 0.1}, {"*": 0.1, "Dropout_0": None}):
        with pytest.raises(ValueError, match=message):
            jl.with_rates(Mixed().apply, rates)({}, x, rngs=rngs)
    expected = Mixed().apply({}, x, rngs=rngs)
    for rates in ({"Dropout_0": 0.5}, {"?*": 0.5, "direct": None}):
        near(jl.with_rates(Mixed().apply, rates, bits=32)({}, x, rngs=rngs), expected)
    assert [site.path for site in jl.list_rates(Mixed().apply, {}, x, rngs=rngs)] == ["Dropout_0"]


@pytest.mark.slow
def test_a_predictor_at_other_rates():
    """Whatever the order in which the two override modes and rates."""

    class Two(nn.Module):
        rate: float

        @nn.compact
        def __call__(self, x):
            x = nn.Dropout(self.rate, deterministic=False)(x)
            attention = nn.SelfAttention(2, dropout_rate=self.rate, deterministic=False)
            return attention(x[:, None].repeat(3, 1))

    variables = Two(0.0).init(KEY, X)
    for sites in ("all", "last", "Dropout_0"):
        one, other = (jl.stochastic(Two(rate), variables, X, sites=sites) for rate in (0.3, 0.9))
        near(
            jl.with_rates(jax.jit(other.__call__), {"*": 0.3}, bits=32)(KEY, X), jax.jit(one.__call__)(KEY, X)
        )


def test_rates_are_listed(variables):
    types = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (variables, X))
    listed = jl.list_rates(BUILT.apply, *types, train=False)
    assert [site.path for site in listed] == PATHS
    assert [site.rate for site in listed] == ["0.3", "0.2", "0.2", "0.3", "0.3"]
    assert [site.kind for site in listed][-2:] == ["TrainDropout", "Dropout"]
    assert {site.rate for site in jl.list_rates(Library().apply, variables, X, train=False)} == {"0"}


def test_rates_of_parts_and_of_jitted_sites_are_listed_once():
    rngs = {"params": KEY, **RNGS}
    (outer, inner) = jl.list_rates(Lifted(0.3, "rnn").init, rngs, X)
    assert (outer.kind, outer.rate) == ("RecurrentDropoutCell", "0.3")
    assert (inner.kind, inner.rate) == ("ZoneoutCell", "0.3, 0.3")
    assert [site.path for site in jl.list_rates(Lifted(0.3, "jit of a site").init, rngs, X)] == [
        "JitMultiHeadAttention_0"
    ]


@pytest.mark.slow
def test_a_schedule_does_not_recompile(variables):
    traces = []

    @jax.jit
    def step(params, count):
        traces.append(None)
        rate = jaxdrop.schedules.linear(0.0, 0.5, steps=10)(count)

        def loss(params):
            apply = jl.with_rates(Library().apply, {"*": rate})
            y = apply({"params": params}, X, rngs={"dropout": jax.random.fold_in(KEY, count)})
            return (y**2).mean() + jaxdrop.penalties.l2(params, 1e-3 * rate)

        gradient = jax.grad(loss)(params)
        return jax.tree.map(lambda param, slope: param - 0.1 * slope, params, gradient)

    params = variables["params"]
    for count in range(3):
        params = step(params, count)
    assert len(traces) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.slow
def test_a_sweep_of_rates_trains_in_one_program(variables):
    """Under `vmap`, as a run for each rate of a model built with it."""
    optimizer = optax.adam(1e-2)

    def train(apply) -> jax.Array:
        def step(carry, key):
            params, state = carry

            def loss(params):
                y = apply({"params": params}, X, rngs={"dropout": key})
                return ((y - 1) ** 2).mean()

            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        params = variables["params"]
        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(KEY, 10))[1]

    def cell(rate):
        return train(jl.with_rates(Library().apply, by_pattern(rate, rate), bits=32))

    losses = jax.jit(jax.vmap(cell))(jnp.array([0.0, 0.1, 0.3, 0.5]))
    assert losses.shape == (4, 10)
    near(losses[2], jax.jit(lambda: train(Library(Config(0.3, 0.3)).apply))())
    assert (losses[:, -1] < losses[:, 0]).all()
