"""Rates of other people's NNX models, by pattern of path."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.nnx as jn
from tests.normals import standard_normal
from tests.rates import FAULTS

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X = standard_normal(1, (4, 8))


@dataclasses.dataclass(frozen=True)
class Config:
    """As other libraries have one, with rates that are numbers."""

    hidden: float = 0.9
    attention: float = 0.9


class TrainDropout(nnx.Dropout):
    """A subclass with its own signature."""

    def __call__(self, x, train: bool):
        return super().__call__(x, deterministic=not train)


class Encoder(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        options = {"dropout_rate": config.attention, "decode": False, "deterministic": False, "rngs": rngs}
        self.linear, self.norm = nnx.Linear(8, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(config.hidden, broadcast_dims=(0,), rngs=rngs)
        self.self = nnx.MultiHeadAttention(2, 8, **options)
        self.cross = nnx.MultiHeadAttention(2, 8, broadcast_dropout=False, **options)

    def __call__(self, x):
        x = self.dropout(self.norm(self.linear(x)))[:, None].repeat(3, 1)
        return self.cross(self.self(x))[:, 0]


class Library(nnx.Module):
    """A third-party model: nothing in it takes a rate but its config."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config, self.encoder = config, Encoder(config, rngs)
        self.middle = TrainDropout(config.hidden, rngs=rngs)
        self.last = jn.Dropout(config.hidden, bits=32, rngs=rngs)

    def __call__(self, x, train: bool = True):
        return self.last(self.middle(nnx.relu(self.encoder(x)), train), rate=self.config.hidden)


PATHS = {"encoder/dropout", "encoder/self", "encoder/cross", "middle", "last"}


def by_pattern(hidden, attention) -> dict:
    return {"*": hidden, "encoder/[sc]*": attention}


def library(*rates: float) -> Library:
    return Library(Config(*rates), nnx.Rngs(0))


@nnx.jit
def rated(model, hidden, attention):
    return jn.with_rates(model, by_pattern(hidden, attention), bits=32)(X)


@nnx.jit
def called(model):
    return model(X)


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.fixture(scope="module")
def expected():
    """Of Flax's own code in a model built with the rates."""
    return called(library(0.3, 0.2))


@pytest.mark.slow
def test_traced_rates_are_those_of_a_built_model(expected):
    near(rated(library(), 0.3, 0.2), expected)


@pytest.mark.parametrize("number", [float, jnp.float32, np.float32])
def test_concrete_rates_are_those_of_a_built_model(number, expected):
    model = jn.with_rates(library(), by_pattern(number(0.3), number(0.2)), bits=32)
    near(called(model), expected)


@pytest.mark.slow
def test_a_vmap_over_rates_is_a_loop():
    pairs = jnp.array([[0.0, 0.5], [1.0, 0.0]])
    found = jax.jit(jax.vmap(lambda pair: rated(library(), *pair)))(pairs)
    near(found, jnp.stack([called(library(*map(float, pair))) for pair in pairs]))


def test_own_masks_by_default():
    model = jn.with_rates(nnx.Dropout(0.0, broadcast_dims=(1,)), {"*": 0.5}, bits=8)
    found = model(X, rngs=KEY)
    np.testing.assert_array_equal(found, jaxdrop.dropout(KEY, X, 0.5, broadcast_dims=(1,), bits=8))


@pytest.mark.slow
def test_the_model_is_unchanged_and_its_variables_are_shared():
    """So a gradient, statistics of batches and streams of keys are the model's."""
    model = library()
    listed = jn.list_rates(model)
    first = rated(model, 0.3, 0.2)
    assert jn.list_rates(model) == listed
    assert type(model.middle) is TrainDropout
    assert type(model.encoder.dropout) is nnx.Dropout
    assert type(model.encoder.self) is nnx.MultiHeadAttention
    assert model.encoder.dropout.rngs.count[...] == 1
    assert np.any(model.encoder.norm.mean[...] != 0)
    assert np.any(first != rated(model, 0.3, 0.2))
    gradient = nnx.jit(nnx.grad(lambda model, rate: rated(model, rate, rate).sum()))(model, 0.1)
    assert np.any(gradient.encoder.linear.kernel[...] != 0)
    assert jax.tree.structure(gradient) == jax.tree.structure(nnx.state(model, nnx.Param))


