"""What Flax asserts of its Dropout and its attention's dropout, and where Flax errs.

Without a counterpart here: the traces and tables that Flax prints of modules.
"""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop.linen import Dropout, attention_fn

KEY = jax.random.key(0)
X = jnp.ones((20, 20))
ROW = jnp.ones((1, 10))


def test_dropout():
    """Flax linen_test.py::StochasticTest::test_dropout: another key, another draw; none if deterministic."""
    module, (first, second) = Dropout(0.5), jax.random.split(KEY)
    y, z = (module.apply({}, X, deterministic=False, rngs={"dropout": key}) for key in (first, second))
    assert not np.array_equal(y, z)
    y, z = (module.apply({}, X, deterministic=True, rngs={"dropout": key}) for key in (first, second))
    np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize("bits", [None, 32])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_dropout_rate_stats(rate, bits):
    """Flax linen_test.py::StochasticTest::test_dropout_rate_stats: the share kept of 100,000 elements."""
    keys = jax.random.split(jax.random.fold_in(KEY, round(10 * rate)), 10)
    kept = jax.vmap(lambda key: jaxdrop.dropout(key, jnp.ones((100, 100)), rate, bits=bits) > 0)(keys)
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / kept.size)


def test_dropout_rate_limits():
    """Flax linen_test.py::StochasticTest::test_dropout_rate_limits: all, nothing, and no NaN gradient."""
    np.testing.assert_array_equal(Dropout(0.0).apply({}, X, deterministic=False, rng=KEY), X)
    nothing = Dropout(1.0, deterministic=False)
    np.testing.assert_array_equal(nothing.apply({}, X, rng=KEY), 0 * X)
    np.testing.assert_array_equal(jax.grad(lambda x: nothing.apply({}, x, rng=KEY).sum())(X), 0 * X)


@pytest.mark.parametrize(
    ("rank", "dims"), [(2, (1,)), (2, (0,)), (3, (1, 2)), (3, (1,)), (4, (0, 2, 3)), (4, (0, 1)), (4, (3,))]
)
def test_dropout_broadcast(rank, dims):
    """Flax linen_test.py::StochasticTest::test_dropout_broadcast: sums over shared axes are all or none."""
    module = Dropout(0.5, broadcast_dims=dims, deterministic=False)
    y = np.asarray(module.apply({}, jnp.ones((10,) * rank), rngs={"dropout": KEY}))
    assert set(y.sum(dims).ravel()) == {0, 2 * 10 ** len(dims)}


def test_dropout_manual_rng():
    """Flax linen_test.py::StochasticTest::test_dropout_manual_rng: a key that is handed over is the draw."""

    class Foo(nn.Module):
        @nn.compact
        def __call__(self, x):
            key = self.make_rng("dropout")
            modules = [Dropout(rate=0.5, deterministic=False) for _ in range(2)]
            return [module(x, rng=jax.random.clone(key)) for module in modules]

    np.testing.assert_array_equal(*Foo().apply({}, X, rngs={"dropout": KEY}))


def test_the_stream_of_parameters_serves_where_there_is_no_other():
    """Flax linen_module_test.py::test_default_params_rng_equivalence, test_init_apply_default_rng."""
    module = Dropout(0.5, deterministic=False)
    expected = module.apply({}, X, rngs={"dropout": KEY})
    np.testing.assert_array_equal(module.apply({}, X, rngs={"params": KEY}), expected)
    np.testing.assert_array_equal(module.apply({}, X, rngs=KEY), expected)


def test_nnx_streams_of_ones_own_and_of_the_call():
    """Flax stochastic_test.py::test_dropout_internal_rngs: equal draws, counted, and no new trace."""
    own = jaxdrop.nnx.Dropout(rate=0.5, deterministic=False, rngs=nnx.Rngs(dropout=0))
    other, rngs, traces = jaxdrop.nnx.Dropout(rate=0.5, deterministic=False), nnx.Rngs(dropout=0).fork(), []

    @nnx.jit
    def f(module, x, rngs=None):
        traces.append(1)
        return module(x, rngs=rngs)

    assert own.rngs.count[...] == 0
    draws = []
    for calls in (1, 2):
        draws.append(f(own, ROW))
        np.testing.assert_array_equal(f(other, ROW, rngs=rngs), draws[-1])
        assert own.rngs.count[...] == rngs.dropout.count[...] == calls
    assert not np.array_equal(*draws)
    assert len(traces) == 2


def test_nnx_streams_of_the_call_come_first():
    """Flax stochastic_test.py::test_dropout_rng_override: the draw is that of the streams given last."""
    first = jaxdrop.nnx.Dropout(rate=0.5, rngs=nnx.Rngs(dropout=0))
    second = jaxdrop.nnx.Dropout(rate=0.5, rngs=nnx.Rngs(dropout=1))
    y = first(ROW)
    assert not np.array_equal(second(ROW), y)
    np.testing.assert_array_equal(second(ROW, rngs=nnx.Rngs(dropout=0).fork()), y)


def _set(module, deterministic):
    module.set_attributes(deterministic=deterministic)
    return module


def _view(module, deterministic):
    return nnx.view(module, deterministic=deterministic)


