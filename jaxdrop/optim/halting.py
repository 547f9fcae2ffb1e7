"""Halting at the first non-finite gradient, with the name of its parameter."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdrop import _selection
from jaxdrop._extra_args import accept_extra_args
from jaxdrop._order import check_order
from jaxdrop._types import PyTree

__all__ = ["HaltState", "halt_on_nonfinite", "raise_if_halted"]


class HaltState(NamedTuple):
    """The state of `halt_on_nonfinite`.

    Attributes:
      inner: State of the wrapped optimizer.
      step: Number of updates so far.
      bad: For each parameter, whether its gradient was non-finite when the optimizer halted.
    """

    inner: optax.OptState
    step: jax.Array
    bad: PyTree


def halt_on_nonfinite(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Stops an optimizer permanently at the first gradient with a NaN or an infinity.

    Parameters and optimizer state stay as they were before that step. `raise_if_halted` reports the
    parameters and the step. In a sweep each run halts by itself. To skip bad steps instead, use
    `optax.apply_if_finite`.

    Args:
      inner: An optimizer.

    Returns:
      Optimizer with the updates of `inner` and a `HaltState`.

    Raises:
      ValueError: From `init`, if a transformation of `optim` stands in the wrong place of a chain.

    Examples:
      >>> params = {"a": jnp.ones(2), "b": jnp.ones(2)}
      >>> optimizer = halt_on_nonfinite(optax.sgd(0.1))
      >>> grads = {"a": jnp.ones(2), "b": jnp.array([1.0, jnp.nan])}
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
      >>> updates["a"]
      Array([0., 0.], dtype=float32)
      >>> raise_if_halted(state)
      Traceback (most recent call last):
      FloatingPointError: the gradient must be finite, got NaN or infinity in that of `b` at step 0.
    """
    inner_update = accept_extra_args(inner)

    def init(params: PyTree) -> HaltState:
        # The gradient of `optax.lookahead` is that of the fast parameters.
        trained = params.fast if isinstance(params, optax.LookaheadParams) else params
        fine = jax.tree.map(lambda _: jnp.zeros((), bool), trained)
        state = inner.init(params)
        check_order(state)
        return HaltState(state, jnp.zeros((), jnp.int32), fine)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, HaltState]:
        halted = _any(state.bad)

        def mark(u: jax.Array | None, old: PyTree) -> PyTree:
            return old if u is None else jnp.where(halted, old, ~jnp.all(jnp.isfinite(u)))

        bad = _map(mark, updates, state.bad)

        def advance() -> tuple[PyTree, optax.OptState]:
            return inner_update(updates, state.inner, params, **extra)

        def stay() -> tuple[PyTree, optax.OptState]:
            like, own = jax.eval_shape(advance)
            alike = jax.tree.structure(updates) == jax.tree.structure(like)
            zeros = _map(_zeros, like, updates if alike else params)
            return zeros, _map(_as_wide, own, state.inner)

        halts = _any(bad)
        steps, own = jax.lax.cond(halts, stay, advance)
        return steps, HaltState(own, state.step + jnp.where(halts, 0, 1), bad)

    return optax.GradientTransformationExtraArgs(init, update)


def _zeros(new: jax.ShapeDtypeStruct | None, like: PyTree) -> jax.Array | None:
    return None if new is None else jnp.zeros_like(like, new.dtype)


def _as_wide(new: jax.ShapeDtypeStruct | None, old: PyTree) -> jax.Array | None:
    """A leaf of the state in the dtype of the next state: wide gradients widen the moments."""
    if new is None:
        return None
    old = jnp.asarray(old)
    return old if old.dtype == new.dtype else old.astype(new.dtype)


def _map(function: Callable[..., PyTree], first: PyTree, second: PyTree) -> PyTree:
    """`jax.tree.map` where a None in the first tree is a frozen part, as in optax."""
    return jax.tree.map(function, first, second, is_leaf=lambda leaf: leaf is None)


def raise_if_halted(tree: PyTree) -> None:
    """Raises if an optimizer under `halt_on_nonfinite` has halted; not for use under `jit`.

    Args:
      tree: Tree that contains a `HaltState`, such as `TrainState.opt_state`, also of a sweep. Dicts
        with the names of its fields count as one: those of a checkpoint, or of `nnx.state(optimizer)`.

    Raises:
      FloatingPointError: If one has halted. The message names the parameters, the step (counted from
        0) and, in a sweep, the run.
      ValueError: If the tree contains no state of `halt_on_nonfinite`.
    """
    parts = jax.tree.leaves(tree, is_leaf=_is_state)
    found = [part if isinstance(part, HaltState) else HaltState(**part) for part in parts if _is_state(part)]
    if not found:
        raise ValueError(
            "`tree` must contain a state of `halt_on_nonfinite`, or dicts with the names of its fields "
            f"({', '.join(HaltState._fields)}), got a {type(tree).__name__} with neither."
        )
    for state in found:
        if jax.tree.leaves(state.bad):
            _report(state)


def _is_state(part: object) -> TypeGuard[HaltState | Mapping[str, PyTree]]:
    named = isinstance(part, Mapping) and set(part) == set(HaltState._fields)
    return named or isinstance(part, HaltState)


def _report(state: HaltState) -> None:
    bad = np.stack([np.asarray(leaf) for leaf in jax.tree.leaves(state.bad)], -1)
    if not bad.any():
        return
    run = tuple(int(i) for i in np.argwhere(bad)[0][:-1])
    names = [f"`{path}`" for path, one in zip(_selection.paths(state.bad), bad[run], strict=True) if one]
    (step,) = jax.tree.leaves(state.step)
    others = int(bad.any(-1).sum()) - 1
    where = f" of run {', '.join(map(str, run))}" if run else ""
    more = f" (and in {others} other runs)" if others else ""
    raise FloatingPointError(
        f"the gradient must be finite, got NaN or infinity in that of {', '.join(names)} "
        f"at step {np.asarray(step)[run]}{where}{more}."
    )


def _any(flags: PyTree) -> jax.Array:
    return jnp.any(jnp.stack(jax.tree.leaves(flags))) if jax.tree.leaves(flags) else jnp.zeros((), bool)
