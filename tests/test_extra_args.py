import jax.numpy as jnp
import optax
import pytest

from jaxdrop._extra_args import accept_extra_args


def test_an_optimizer_is_given_only_the_arguments_that_it_takes():
    params = {"kernel": jnp.ones((2, 2))}

    def update(updates, state, params=None, *, value):
        return {"kernel": updates["kernel"] * value}, state

    named = optax.GradientTransformationExtraArgs(lambda params: (), update)
    found, _ = accept_extra_args(named)(params, (), params, value=3.0, grad=params)
    assert float(found["kernel"][0, 0]) == 3.0

    scaled = optax.GradientTransformationExtraArgs(
        lambda params: (), lambda updates, state, params=None, *, value, **_: ({"kernel": value}, state)
    )
    for steps in (optax.MultiSteps(scaled, 1), optax.MultiSteps(scaled, 1).gradient_transformation()):
        found, _ = accept_extra_args(steps)(params, steps.init(params), params, value=params["kernel"] * 4)
        assert float(found["kernel"][0, 0]) == 4.0

    plain = optax.sgd(0.5)
    found, _ = accept_extra_args(plain)(params, plain.init(params), params, value=3.0)
    assert float(found["kernel"][0, 0]) == -0.5


def test_a_member_of_a_chain_that_takes_some_arguments():
    """The others are left out; a mistake of another kind is raised as it is."""
    params = jnp.ones(2)

    def update(updates, state, params=None, *, grad):
        return updates * grad, state

    chain = optax.chain(
        optax.identity(), optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    )
    found, _ = accept_extra_args(chain)(params, chain.init(params), params, value=3.0, grad=params * 2)
    assert found.tolist() == [2.0, 2.0]
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'grad'"):
        accept_extra_args(chain)(params, chain.init(params), params, value=3.0)
    with pytest.raises(TypeError, match="unsupported operand"):
        accept_extra_args(chain)(params, chain.init(params), params, grad=None)


def test_an_error_within_an_update_is_raised_as_it_is():
    """Not taken for an argument that is refused, and the update tried again without it."""
    params = jnp.ones(2)

    def helper(x):
        return x

    def update(updates, state, params=None, **extra):
        return helper(updates, value=extra["value"]) if "value" in extra else updates, state

    wrong = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    for optimizer in (wrong, optax.chain(wrong, optax.identity())):
        with pytest.raises(TypeError, match="helper"):
            accept_extra_args(optimizer)(params, optimizer.init(params), params, value=3.0)