@pytest.mark.parametrize("switched", [_set, _view])
def test_nnx_arguments_of_the_call_come_first(switched):
    """Flax stochastic_test.py::test_dropout_arg_override{,_view}: and a key is asked for."""
    module = jaxdrop.nnx.Dropout(rate=0.5, deterministic=False)
    np.testing.assert_array_equal(module(ROW, deterministic=True), ROW)
    module = switched(module, True)
    np.testing.assert_array_equal(module(ROW), ROW)
    assert not np.array_equal(module(ROW, deterministic=False, rngs=nnx.Rngs(dropout=0)), ROW)
    module = switched(module, False)
    with pytest.raises(ValueError, match="`rngs` must be given to the constructor or the call, got None"):
        module(ROW)


def attention(rate: float, **options) -> nn.Module:
    return nn.MultiHeadDotProductAttention(
        num_heads=8,
        qkv_features=16,
        kernel_init=nn.initializers.ones,
        dropout_rate=rate,
        attention_fn=attention_fn(),
        **options,
    )


@pytest.mark.slow
def test_attention_keys():
    """Flax linen_attention_test.py::test_multihead_self_attention_{w,explicit}_dropout: whose key it is."""

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, key=None):
            return [attention(0.5, deterministic=False)(x, x, dropout_rng=key) for _ in range(2)]

    x = jnp.ones((4, 2, 3, 5))
    params, own, other, given = jax.random.split(KEY, 4)
    variables = Twice().init({"params": params, "dropout": own}, x)
    apply = jax.jit(lambda rngs, key=None: Twice().apply(variables, x, key, rngs=rngs))
    (a, b), (c, d) = (apply({"dropout": key}) for key in (own, other))
    assert a.shape == b.shape == x.shape
    for y, z in ((a, b), (a, c), (b, d)):
        assert not np.array_equal(y, z)
    for y, z in zip(apply({"dropout": own}), (a, b), strict=True):
        np.testing.assert_array_equal(y, z)
    for rngs in ({}, {"dropout": own}):
        y, z = apply(rngs, given)
        np.testing.assert_array_equal(y, z)
        assert not np.array_equal(y, a)


def test_attention_disabled():
    """Flax linen_attention_test.py::test_multihead_self_attention_w_dropout_disabled: keys do not matter."""
    x = jnp.ones((4, 2, 3, 5))
    first, second = ({"params": KEY, "dropout": key} for key in jax.random.split(KEY))
    still = attention(0.0, deterministic=True)
    y, variables = still.init_with_output(first, x)
    for module, options in (
        (still, {}),
        (attention(0.0), {"deterministic": True}),
        (attention(0.5), {"deterministic": True}),
    ):
        for rngs in (first, second):
            np.testing.assert_array_equal(module.apply(variables, x, rngs=rngs, **options), y)


@pytest.mark.parametrize("rate", [-0.3, 1.7])
def test_impossible_rates(rate):
    """Flax takes -0.3, and scales by 0.77, and 1.7, and gives zeros; here they are refused."""
    message = re.escape(f"`rate` must lie in [0, 1], got {rate:g}.")
    with pytest.raises(ValueError, match=message):
        Dropout(rate, deterministic=False).apply({}, X, rng=KEY)
    with pytest.raises(ValueError, match=message):
        jaxdrop.nnx.Dropout(rate, rngs=nnx.Rngs(0))


def test_traced_rates():
    """Flax raises TracerBoolConversionError; here a rate may be traced, in every place."""
    key = nnx.Rngs(dropout=0).dropout.fork()()
    places = (
        lambda rate: jaxdrop.dropout(key, X, rate),
        lambda rate: Dropout(rate, deterministic=False).apply({}, X, rng=key),
        lambda rate: Dropout(0.9, deterministic=False).apply({}, X, rng=key, rate=rate),
        lambda rate: jaxdrop.nnx.Dropout(rate)(X, rngs=key),
        lambda rate: jaxdrop.nnx.Dropout(0.9, rngs=nnx.Rngs(dropout=0))(X, rate=rate),
    )
    f = jax.jit(lambda rate: [place(rate) for place in places])
    for rate in (0.0, 0.5, 1.0):
        for y in f(rate):
            np.testing.assert_array_equal(y, jaxdrop.dropout(key, X, rate))


def test_half_precision_with_a_rate_of_single_precision():
    """Flax raises TypeError for a bfloat16 array and a float32 rate; here the array's dtype stays."""
    x = X.astype(jnp.bfloat16)
    y = Dropout(jnp.float32(0.1), deterministic=False).apply({}, x, rng=KEY)
    assert y.dtype == jnp.bfloat16
    # The scale is rounded once: 1.1115 is 1.109375 of bfloat16.
    assert set(np.unique(y.astype(jnp.float32))) == {0.0, 1.109375}


def test_attention_draws_for_every_example_and_head():
    """Flax draws one mask for all examples and heads by default, and one for all is asked for here."""
    weights = jnp.full((4, 2, 6, 6), 1 / 6)
    own = jaxdrop.attention_dropout(KEY, weights, 0.4)
    assert len({np.asarray(head).tobytes() for head in own.reshape(8, -1)}) == 8
    shared = jaxdrop.attention_dropout(KEY, weights, 0.4, broadcast_dims=(0, 1))
    np.testing.assert_array_equal(shared, jnp.broadcast_to(shared[:1, :1], shared.shape))
