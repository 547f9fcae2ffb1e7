"""The order of an optimizer's chain, as its state shows it."""

from collections import OrderedDict
from typing import NamedTuple

import jax
import optax

from jaxdrop._types import PyTree


class GradientState(NamedTuple):
    """The state of a transformation of the gradient, which the learning rate must follow.

    Attributes:
      step: Number of updates so far, an int32 scalar: the step of the schedules.
    """

    step: jax.Array


class EndState(NamedTuple):
    """The state of a transformation of where the step ends, which nothing else may follow.

    Attributes:
      step: Number of updates so far, an int32 scalar: the step of the schedules.
    """

    step: jax.Array


# States of transformations that return the update, or 0 where it is NaN.
_HARMLESS = (optax.MonitorState, optax.SnapshotState, optax.ZeroNansState)


def check_order(state: optax.OptState) -> None:
    """Raises if a transformation of `jaxdrop.optim` stands in the wrong place of a chain.

    Args:
      state: State of the whole optimizer, as its `init` returns it.

    Raises:
      ValueError: If another transformation follows one that acts on where the step ends, or none
        follows one that acts on the gradient.
    """
    _check(state, "", None)


def _check(state: PyTree, place: str, follower: str | None) -> str | None:
    """Checks a part of the state.

    Args:
      state: The part.
      place: Its path in the whole, such as "[1][0]".
      follower: What changes the step after it; None if nothing does.

    Returns:
      What changes the step in this part or after it; None if nothing does.
    """
    if isinstance(state, EndState):
        if follower is not None:
            raise ValueError(
                "`optimizer` must have constraints, proximal steps and decoupled decays last in its chain, "
                f"got one (state {place}) before another transformation ({follower}): move it to the end."
            )
        return follower
    if isinstance(state, GradientState):
        if follower is None:
            raise ValueError(
                "`optimizer` must have the learning rate after `coupled_l2`, which changes the gradient, got "
                f"{f'it (state {place})' if place else 'it'} with none: move it to the start of the chain."
            )
        return follower
    if isinstance(state, _HARMLESS):
        return follower
    parts, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda node: node is not state)
    named = [(place + jax.tree_util.keystr(path), part) for path, part in parts]
    if (type(state) is tuple and state) or isinstance(state, OrderedDict):  # of a chain, a named chain
        for where, part in reversed(named):
            follower = _check(part, where, follower)
        return follower
    if not _has_ours(state):
        return f"{type(state).__name__} {place}"
    # Wrappers, and the labels of a partition: each part is a chain for itself.
    found = [_check(part, where, follower) for where, part in named if type(state) is dict or _has_ours(part)]
    return next((one for one in found if one is not None), None)


def _has_ours(state: PyTree) -> bool:
    kinds = (EndState, GradientState)
    parts = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, kinds))
    return any(isinstance(part, kinds) for part in parts)
