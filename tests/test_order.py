"""The order of a chain: right ones pass, wrong ones are refused with their place."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxdrop import _order, optim, schedules, training

PARAMS = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"kernel": jnp.ones((2, 2))}}
LABELS = {"a": "a", "b": "b"}
ONE = {"a": True, "b": False}

decay, adam, sgd, norm = (
    optim.coupled_l2(1e-4),
    optax.adam(0.1),
    optax.sgd(0.1, momentum=0.9),
    optim.max_norm(1.0),
)
shrink, decoupled = optim.proximal_l1(1e-4, 0.1), optim.decoupled_l2(1e-4, 0.1)
injected = optax.inject_hyperparams(optim.max_norm, static_args="unit_axis")(3.0)

RIGHT = {
    "no part of optim": optax.chain(optax.clip(1.0), adam, optax.scale(0.5)),
    "all kinds": optax.chain(decay, sgd, shrink, norm),
    "several at the end": optax.chain(adam, decoupled, optim.non_negative(), optim.unit_norm(), norm),
    "as in experiments": optax.chain(
        decay, optax.clip_by_global_norm(1.0), optax.ema(0.9), optax.scale_by_learning_rate(0.1), shrink, norm
    ),
    "a schedule": optax.chain(
        optim.coupled_l2(schedules.late(1e-4, begin=5)), adam, optim.max_norm(optax.constant_schedule(1.0))
    ),
    "a decay beside Adam's": optax.chain(optax.scale_by_adam(), decay, optax.scale(-0.1), norm),
    "nested chains": optax.chain(optax.chain(optax.clip(1.0), decay), optax.chain(adam, shrink), norm),
    "names": optax.named_chain(("z", decay), ("y", adam), ("a", norm)),
    "observers after": optax.chain(adam, norm, optax.zero_nans(), optax.snapshot("norm", optax.tree.norm)),
    "masks": optax.chain(optax.masked(decay, ONE), adam, optax.masked(norm, ONE)),
    "masks of chains": optax.masked(optax.chain(decay, adam, norm), ONE),
    "labels": optax.partition({"a": optax.chain(decay, adam, norm), "b": adam}, LABELS),
    "labels, then an end": optax.chain(optax.partition({"a": adam, "b": sgd}, LABELS), norm),
    "ends by labels": optax.chain(decay, adam, optax.partition({"a": norm, "b": optim.unit_norm()}, LABELS)),
    "decays by labels": optax.chain(optax.partition({"a": decay, "b": optax.identity()}, LABELS), adam),
    "accumulation": optax.MultiSteps(optax.chain(decay, adam, norm), 2),
    "accumulation, then an end": optax.chain(optax.MultiSteps(adam, 2).gradient_transformation(), norm),
    "finite steps": optax.apply_if_finite(optax.chain(decay, adam, norm), 5),
    "halting": optim.halt_on_nonfinite(optax.chain(decay, adam, norm)),
    "halting in a chain": optax.chain(optax.clip(1.0), optim.halt_on_nonfinite(adam), norm),
    "hyper-parameters": optax.chain(optax.inject_hyperparams(optim.coupled_l2)(1e-4), adam, injected),
    "names in accumulation": optax.MultiSteps(optax.named_chain(("z", decay), ("a", adam)), 2),
    "SAM": optax.chain(decay, optax.contrib.sam(optax.chain(sgd, norm), sgd, opaque_mode=True)),
    "schedule-free": optax.contrib.schedule_free(optax.chain(decay, sgd), 0.1),
    "frozen parts": optax.chain(
        decay, optax.chain(adam, optax.freeze(ONE)), optim.max_norm(1.0, where=[("b/*", 1)])
    ),
}
END, START = (
    "last in its chain, got one (state ",
    "`optimizer` must have the learning rate after `coupled_l2`",
)
WRONG = {
    "before the rate": (
        optax.chain(norm, sgd),
        END + "[0]) before another transformation (TraceState [1][0])",
    ),
    "before a scale": (optax.chain(optax.scale_by_adam(), decoupled, optax.scale(-0.1)), END + "[1])"),
    "before a schedule": (optax.chain(shrink, optax.scale_by_schedule(lambda step: -0.1)), END + "[0])"),
    "a constraint and a decay changed": (optax.chain(norm, sgd, decay), START),
    "after the rate": (
        optax.chain(sgd, decay),
        START + ", which changes the gradient, got it (state [1]) with none",
    ),
    "before ends alone": (optax.chain(sgd, decay, norm, optax.zero_nans()), START),
    "alone": (decay, START + ", which changes the gradient, got it with none"),
    "nested": (optax.chain(optax.chain(adam, norm), optax.chain(optax.scale(0.5))), END + "[0][1])"),
    "names": (
        optax.named_chain(("z", norm), ("a", adam)),
        END + "['z']) before another transformation (ScaleByAdamState ['a'][0])",
    ),
    "masks": (optax.chain(optax.masked(norm, ONE), adam), END + "[0].inner_state)"),
    "labels": (optax.partition({"a": optax.chain(norm, adam), "b": adam}, LABELS), END),
    "labels, then a scale": (
        optax.chain(optax.partition({"a": norm, "b": adam}, LABELS), optax.scale(2.0)),
        END,
    ),
    "ends of one label": (optax.chain(norm, optax.partition({"a": shrink, "b": adam}, LABELS)), END),
    "accumulation": (optax.MultiSteps(optax.chain(adam, decay), 2), START),
    "finite steps": (optax.apply_if_finite(optax.chain(norm, adam), 5), END),
    "hyper-parameters": (optax.chain(injected, adam), END),
    "a transformation without a state": (optax.chain(norm, optax.stateless(lambda u, p: u)), END + "[0])"),
    "a state of None": (
        optax.chain(norm, optax.GradientTransformation(lambda _: None, adam.update)),
        END + "[0])",
    ),
    "SAM": (optax.contrib.sam(optax.chain(norm, sgd), sgd, opaque_mode=True), END + ".opt_state[0])"),
    "a mean of steps": (
        optax.chain(sgd, norm, optax.ema(0.9)),
        END + "[1]) before another transformation (EmaState [2])",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_order_passes(name):
    _order.check_order(jax.eval_shape(RIGHT[name].init, PARAMS))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_order_is_refused(name):
    optimizer, message = WRONG[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        _order.check_order(jax.eval_shape(optimizer.init, PARAMS))


def loss_fn(params, key, batch):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params)), ()


@pytest.mark.parametrize("optimizer", [optax.chain(norm, sgd), optax.named_chain(("b", sgd), ("a", decay))])
def test_the_trainer_the_sweep_and_halting_refuse(optimizer):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="`optimizer` must have "):
        training.trainer(loss_fn, optimizer).init(key, PARAMS)
    many = jax.tree.map(lambda leaf: leaf[None], PARAMS)
    with pytest.raises(ValueError, match="`optimizer` must have "):
        training.sweep(lambda _: (loss_fn, optimizer)).init(key[None], many, {"rate": jnp.zeros(1)})
    with pytest.raises(ValueError, match="`optimizer` must have "):
        optim.halt_on_nonfinite(optimizer).init(PARAMS)


def test_the_leaves_of_a_state_have_the_names_of_older_checkpoints():
    for transformation in (decay, norm):
        ((path, step),) = jax.tree_util.tree_leaves_with_path(transformation.init(PARAMS))
        assert jax.tree_util.keystr(path) == ".step"
        assert step.dtype == jnp.int32