def test_modes_and_keys_are_those_of_the_model():
    model = jn.with_rates(nnx.Dropout(0.0), {"*": 0.3})
    with pytest.raises(ValueError, match="`rngs` must be given"):
        model(X)
    assert model(X, deterministic=True) is X
    model.eval()
    assert model(X) is X
    assert jn.with_rates(nnx.Dropout(0.5, deterministic=True), {"*": 0.3})(X) is X
    with pytest.raises(ValueError, match="`deterministic` must be given"):
        jn.with_rates(nnx.Dropout(0.0, deterministic=None), {"*": 0.3})(X)


def test_a_traced_rate_out_of_range_is_not_a_number():
    assert np.isnan(rated(library(), 1.3, 0.2)).all()


class Block(nnx.Module):
    def __init__(self, rate: float, rngs: nnx.Rngs):
        self.linear, self.dropout = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.linear(x))


class Lifted(nnx.Module):
    def __init__(self, rate: float, kind: str):
        self.kind, rngs = kind, nnx.Rngs(0)
        if kind == "scan":
            make = nnx.split_rngs(splits=2)(nnx.vmap(lambda rngs: Block(rate, rngs)))
            self.block = make(rngs)
        elif kind == "rnn":
            inner = jn.ZoneoutCell(nnx.LSTMCell(8, 8, rngs=rngs), (rate, rate), bits=32, rngs=rngs)
            self.block = nnx.RNN(jn.RecurrentDropoutCell(inner, rate, bits=32, rngs=rngs))
        elif kind == "weights":
            self.block = jn.DropConnect(nnx.Linear(8, 8, rngs=rngs), rate, bits=32, rngs=rngs)
        else:
            self.block = Block(rate, rngs)

    def __call__(self, x):
        def call(block, x):
            return block(x[:, None] if self.kind == "rnn" else x)

        if self.kind == "scan":
            scan = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            return scan(x, self.block)
        if self.kind == "cond":
            return nnx.cond(x.sum() < np.inf, call, lambda _, x: x, self.block, x)
        return {"jit": nnx.jit, "remat": nnx.remat}.get(self.kind, lambda call: call)(call)(self.block, x)


@pytest.mark.parametrize("kind", ["jit", "remat", "scan", "cond", "rnn", "weights"])
def test_lifted_transformations(kind: str):
    """Value and gradient at two traced rates in one program; jitted blocks keep no tracer and no rate."""

    def loss(model):
        return (model(X) ** 2).sum()

    def rated(rate):
        model = Lifted(0.9, kind)
        return nnx.value_and_grad(lambda model: loss(jn.with_rates(model, {"*": rate}, bits=32)))(model)

    @jax.jit
    def both(rates):
        return jax.vmap(rated)(rates), nnx.value_and_grad(loss)(Lifted(0.3, kind))

    (values, gradients), expected = both(jnp.array([0.1, 0.3]))
    assert values[0] != values[1]
    found = jax.tree.map(lambda leaf: leaf[1], (values, gradients))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, expected)


class Sites(nnx.Module):
    """Sites at rates that are its output."""

    names = ("first", "middle", "mid", "head")

    def __init__(self):
        rngs = nnx.Rngs(0)
        for name in self.names:
            setattr(self, name, nnx.Dropout(0.5, rngs=rngs))

    def __call__(self, x):
        return jnp.stack([jnp.mean(getattr(self, name)(x) == 0) for name in self.names])


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"*": 0.9, "mid*": 0.1, "middle": 0.7}, [0.9, 0.7, 0.1, 0.9]),
        ({"head": 0.0}, [0.5, 0.5, 0.5, 0.0]),
        ({"*": 0.0, "[fh]*": None}, [0.5, 0.0, 0.0, 0.5]),
    ],
)
def test_the_longest_pattern_applies(rates: dict, expected: list[float]):
    for order in (rates, dict(reversed(rates.items()))):
        found = jn.with_rates(Sites(), order)(jnp.ones(1000))
        np.testing.assert_allclose(found, expected, atol=5 * 0.5 / 1000**0.5)


