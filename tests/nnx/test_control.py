"""Control of the modules of other people: their classes, their methods, their Linen modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxdrop.nnx as jn
from tests.nnx import patterns
from tests.nnx.patterns import X

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
REGISTERED = {}


class Registered(nnx.Module):
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        assert cls.__name__ not in REGISTERED
        REGISTERED[cls.__name__] = cls


class Member(Registered):
    """A class that is registered, with a function and a method as class attributes."""

    activation = nnx.relu
    scale = staticmethod(lambda x: 2 * x)

    def __init__(self, rngs: nnx.Rngs):
        self.dropout, self.parts = nnx.Dropout(0.5, rngs=rngs), nnx.List([nnx.Linear(8, 8, rngs=rngs)])

    @property
    def first(self):
        return self.parts[0]

    @nnx.jit
    def hidden(self, x):
        return self.dropout(self.first(x))

    def __call__(self, x):
        return self.scale(nnx.relu(self.hidden(x))) + len(self.parts)


def test_hooks_of_classes_do_not_see_the_copies():
    model = Member(nnx.Rngs(0))
    predict = jn.stochastic(model, X)
    assert [site.path for site in predict.sites] == ["dropout"]
    assert list(REGISTERED.values()) == [Member]
    assert type(model) is Member
    assert not any(name.endswith("path") for name in vars(model))
    np.testing.assert_array_equal(jn.stochastic(model, X)(KEY, X), predict(KEY, X))


class NoPytree(nnx.Module, pytree=False):
    def __init__(self, rngs: nnx.Rngs):
        self.layers = [nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_module_that_is_no_pytree():
    assert [site.path for site in jn.stochastic(NoPytree(nnx.Rngs(0)), X).sites] == ["layers/1"]


class Path(nnx.Module):
    """Noise with a mode that `model.eval()` does not set."""

    def __init__(self, training: bool, rngs: nnx.Rngs):
        self.training, self.rngs = training, rngs.fork()

    def __call__(self, x):
        return x + self.rngs.normal(x.shape) if self.training else x


class Paths(nnx.Module):
    def __init__(self, *modes: bool, dropout: bool = True):
        rngs = nnx.Rngs(0)
        self.paths = nnx.List([Path(mode, rngs) for mode in modes])
        self.dropout = nnx.Dropout(0.5, deterministic=not dropout, rngs=rngs)

    def __call__(self, x):
        for path in self.paths:
            x = path(x)
        return self.dropout(x)


@pytest.mark.parametrize(
    ("modes", "dropout", "sites"),
    [
        ((True, True), False, ["paths/0", "paths/1", "dropout"]),
        ((False, False), False, ["paths/0", "paths/1", "dropout"]),
        ((True, False), False, ["paths/0", "dropout"]),
        ((False, False), True, ["dropout"]),
    ],
)
def test_modes_that_flax_does_not_set(modes: tuple, dropout: bool, sites: list[str]):
    model = Paths(*modes, dropout=dropout)
    assert [site.path for site in jn.stochastic(model, X).sites] == sites
    assert [site.path for site in jn.stochastic(model, X, sites="*").sites] == [
        "paths/0",
        "paths/1",
        "dropout",
    ]
    only = jn.stochastic(model, X, sites="paths/0")
    assert [site.path for site in only.sites] == ["paths/0"]


@pytest.mark.slow
def test_a_random_carry_is_a_draw():
    """One of zeros takes a key too, and does nothing with it."""
    zeros = nnx.RNN(nnx.LSTMCell(8, 4, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="`model` must have at least one stochastic site, got none"):
        jn.stochastic(zeros, X[:, None])
    normal = nnx.LSTMCell(8, 4, carry_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0))
    assert [site.path for site in jn.stochastic(nnx.RNN(normal), X[:, None]).sites] == ["cell"]


def test_attention_that_does_not_keep_its_streams():
    model = nnx.MultiHeadAttention(2, 8, dropout_rate=0.5, decode=False, keep_rngs=False, rngs=nnx.Rngs(0))
    """The call takes them instead."""
    predict = jn.stochastic(model, X[:, None].repeat(3, 1))
    assert [site[1:] for site in predict.sites] == [("MultiHeadAttention", "default", "0.5")]


@pytest.mark.slow
def test_a_model_of_other_rates():
    model = jn.with_rates(patterns.evaluated(patterns.Subclasses)(nnx.Rngs(0)), {"*": 0.25})
    predict = jn.stochastic(model, X)
    found = [("attention", "MyAttention", "0.25"), ("dropout", "MyDropout", "0.25")]
    assert [(site.path, site.kind, site.rate) for site in predict.sites] == found
    assert [site.path for site in jn.stochastic(model, X, sites="attention").sites] == ["attention"]
    only = np.asarray(jn.stochastic(model, jnp.ones((50, 8)), sites="dropout")(KEY, jnp.ones((50, 8))))
    assert abs(np.mean(only == 0) - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5


def test_stacked_layers_need_streams():
    class Stack(patterns.Stack):
        def __init__(self, rngs: nnx.Rngs):
            self.layers = nnx.vmap(lambda key: nnx.Sequential(nnx.Dropout(0.5), Member(nnx.Rngs(key))))(
                jax.random.split(KEY, 3)
            )

    with pytest.raises(ValueError, match="`model` must be made with `rngs` for layers/layers/0, got none"):
        jn.stochastic(Stack(nnx.Rngs(0)), X)


@pytest.mark.slow
@pytest.mark.parametrize("sites", ["linen/*", "dropout"])
def test_a_site_in_linen_obeys(sites: str):
    model = patterns.LinenInside(nnx.Rngs(0))
    predict = jn.stochastic(model, X, sites=sites)
    assert [site.path for site in predict.sites] == ["linen/Dropout_0" if "*" in sites else "dropout"]
    zeros = np.mean(np.asarray(predict(KEY, X)) == 0)
    assert (zeros == 0) == ("*" in sites)
    alone = predict(KEY, X[:1])
    assert alone.shape == (1, 8)


class LinenStatistics(nn.Module):
    """A batch norm of somebody else's in Linen."""

    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "mean", jnp.zeros, (1, 8))
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            mean.value = x.mean(0, keepdims=True)
        return nn.Dropout(0.5, deterministic=False)(x - x.mean(0, keepdims=True))


def test_statistics_in_linen_are_refused():
    model = nnx.bridge.ToNNX(LinenStatistics(), rngs=nnx.Rngs(0)).lazy_init(X)
    with pytest.raises(ValueError, match=r"must not use statistics of its batch, but .* \(LinenStatistics\)"):
        jn.stochastic(model, X)


class Normalized(nnx.Module):
    def __init__(self, rate: float, rngs: nnx.Rngs):
        self.norm, self.dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(x))


def test_statistics_of_nnx_in_linen_are_refused():
    model = nnx.bridge.ToNNX(patterns.Nested(Normalized), rngs=nnx.Rngs(params=0, dropout=1)).lazy_init(X)
    with pytest.raises(
        ValueError, match="statistics of its batch in a Linen module, got Normalized in `ToLinen`"
    ):
        jn.stochastic(model, X)
