"""Digests: equal for what gives equal results, different for all else."""

from functools import partial

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc import _batches, _digests
from tests.mc import nets

KEY = jax.random.key(0)
X = jnp.ones((4, 3))
TABLE = jnp.arange(3.0)


def program(fun, *args) -> str:
    return _digests.of_function(fun, *(args or (KEY, X))).program


def constants(fun, *args) -> str:
    return _digests.of_function(fun, *(args or (KEY, X))).constants


def facts(**changes) -> _digests.Facts:
    options = {"num_samples": 20, "reducers": mc.Moments(), "shared": False}
    call = {"predict": nets.bound(), "key": KEY, "x": np.asarray(nets.inputs()), "targets": None} | options
    call |= changes
    predict, key, x, targets = (call.pop(name) for name in ("predict", "key", "x", "targets"))
    first = _batches.Examples(x, targets)
    like = jax.eval_shape(lambda: mc.estimate(predict, key, x, targets=targets, **call))
    return _digests.facts(predict, key, first, first, like, **call)


def test_arrays_differ_by_values_types_and_structure():
    base = {"a": np.arange(6.0), "b": None}
    trees = [base, base | {"a": np.arange(6.0) + 1e-9}, base | {"a": np.arange(6.0).reshape(2, 3)}]
    trees += [
        base | {"a": np.arange(6.0, dtype=np.float32)},
        {"b": np.arange(6.0), "a": None},
        [np.arange(6.0)],
    ]
    trees += [np.float64(1.0), jnp.bfloat16(1.0), jax.random.key(1), jax.random.key(2), np.arange(0)]
    assert len({_digests.of_arrays(tree) for tree in trees}) == len(trees)
    assert _digests.of_arrays(np.arange(6.0)[::2]) == _digests.of_arrays(np.arange(6.0)[::2].copy())
    assert _digests.of_arrays(jnp.ones(3)) == _digests.of_arrays(np.ones(3, np.float32))


def test_programs_differ_by_what_they_compute():
    inner = jax.jit(lambda x, by: x * by, static_argnums=1)
    programs = [
        lambda key, x: x,
        lambda key, x: x + 1,
        lambda key, x: x + 2,
        lambda key, x: {"a": x + 2},
        lambda key, x: inner(x, 2.0),
        lambda key, x: inner(x, 3.0),
        lambda key, x: jax.lax.cond(x.sum() > 0, lambda x: x, lambda x: x + 1, x),
        lambda key, x: jax.lax.cond(x.sum() > 0, lambda x: x, lambda x: x + 2, x),
        lambda key, x: jaxdrop.dropout(key, x, 0.5),
        lambda key, x: jaxdrop.dropout(key, x, 0.4),
        lambda key, x: x @ jnp.ones((3, 3)),
        lambda key, x: jnp.matmul(x, jnp.ones((3, 3)), precision="high"),
    ]
    assert len({program(one) for one in programs}) == len(programs)
    assert program(lambda key, x: x + 1) == program(lambda _, y: y + 1)


def test_constants_differ_by_value_wherever_they_stand():
    def uses(table):
        inner = jax.jit(lambda x: x + table[None])
        return [
            lambda key, x: x + table[None],
            lambda key, x: inner(x),
            lambda key, x: inner(inner(x)),
            lambda key, x: jax.lax.cond(x.sum() > 0, lambda x: x, lambda x: x + table[None], x),
            lambda key, x: jax.lax.map(lambda row: row * table, x),
        ]

    for one, other in zip(uses(TABLE), uses(TABLE + 1), strict=True):
        assert program(one) == program(other)
        assert constants(one) != constants(other)


def test_addresses_make_no_difference():
    def fresh():
        scale = jax.custom_jvp(lambda x: 2 * x)
        scale.defjvp(lambda x, dx: (2 * x[0], 2 * dx[0]))
        return lambda key, x: jax.pure_callback(lambda x: np.asarray(x), X, scale(jax.nn.relu(x)))

    assert "0x" in str(jax.make_jaxpr(fresh())(KEY, X))
    assert program(fresh()) == program(fresh())


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"key": jax.random.key(1)}, {"key"}),
        ({"key": jax.random.key(0, impl="rbg")}, {"key", "program of `predict`"}),
        ({"num_samples": 21}, {"num_samples"}),
        ({"shared": True}, {"shared", "program of `predict`"}),
        ({"balanced": 8, "num_samples": 16}, {"balanced", "num_samples", "program of `predict`"}),
        ({"reducers": mc.Moments(groups=16)}, {"reducers"}),
        ({"reducers": [mc.Moments()]}, {"reducers"}),
        ({"reducers": mc.Quantiles((0.5,))}, {"reducers"}),
        ({"predict": nets.bound(lambda p, key, x: 2 * nets.logits(p, key, x))}, {"program of `predict`"}),
        ({"predict": jax.tree.map(lambda w: w + 1, nets.bound())}, {"weights of `predict`"}),
        ({"x": np.asarray(nets.inputs()) + 1}, {"data"}),
        ({"targets": np.arange(8)}, {"targets"}),
    ],
)
def test_facts_name_what_differs(changes: dict, names: set[str]):
    base, other = facts(), facts(**changes)
    differ = {name for name in base | other if base.get(name) != other.get(name)}
    assert names <= differ <= names | {"program of `predict`", "reducers"}
    assert facts(**changes) == other


def test_weights_of_a_closure_are_constants():
    def predict(scale):
        weights = jax.tree.map(lambda w: w * scale, nets.bound().args[0])
        return partial(nets.logits, weights)

    base, other = facts(predict=predict(1.0)), facts(predict=predict(2.0))
    assert {name for name in base if base[name] != other[name]} == {"weights of `predict`"}


@pytest.mark.slow
@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_models_made_anew_have_the_same_facts(api: str):
    def linen(seed: int):
        model = jaxdrop.linen.MCDropout(0.5)
        net = flax.linen.Sequential([flax.linen.Dense(3), flax.linen.relu, model, flax.linen.Dense(2)])
        return jaxdrop.linen.stochastic(net, net.init(jax.random.key(seed), X), X)

    def nnx(seed: int):
        rngs = flax.nnx.Rngs(seed)
        layers = flax.nnx.Linear(3, 3, rngs=rngs), jaxdrop.nnx.MCDropout(0.5, rngs=rngs)
        return jaxdrop.nnx.stochastic(flax.nnx.Sequential(*layers), X)

    make = {"linen": linen, "nnx": nnx}[api]
    one, same, other = (facts(predict=make(seed), x=np.asarray(X)) for seed in (0, 0, 1))
    assert one == same
    assert {name for name in one if one[name] != other[name]} == {"weights of `predict`"}


def test_rules_differ_by_all_their_fields():
    rules = [
        mc.Until(0.1, 100),
        mc.Until(0.2, 100),
        mc.Until(0.1, 200),
        mc.Until(0.1, 100, every=32),
        mc.Until(0.1, 100, min_samples=8),
        mc.Until(0.1, 100, of=lambda error: error["mean"]),
        mc.Until(0.1, 100, of=lambda error: error["mean"] / 2),
        mc.Until(jnp.float32(0.2), 100),
    ]
    counts = [facts(num_samples=rule)["num_samples"] for rule in rules]
    assert len(set(counts)) == len(counts)
    again = mc.Until(0.1, 100, of=lambda error: error["mean"])
    assert facts(num_samples=again)["num_samples"] == counts[5]
