"""The contract of a loss: wrong arguments and values are refused in words, before any work."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxdrop.training import sweep, trainer

KEY = jax.random.key(0)
STATE = {"norm": {"mean": jnp.ones(2), "count": jnp.zeros((), jnp.int32)}}
BATCH = jnp.ones((4, 3))


def loss_of(params, batch):
    return jnp.mean((batch @ params) ** 2)


def changed(change):
    """A loss whose model state is changed in a way that it must not be."""

    def loss_fn(params, model_state, key, batch):
        return loss_of(params, batch), ({}, change(model_state["norm"]))

    return loss_fn


# Losses without a model state.
PLAIN = {
    "no aux": (lambda p, k, b: loss_of(p, b), TypeError, "must return `(loss, aux)`, .*, got an array."),
    "three": (
        lambda p, k, b: (loss_of(p, b), {}, {}),
        TypeError,
        "must return `(loss, aux)`, .*, got a tuple of an array, dict, dict.",
    ),
    "a vector": (lambda p, k, b: (b @ p, {}), ValueError, "must return a scalar loss, got shape (4, 1)."),
    "an integer": (
        lambda p, k, b: (loss_of(p, b).astype(int), {}),
        TypeError,
        "must return a floating-point loss, got int32.",
    ),
    "no loss": (lambda p, k, b: (None, {}), TypeError, "must return a scalar loss, got NoneType."),
    "text": (
        lambda p, k, b: (loss_of(p, b), {"name": "mse"}),
        TypeError,
        "`aux` must hold arrays, got str at `name`.",
    ),
    "no batch": (
        lambda p, k: (loss_of(p, BATCH), {}),
        TypeError,
        "must take `(params, key, batch)`, because `init` was given no `model_state`, got one with: too many",
    ),
    "with a state": (
        lambda p, m, k, b: (loss_of(p, b), ({}, m)),
        TypeError,
        "must take `(params, key, batch)`, because `init` was given no `model_state`, got .* missing",
    ),
}
# Losses with one.
STATEFUL = {
    "without a state": (
        lambda p, k, b: (loss_of(p, b), {}),
        TypeError,
        "must take `(params, model_state, key, batch)`, because `init` was given a `model_state`, got one",
    ),
    "no new state": (
        lambda p, m, k, b: (loss_of(p, b), {}),
        TypeError,
        "must return `(loss, (aux, model_state))`, .*, got a tuple of an array, dict.",
    ),
    "leaves": (
        changed(lambda norm: {"norm": {"mean": norm["mean"], "variance": norm["mean"]}}),
        ValueError,
        "`model_state` must keep its leaves when `loss_fn` returns it, got one without `norm/count` and with "
        "the new `norm/variance`.",
    ),
    "a shape": (
        changed(lambda norm: {"norm": norm | {"mean": norm["mean"][None]}}),
        ValueError,
        "`model_state` must keep the shape and dtype of `norm/mean` when `loss_fn` returns it, (2,) float32, "
        "got (1, 2) float32.",
    ),
    "a dtype": (
        changed(lambda norm: {"norm": norm | {"count": norm["count"] + 1.0}}),
        ValueError,
        "the shape and dtype of `norm/count` when `loss_fn` returns it, () int32, got () float32.",
    ),
    "a container": (
        changed(lambda norm: {"norm": (norm["count"], norm["mean"])}),
        ValueError,
        "got one without `norm/count`, `norm/mean` and with the new `norm/0`, `norm/1`.",
    ),
}
ALL = {name: (*case, None) for name, case in PLAIN.items()}
ALL |= {name: (*case, STATE) for name, case in STATEFUL.items()}


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_loss_is_refused(name):
    loss_fn, kind, message, model_state = ALL[name]
    message = ".*".join(map(re.escape, message.split(".*")))
    init, step = trainer(loss_fn, optax.sgd(0.1))
    state = init(KEY, jnp.ones((3, 1)), model_state)
    with pytest.raises(kind, match=message):
        jax.eval_shape(step, state, BATCH)


@pytest.mark.parametrize("name", ["a vector", "a shape"])
def test_a_wrong_loss_is_refused_in_a_sweep(name):
    """The shapes are those of one run."""
    loss_fn, kind, message, model_state = ALL[name]
    init, step = sweep(lambda rate: (loss_fn, optax.sgd(rate)))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), model_state)
    states = init(jax.random.split(KEY), jnp.ones((2, 3, 1)), jnp.ones(2), stacked)
    with pytest.raises(kind, match=re.escape(message)):
        jax.eval_shape(step, states, BATCH)


def test_a_structure_of_the_same_paths():
    def loss_fn(params, model_state, key, batch):
        return loss_of(params, batch), ({}, list(model_state))

    init, step = trainer(loss_fn, optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"`model_state` must keep its structure .* got PyTreeDef\(\[\*\]\)"):
        jax.eval_shape(step, init(KEY, jnp.ones((3, 1)), (jnp.ones(2),)), BATCH)


def test_a_state_without_leaves_is_a_state():
    """As that of a model without statistics, so code for all models needs no second form."""
    init, step = trainer(lambda p, m, k, b: (loss_of(p, b), ({}, m)), optax.sgd(0.1))
    state, _ = jax.eval_shape(step, init(KEY, jnp.ones((3, 1)), {}), BATCH)
    assert state.model_state == {}
