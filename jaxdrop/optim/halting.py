"""Halting at a gradient that is not finite, and saying whose it was."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdrop import _selection, training

__all__ = ["HaltState", "halt_on_nonfinite", "raise_if_halted"]


class HaltState(NamedTuple):
    """The state of `halt_on_nonfinite`.

    Attributes:
      inner: The optimizer's own.
      step: How many updates it has made.
      bad: For each parameter, whether its gradient was not finite when the optimizer halted.
    """

    inner: Any
    step: jax.Array
    bad: Any


def halt_on_nonfinite(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Stops an optimizer for good at the first gradient with a NaN or an infinity in it.

    Parameters and the optimizer's state stay as they were before that step, whatever comes then.
    `raise_if_halted` tells which parameters' gradients it was, and at what step. In a sweep each
    run halts by itself. `optax.apply_if_finite` is for who would rather go on.

    Args:
      inner: Any optimizer.

    Returns:
      The same optimizer, with a `HaltState`.

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
    inner_update = training.accept_extra_args(inner)

    def init(params: Any) -> HaltState:
        fine = jax.tree.map(lambda _: jnp.zeros((), bool), params)
        return HaltState(inner.init(params), jnp.zeros((), jnp.int32), fine)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, HaltState]:
        halted = _any(state.bad)
        found = jax.tree.map(lambda u: ~jnp.all(jnp.isfinite(u)), updates)
        bad = jax.tree.map(lambda old, new: jnp.where(halted, old, new), state.bad, found)

        def go_on() -> tuple[Any, Any]:
            return inner_update(updates, state.inner, params, **extra)

        def stay() -> tuple[Any, Any]:
            like, own = jax.eval_shape(go_on)
            zeros = jax.tree.map(lambda g, u: jnp.zeros_like(g, u.dtype), updates, like)
            return zeros, jax.tree.map(_as_wide, state.inner, own)

        halts = _any(bad)
        steps, own = jax.lax.cond(halts, stay, go_on)
        return steps, HaltState(own, state.step + jnp.where(halts, 0, 1), bad)

    return optax.GradientTransformationExtraArgs(init, update)


def _as_wide(old: Any, new: Any) -> jax.Array:
    """A part of a state in the dtype of its next: gradients wider than the parameters widen moments."""
    old = jnp.asarray(old)
    return old if old.dtype == new.dtype else old.astype(new.dtype)


def raise_if_halted(tree: Any) -> None:
    """Raises if an optimizer under `halt_on_nonfinite` has halted; not for use under a trace.

    Args:
      tree: Any tree that holds such states, as `TrainState.opt_state` does; of a sweep too.

    Raises:
      FloatingPointError: If one has halted: with the paths of the parameters, the step (counted
        from 0) and, in a sweep, the run.
    """
    for state in jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, HaltState)):
        if isinstance(state, HaltState) and jax.tree.leaves(state.bad):
            _report(state)


def _report(state: HaltState) -> None:
    bad = np.stack([np.asarray(leaf) for leaf in jax.tree.leaves(state.bad)], -1)
    if not bad.any():
        return
    run = tuple(int(i) for i in np.argwhere(bad)[0][:-1])
    names = [f"`{path}`" for path, one in zip(_selection.paths(state.bad), bad[run], strict=True) if one]
    others = int(bad.any(-1).sum()) - 1
    where = f" of run {', '.join(map(str, run))}" if run else ""
    more = f" (and in {others} other runs)" if others else ""
    raise FloatingPointError(
        f"the gradient must be finite, got NaN or infinity in that of {', '.join(names)} "
        f"at step {np.asarray(state.step)[run]}{where}{more}."
    )


def _any(flags: Any) -> jax.Array:
    return jnp.any(jnp.stack(jax.tree.leaves(flags))) if jax.tree.leaves(flags) else jnp.zeros((), bool)
