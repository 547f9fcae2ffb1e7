"""What all transformations share: values that may follow the step, and which parameters are concerned."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdrop import _checks, _selection
from jaxdrop._draw import widened
from jaxdrop._types import Numeric, Where

Value = Numeric | Callable[[Any], Any]  # a scalar, or a schedule: a function of the step
# `change(p, u, share, *values) -> u`: the new update of a parameter, of float32 at least.
Change = Callable[..., jax.Array]
# `act(end, share, *values) -> end`: where a parameter shall end, which is about to end at `p + u`.
Act = Callable[..., jax.Array]


class StepState(NamedTuple):
    """How many updates have been made, an int32 scalar: where in its schedules a transformation is."""

    step: jax.Array


def transformation(
    change: Change, where: Where, *values: Value, rule: Callable = _selection.strength_shares
) -> optax.GradientTransformation:
    """Changes the update of each concerned parameter, by values that may follow the step."""

    def init(params: Any) -> StepState:
        state = StepState(jnp.zeros((), jnp.int32))
        jax.eval_shape(update, params, state, params)  # says now what would be wrong at the first step
        return state

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, StepState]:
        if params is None:
            raise ValueError("`params` must be given to `update`, got None.")
        now = [value(state.step) if callable(value) else value for value in values]

        def one(u: jax.Array, p: jax.Array, share: _selection.Share) -> jax.Array:
            if share is None:
                return u
            p = _checks.check_floating(p, "params")
            wide = widened(p.dtype)
            new = change(p, u.astype(wide), share, *(jnp.asarray(v, wide) for v in now))
            return new.astype(jnp.promote_types(u.dtype, p.dtype))

        structure = jax.tree.structure(params)
        leaves = structure.flatten_up_to(updates), jax.tree.leaves(params), rule(params, where)
        new = structure.unflatten([one(*parts) for parts in zip(*leaves, strict=True)])
        return new, StepState(jnp.asarray(optax.safe_increment(state.step)))

    return optax.GradientTransformation(init, update)


def to_end(act: Act, *, slack: bool = False) -> Change:
    """A change by where the parameter shall end; an update that ends there already stays as it is."""

    def change(p: jax.Array, u: jax.Array, share: Any, *values: Any) -> jax.Array:
        end = p.astype(u.dtype) + u
        # Sums of squares in float32, of what is rounded to the parameter's dtype.
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
