"""What the NNX modules share, and how they live in models."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdrop.nnx
from tests.normals import standard_normal
from tests.shells import ALL, Case, cases, equal

KEY = jax.random.key(0)
X = standard_normal(1, (16, 8))


class MLP(nnx.Module):
    def __init__(self, dropout, rngs):
        self.a, self.b = nnx.Linear(8, 32, rngs=rngs), nnx.Linear(32, 1, rngs=rngs)
        self.dropout = dropout(0.4, rngs=rngs)

    def __call__(self, x):
        return self.b(self.dropout(nnx.relu(self.a(x))))


def flax_bits(*args, **options):
    return jaxdrop.nnx.Dropout(*args, bits=32, **options)


def test_dropout_takes_every_argument_of_flax():
    for method in ("__init__", "__call__"):
        mine = inspect.signature(getattr(jaxdrop.nnx.Dropout, method)).parameters
        flax = inspect.signature(getattr(nnx.Dropout, method)).parameters
        assert [mine[name].default for name in flax] == [flax[name].default for name in flax]


@pytest.mark.slow
def test_a_model_switches_by_its_import():
    """Trained side by side, with 32 bits: the same losses at every step."""
    losses = {}
    for dropout in (nnx.Dropout, flax_bits):
        model = MLP(dropout, nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer):
            loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(X) - 1) ** 2))(model)
            optimizer.update(model, grads)
            return loss

        losses[dropout] = [float(step(model, optimizer)) for _ in range(5)]
    np.testing.assert_allclose(losses[flax_bits], losses[nnx.Dropout], rtol=1e-5)
    assert len(set(losses[flax_bits])) == 5


def test_train_eval_and_view():
    model = MLP(jaxdrop.nnx.Dropout, nnx.Rngs(0))
    assert not np.array_equal(model(X), model(X))
    model.eval()
    np.testing.assert_array_equal(model(X), model(X))
    model.train()
    assert not np.array_equal(model(X), model(X))
    still = nnx.view(model, deterministic=True)
    np.testing.assert_array_equal(still(X), still(X))


def test_sources_of_keys():
    rngs = nnx.Rngs(dropout=3)
    x = jnp.ones(64)
    module = jaxdrop.nnx.Dropout(0.5)
    np.testing.assert_array_equal(module(x, rngs=nnx.Rngs(dropout=3)), module(x, rngs=rngs.dropout))
    np.testing.assert_array_equal(module(x, rngs=KEY), jaxdrop.dropout(KEY, x, 0.5))
    with pytest.raises(ValueError, match=re.escape("`rngs` must be given to the constructor or the call")):
        module(x)
    with pytest.raises(
        TypeError, match=re.escape("`rngs` must be nnx.Rngs, an nnx.RngStream or, in a call, a key, got int.")
    ):
        jaxdrop.nnx.Dropout(0.5, rngs=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`deterministic` must be given"):
        jaxdrop.nnx.Dropout(0.5, deterministic=None)(x, rngs=KEY)


def test_a_rate_held_in_a_variable():
    """The natural home of a schedule in NNX: a variable that a jitted step may set."""
    module = jaxdrop.nnx.Dropout(nnx.Variable(jnp.float32(0.0)), rngs=nnx.Rngs(0))
    step = nnx.jit(lambda module, x: module(x))
    np.testing.assert_array_equal(step(module, jnp.ones(64)), 1)
    module.rate.set_value(jnp.float32(1.0))
    np.testing.assert_array_equal(step(module, jnp.ones(64)), 0)


def test_layers_of_one_rngs_draw_independently():
    rngs = nnx.Rngs(0)
    layers = [jaxdrop.nnx.Dropout(0.5, rngs=rngs) for _ in range(4)]
    assert len({np.asarray(layer(jnp.ones(64))).tobytes() for layer in layers for _ in range(4)}) == 16


def test_split_merge_and_an_array_of_rates():
    module = jaxdrop.nnx.GaussianNoise(jnp.array([0.0, 1.0]), rngs=nnx.Rngs(0))
    graph, state = nnx.split(module)
    again = nnx.merge(graph, state)
    y = again(jnp.zeros((100, 2)))
    assert float(jnp.abs(y[:, 0]).max()) == 0
    assert float(y[:, 1].std()) > 0.5


def test_tabulate():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.dropout = jaxdrop.nnx.Dropout(0.5, rngs=rngs)
            self.dense = jaxdrop.nnx.DropConnect(nnx.Linear(4, 4, rngs=rngs), 0.5, rngs=rngs)
            self.last = jaxdrop.nnx.VariationalDense(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.last(self.dense(self.dropout(x)))[0]

    table = nnx.tabulate(Model(nnx.Rngs(0)), jnp.ones((2, 4)), console_kwargs={"width": 200})
    for name in ("Dropout", "DropConnect", "VariationalDense"):
        assert name in table


def test_a_key_is_no_source_for_what_a_module_owns():
    with pytest.raises(TypeError, match=r"`rngs` must be nnx.Rngs or an nnx.RngStream, got PRNGKeyArray\."):
        jaxdrop.nnx.VariationalDense(3, 3, rngs=jax.random.key(0))


@cases([case for case in ALL if case.level and case.name != "PatchDropout"])
def test_a_module_made_under_a_transformation_keeps_its_rate(case: Case):
    """A traced rate is data, not a constant that dies with its trace; so is an array set later."""
    make = functools.partial(getattr(jaxdrop.nnx, case.name), **case.options)
    module = nnx.jit(lambda rate: make(rate, rngs=nnx.Rngs(0)))(jnp.float32(0.3))
    later = make(0.1, rngs=nnx.Rngs(0))
    setattr(later, case.level, jnp.float32(0.3))
    stacked = nnx.vmap(make)(jnp.array([0.1, 0.3]))
    for one in (module, later, nnx.merge(*nnx.split(later))):
        assert getattr(one, case.level) == jnp.float32(0.3)
        equal(one(*case.data, rngs=jax.random.key(5), **case.called), case.expected(jnp.float32(0.3)))
    np.testing.assert_array_equal(getattr(stacked, case.level), jnp.array([0.1, 0.3]))


@pytest.mark.slow
def test_stacked_blocks_with_a_rate_per_layer():
    class Block(nnx.Module):
        def __init__(self, rate, rngs):
            self.drop = jaxdrop.nnx.DropPath(rate, rngs=rngs)

        def __call__(self, x):
            return x + self.drop(x)

    rates = jnp.array([0.0, 1.0, 0.0])
    blocks = nnx.split_rngs(splits=3)(nnx.vmap(Block))(rates, nnx.Rngs(0))
    call = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    np.testing.assert_array_equal(nnx.jit(call)(blocks, jnp.ones((2, 3))), 4.0)


def test_an_untyped_key_may_be_of_numpy():
    key = jax.random.PRNGKey(3)
    module = jaxdrop.nnx.Dropout(0.5)
    np.testing.assert_array_equal(module(X, rngs=np.asarray(key)), module(X, rngs=key))