@FAULTS
def test_faults(rates, error, message: str):
    with pytest.raises(error, match=message):
        jn.with_rates(Sites(), rates)


def test_models_without_a_rate():
    with pytest.raises(ValueError, match="with at least one site of a rate, got none"):
        jn.with_rates(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), {"*": 0.1})
    for call in (jn.list_rates, lambda model: jn.with_rates(model, {"*": 0.1})):
        with pytest.raises(TypeError, match=r"`model` must be an NNX module, got function."):
            call(library)
    with pytest.raises(ValueError, match="`bits` must be one of"):
        jn.with_rates(Sites(), {"*": 0.1}, bits=12)  # pyright: ignore[reportArgumentType]


def attention(rate: float, fun) -> nnx.MultiHeadAttention:
    options = {"decode": False, "deterministic": False, "rngs": nnx.Rngs(0)}
    return nnx.MultiHeadAttention(2, 8, dropout_rate=rate, attention_fn=fun, **options)


@pytest.mark.slow
def test_attention_functions_stay():
    fun, x = jn.attention_fn(jaxdrop.drop_key), X[:, None].repeat(5, 1)
    found = nnx.jit(lambda model, rate: jn.with_rates(model, {"*": rate})(x))(attention(0.9, fun), 0.4)
    near(found, attention(0.4, fun)(x))


def test_attention_functions_without_a_rate_are_refused():
    layer = attention(0.9, lambda query, key, value, mask: value)
    with pytest.raises(TypeError, match="whose `attention_fn` takes `dropout_rate`, got ''"):
        jn.with_rates(layer, {"*": 0.1})


@pytest.mark.slow
def test_a_model_of_other_rates_has_other_rates_again_and_a_predictor():
    twice = jn.with_rates(jn.with_rates(library(), {"*": jnp.float32(0.7)}), by_pattern(0.3, 0.2), bits=32)
    one, other = (jn.stochastic(model, X) for model in (library(0.3, 0.2), twice))
    # The model gives the last rate in its call.
    assert one.sites[:-1] == other.sites[:-1]
    near(jax.jit(other.__call__)(KEY, X), jax.jit(one.__call__)(KEY, X))


def test_rates_are_listed():
    listed = {site.path: site for site in jn.list_rates(library(0.0, 0.2))}
    assert listed.keys() == PATHS
    assert (listed["encoder/self"].kind, listed["encoder/self"].rate) == ("MultiHeadAttention", "0.2")
    assert (listed["middle"].kind, listed["middle"].rate) == ("TrainDropout", "0")
    assert [site.rate for site in jn.list_rates(Lifted(0.3, "rnn"))] == ["0.3, 0.3", "0.3"]


@pytest.mark.slow
def test_a_sweep_of_rates_trains_in_one_program():
    """Under `vmap`, as a run for each rate of a model built with it."""

    def train(model, at_rate) -> jax.Array:
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

        def step(pair, _):
            def loss(model):
                return ((at_rate(model)(X) - 1) ** 2).mean()

            model, optimizer = pair
            value, gradient = nnx.value_and_grad(loss)(model)
            optimizer.update(model, gradient)
            return pair, value

        return nnx.scan(step, length=5, out_axes=(nnx.Carry, 0))((model, optimizer), None)[1]

    def cell(rate):
        return train(Block(0.9, nnx.Rngs(0)), lambda model: jn.with_rates(model, {"*": rate}, bits=32))

    losses = jax.jit(jax.vmap(cell))(jnp.array([0.0, 0.1, 0.3, 0.5]))
    assert losses.shape == (4, 5)
    near(losses[2], jax.jit(lambda: train(Block(0.3, nnx.Rngs(0)), lambda model: model))())
