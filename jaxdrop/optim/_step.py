"""Common parts of all transformations: scheduled values and the selection of parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdrop import _checks, _selection
from jaxdrop._checks import widened
from jaxdrop._types import Numeric, PyTree, Where

Value = Numeric | Callable[[Any], Any]  # a scalar, or a schedule: optax's take and give any number
# `change(p, u, share, *values) -> u`: the new update of a parameter; all but `p` in float32 or wider.
Change = Callable[..., jax.Array]
# `act(end, share, *values) -> end`: the new end of a step that would end at `end = p + u`.
Act = Callable[..., jax.Array]


class StepState(NamedTuple):
    """The number of updates so far, an int32 scalar: the step of the schedules."""

    step: jax.Array


def transformation(
    change: Change, where: Where, *values: Value, rule: Callable = _selection.strength_shares
) -> optax.GradientTransformation:
    """Changes the update of each selected parameter, by values that may be schedules."""

    def init(params: PyTree) -> StepState:
        state = StepState(jnp.zeros((), jnp.int32))
        jax.eval_shape(update, params, state, params)  # raises now what the first step would raise
        return state

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, StepState]:
        if params is None:
            raise ValueError("`params` must be given to `update`, got None.")
        now = [value(state.step) if callable(value) else value for value in values]

        def one(u: jax.Array | None, p: jax.Array, share: _selection.Share) -> jax.Array | None:
            if u is None or share is None:
                return u
            p = _checks.check_floating(p, "params")
            wide = widened(p.dtype)
            share = share if isinstance(share, int | float) else jnp.asarray(share, wide)
            new = change(p, u.astype(wide), share, *(jnp.asarray(v, wide) for v in now))
            with jax.numpy_dtype_promotion("standard"):  # on purpose, also where promotion is strict
                return new.astype(jnp.promote_types(u.dtype, p.dtype))

        shares = jax.tree.structure(params).unflatten(rule(params, where))
        # As in optax, None in the updates marks a frozen parameter, or a frozen part.
        new = jax.tree.map(one, updates, params, shares, is_leaf=lambda u: u is None)
        return new, StepState(jnp.asarray(optax.safe_increment(state.step)))

    return optax.GradientTransformation(init, update)


def to_end(act: Act, *, slack: bool = False) -> Change:
    """A change of where the parameter ends; an update that needs no change stays bit for bit."""

    def change(p: jax.Array, u: jax.Array, share: Numeric, *values: jax.Array) -> jax.Array:
        end = p.astype(u.dtype) + u
        # Tolerance for float32 norms of values that are rounded to the parameter's dtype.
        few = (8 * float(jnp.finfo(p.dtype).eps),) if slack else ()
        new = act(end, share, *values, *few)
        return jnp.where(new == end, u, new.astype(p.dtype).astype(u.dtype) - p.astype(u.dtype))

    return change


def check_value(value: Value, name: str, *, finite: bool = True) -> Value:
    if callable(value):
        return value
    return _checks.check_nonnegative(_checks.check_scalar(value, name), name, finite=finite)


def check_step(strength: Value, learning_rate: Value) -> tuple[Value, Value]:
    return check_value(strength, "strength"), check_value(learning_rate, "learning_rate")
