"""Common parts of all transformations: scheduled values and the selection of parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdrop import _checks, _selection, _units
from jaxdrop._checks import widened
from jaxdrop._order import EndState, GradientState
from jaxdrop._types import Numeric, PyTree, Stacked, Where

Value = Numeric | Callable[[Any], Any]  # a scalar, or a schedule: optax's take and give any number
# `change(p, u, leaf, *values) -> u`: the new update of a parameter; all but `p` in float32 or wider.
Change = Callable[..., jax.Array]
# `act(end, leaf, *values) -> end`: the new end of a step that would end at `end = p + u`.
Act = Callable[..., jax.Array]


class Leaf(NamedTuple):
    """A selected leaf.

    Attributes:
      path: Its path.
      share: Its share of the strength.
      slack: Relative tolerance for norms of values that are rounded to the leaf's dtype.
      layers: Layers that it stacks.
    """

    path: str
    share: Numeric
    slack: float
    layers: _units.Layers


def transformation(
    change: Change,
    where: Where,
    *values: Value,
    rule: Callable = _selection.strength_shares,
    stacked: Stacked = (),
    kind: type[EndState | GradientState] = EndState,
) -> optax.GradientTransformation:
    """Changes the update of each selected parameter, by values that may be schedules.

    The class of the state, `kind`, tells the place in a chain.
    """

    def init(params: PyTree) -> EndState | GradientState:
        state = kind(jnp.zeros((), jnp.int32))
        jax.eval_shape(update, params, state, params)  # raises now what the first step would raise
        return state

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None
    ) -> tuple[PyTree, EndState | GradientState]:
        if params is None:
            raise ValueError("`params` must be given to `update`, got None.")
        now = [value(state.step) if callable(value) else value for value in values]

        def one(
            u: jax.Array | None, p: jax.Array, path: str, share: _selection.Share, layers: _units.Layers
        ) -> jax.Array | None:
            if u is None or share is None:
                return u
            p = _selection.check_floating(p, path)
            wide = widened(p.dtype)
            # An update is rounded, and so is its sum with the parameter.
            leaf = Leaf(path, _as_wide(share, wide), 8 * float(jnp.finfo(p.dtype).eps), layers)
            new = change(p, u.astype(wide), leaf, *(jnp.asarray(v, wide) for v in now))
            with jax.numpy_dtype_promotion("standard"):  # on purpose, also where promotion is strict
                return new.astype(jnp.promote_types(u.dtype, p.dtype))

        told = (_selection.paths(params), rule(params, where), _units.layers(params, stacked))
        trees = map(jax.tree.structure(params).unflatten, told)
        # As in optax, None in the updates marks a frozen parameter, or a frozen part.
        new = jax.tree.map(one, updates, params, *trees, is_leaf=lambda u: u is None)
        return new, kind(jnp.asarray(optax.safe_increment(state.step)))

    return optax.GradientTransformation(init, update)


def to_end(act: Act) -> Change:
    """A change of where the parameter ends; an update that needs no change stays bit for bit."""

    def change(p: jax.Array, u: jax.Array, leaf: Leaf, *values: jax.Array) -> jax.Array:
        end = p.astype(u.dtype) + u
        new = act(end, leaf, *values)
        return jnp.where(new == end, u, new.astype(p.dtype).astype(u.dtype) - p.astype(u.dtype))

    return change


def acted_on(
    act: Act,
    params: PyTree,
    where: Where,
    *values: Numeric,
    rule: Callable = _selection.strength_shares,
    stacked: Stacked = (),
) -> PyTree:
    """The parameters after an act on each selected leaf; a leaf that needs no change stays bit for bit."""

    def one(p: jax.Array, path: str, share: _selection.Share, layers: _units.Layers) -> jax.Array:
        if share is None:
            return p
        p = _selection.check_floating(p, path)
        wide = widened(p.dtype)
        slack = max(float(jnp.finfo(p.dtype).eps), 8 * float(jnp.finfo(wide).eps))
        leaf = Leaf(path, _as_wide(share, wide), slack, layers)
        return act(p.astype(wide), leaf, *(jnp.asarray(v, wide) for v in values)).astype(p.dtype)

    leaves, structure = jax.tree.flatten(params)
    told = (_selection.paths(params), rule(params, where), _units.layers(params, stacked))
    return structure.unflatten(map(one, leaves, *told))


def _as_wide(share: Numeric, wide: jnp.dtype) -> Numeric:
    return share if isinstance(share, int | float) else jnp.asarray(share, wide)


def check_value(value: Value, name: str, *, finite: bool = True) -> Value:
    if callable(value):
        return value
    return _checks.check_nonnegative(_checks.check_scalar(value, name), name, finite=finite)


def check_step(strength: Value, learning_rate: Value) -> tuple[Value, Value]:
    return check_value(strength, "strength"), check_value(learning_rate, "learning_rate")
