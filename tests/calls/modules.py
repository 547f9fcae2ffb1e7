"""A small valid call of every Flax module, in both APIs, and of the functions beside them."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jaxdrop
import jaxdrop.linen as jl
import jaxdrop.nnx as jn
from jaxdrop import training
from jaxdrop._types import PyTree
from tests import shells
from tests.calls.arrays import KEY, Call, X, call

TOKENS = jnp.arange(32).reshape(8, 4)
ON = {"deterministic": False}
# Of a cell: Flax's `RNN` begins with zeros that no mesh axis is stated of, and so not on an explicit mesh.
STATE = jnp.ones((8, 3)), jnp.zeros((8, 3))


def named(case: shells.Case) -> str:
    """A module that has a second case is called by its options too."""
    first = next(other for other in shells.ALL if other.name == case.name)
    return case.name if case is first else f"{case.name} of {' '.join(case.options | case.called)}"


def of_linen(module: nn.Module, *data: jax.Array) -> Call:
    """Its variables, and an application."""

    def run(key: jax.Array, *data: jax.Array) -> PyTree:
        params, first, second = jax.random.split(key, 3)
        variables = module.init({"params": params, "dropout": first}, *data)
        return module.apply(variables, *data, rngs={"dropout": second})

    return call(run, KEY, *data)


def of_nnx(make: Callable[[nnx.Rngs], Callable[..., PyTree]], *data: jax.Array) -> Call:
    return call(lambda key, *data: make(nnx.Rngs(key))(*data), KEY, *data)


def linen_case(case: shells.Case) -> Call:
    module = getattr(jl, case.name)(*case.levels, **case.options, **ON)
    return call(lambda key, *data: module.apply({}, *data, rng=key, **case.called), KEY, *case.data)


def nnx_case(case: shells.Case) -> Call:
    make = getattr(jn, case.name)

    def run(key: jax.Array, *data: jax.Array) -> PyTree:
        return make(*case.levels, **case.options, rngs=nnx.Rngs(key))(*data, **case.called)

    return call(run, KEY, *case.data)


def linen_sampled(key: jax.Array, x: jax.Array) -> PyTree:
    model, (params, first, second) = (
        nn.Sequential([nn.Dense(3), jl.Dropout(0.5, **ON)]),
        jax.random.split(key, 3),
    )
    variables = model.init({"params": params, "dropout": first}, x)
    return jl.stochastic(model, variables, x)(second, x)


def linen_batch_norm(key: jax.Array, data: jax.Array) -> PyTree:
    model, (params, draw) = nn.Sequential([nn.BatchNorm(use_running_average=True)]), jax.random.split(key)
    variables = model.init(params, data)
    return jl.mc_batch_norm(model, variables, data, batch_size=2)(draw, data)


def linen_rated(key: jax.Array, x: jax.Array) -> PyTree:
    rated = jl.with_rates(jl.Dropout(0.5, **ON).apply, {"*": 0.3})
    return rated({}, x, rngs={"dropout": key})


def nnx_trained(key: jax.Array, x: jax.Array) -> PyTree:
    rngs = nnx.Rngs(0)
    parts = jn.trainable(nnx.Sequential(nnx.Linear(6, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)))
    loss_fn = parts.loss_fn(lambda model, _, x: (jnp.mean(model(x) ** 2), {}))
    init, step = training.trainer(loss_fn, optax.sgd(0.1))
    state, (loss, _) = step(init(key, parts.params, parts.model_state), x)
    return jax.tree.leaves(state.params), loss


def nnx_batch_norm(key: jax.Array, data: jax.Array) -> PyTree:
    model = nnx.Sequential(nnx.BatchNorm(6, rngs=nnx.Rngs(0)))
    return jn.mc_batch_norm(model, data, batch_size=2)(key, data)


def nnx_sampled(key: jax.Array, x: jax.Array) -> PyTree:
    model, draw = jax.random.split(key)
    rngs = nnx.Rngs(model)
    predict = jn.stochastic(nnx.Sequential(nnx.Linear(6, 3, rngs=rngs), jn.Dropout(0.5, rngs=rngs)), x)
    return predict(draw, x)


def linen_recurrent(key: jax.Array, x: jax.Array, state: PyTree) -> PyTree:
    cell, (first, params) = jl.RecurrentDropoutCell(nn.LSTMCell(3), 0.3, **ON), jax.random.split(key)
    _, masks = cell.initialize_carry(first, x.shape)
    (after, _), y = cell.init_with_output(params, (state, masks), x)[0]
    return after, y


def nnx_recurrent(key: jax.Array, x: jax.Array, state: PyTree) -> PyTree:
    rngs = nnx.Rngs(key)
    cell = jn.RecurrentDropoutCell(nnx.LSTMCell(6, 3, rngs=rngs), 0.3, rngs=rngs)
    _, masks = cell.initialize_carry(x.shape, rngs)
    (after, _), y = cell((state, masks), x)
    return after, y


LINEN = {named(case): linen_case(case) for case in shells.ALL} | {
    "ConcreteDropout": of_linen(jl.ConcreteDropout(**ON), X),
    "DropConnect": of_linen(jl.DropConnect(nn.Dense(3), 0.3, **ON), X),
    "DropLayer": of_linen(jl.DropLayer(nn.Dense(6), 0.3, **ON), X),
    "EmbeddingDropout": of_linen(jl.EmbeddingDropout(nn.Embed(32, 3), 0.3, **ON), TOKENS),
    "MCDropout": of_linen(jl.MCDropout(0.3), X),
    "Masksembles": of_linen(jl.Masksembles(num_masks=4, scale=2.0), X),
    "RecurrentDropoutCell": call(linen_recurrent, KEY, X[:, 0], STATE),
    "ShakeoutDense": of_linen(jl.ShakeoutDense(3, 0.3, 0.1, **ON), X),
    "SparseVariationalDense": of_linen(jl.SparseVariationalDense(3, **ON), X),
    "TargetedDropout": of_linen(jl.TargetedDropout(nn.Dense(3), 0.3, fraction=0.5, **ON), X),
    "VariationalDense": of_linen(jl.VariationalDense(3, rate=0.2, **ON), X),
    "ZoneoutCell": of_linen(jl.ZoneoutCell(nn.LSTMCell(3), (0.3, 0.1), **ON), STATE, X[:, 0]),
    "attention_fn": of_linen(
        nn.MultiHeadDotProductAttention(
            num_heads=2, dropout_rate=0.3, attention_fn=jl.attention_fn(jaxdrop.drop_key), **ON
        ),
        X,
    ),
    "list_rates": call(
        lambda key, x: jnp.asarray(
            [len(jl.list_rates(jl.Dropout(0.5, **ON).apply, {}, x, rngs={"dropout": key}))]
        ),
        KEY,
        X,
    ),
    "mc_batch_norm": call(linen_batch_norm, KEY, X),
    "stochastic": call(linen_sampled, KEY, X),
    "with_rates": call(linen_rated, KEY, X),
}
NNX = {named(case): nnx_case(case) for case in shells.ALL} | {
    "ConcreteDropout": of_nnx(lambda rngs: jn.ConcreteDropout(rngs=rngs), X),
    "DropConnect": of_nnx(lambda rngs: jn.DropConnect(nnx.Linear(6, 3, rngs=rngs), 0.3, rngs=rngs), X),
    "DropLayer": of_nnx(lambda rngs: jn.DropLayer(nnx.Linear(6, 6, rngs=rngs), 0.3, rngs=rngs), X),
    "EmbeddingDropout": of_nnx(
        lambda rngs: jn.EmbeddingDropout(nnx.Embed(32, 3, rngs=rngs), 0.3, rngs=rngs), TOKENS
    ),
    "MCDropout": of_nnx(lambda rngs: jn.MCDropout(0.3, rngs=rngs), X),
    "Masksembles": of_nnx(lambda rngs: jn.Masksembles(6, num_masks=4, scale=2.0, rngs=rngs), X),
    "RecurrentDropoutCell": call(nnx_recurrent, KEY, X[:, 0], STATE),
    "ShakeoutDense": of_nnx(lambda rngs: jn.ShakeoutDense(6, 3, 0.3, 0.1, rngs=rngs), X),
    "SparseVariationalDense": of_nnx(lambda rngs: jn.SparseVariationalDense(6, 3, rngs=rngs), X),
    "TargetedDropout": of_nnx(
        lambda rngs: jn.TargetedDropout(nnx.Linear(6, 3, rngs=rngs), 0.3, fraction=0.5, rngs=rngs), X
    ),
    "VariationalDense": of_nnx(lambda rngs: jn.VariationalDense(6, 3, rate=0.2, rngs=rngs), X),
    "ZoneoutCell": of_nnx(
        lambda rngs: jn.ZoneoutCell(nnx.LSTMCell(6, 3, rngs=rngs), (0.3, 0.1), rngs=rngs), STATE, X[:, 0]
    ),
    "attention_fn": of_nnx(
        lambda rngs: nnx.MultiHeadAttention(
            num_heads=2,
            in_features=6,
            dropout_rate=0.3,
            decode=False,
            attention_fn=jn.attention_fn(jaxdrop.drop_key),
            rngs=rngs,
            **ON,
        ),
        X,
    ),
    "list_rates": call(
        lambda key: jnp.asarray([len(jn.list_rates(nnx.Dropout(0.5, rngs=nnx.Rngs(key))))]), KEY
    ),
    "mc_batch_norm": call(nnx_batch_norm, KEY, X),
    "stochastic": call(nnx_sampled, KEY, X),
    "trainable": call(nnx_trained, KEY, X),
    "with_rates": of_nnx(lambda rngs: jn.with_rates(nnx.Dropout(0.5, rngs=rngs), {"*": 0.3}), X),
}
MODULES = {
    f"{api}.{name}": one for api, calls in {"linen": LINEN, "nnx": NNX}.items() for name, one in calls.items()
}
