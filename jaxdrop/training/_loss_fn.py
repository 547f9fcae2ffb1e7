"""The contract of a loss: the arguments that it takes, the values that it returns."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _selection
from jaxdrop._types import Key, PyTree

_NAMED = 5
_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
# `evaluate(params, key) -> (loss, (aux, model_state))`
Evaluate = Callable[[PyTree, Key], tuple[jax.Array, tuple[PyTree, PyTree]]]


def checked(loss_fn: Callable[..., PyTree], model_state: PyTree, batch: PyTree) -> Evaluate:
    """The loss on a batch in one form, with or without a model state; raises when traced.

    Args:
      loss_fn: The user's loss.
      model_state: The model state; None for a loss without it.
      batch: The batch.
    """
    takes, returns, given = "(params, key, batch)", "(loss, aux)", "no `model_state`"
    if model_state is not None:
        takes, returns, given = (
            "(params, model_state, key, batch)",
            "(loss, (aux, model_state))",
            "a `model_state`",
        )
    why = f"because `init` was given {given}"

    def evaluate(params: PyTree, key: Key) -> tuple[jax.Array, tuple[PyTree, PyTree]]:
        arguments = (params, key, batch) if model_state is None else (params, model_state, key, batch)
        check_takes(loss_fn, arguments, f"`{takes}`, {why}")
        found = loss_fn(*arguments)
        if not is_pair(found) or (model_state is not None and not is_pair(found[1])):
            raise TypeError(f"`loss_fn` must return `{returns}`, {why}, got {told(found)}.")
        loss, aux = found
        _check_scalar(loss)
        aux, new = (aux, None) if model_state is None else aux
        _check_arrays(aux)
        if model_state is not None:
            check_like(new, model_state, "model_state")
        return loss, (aux, new)

    return evaluate


def check_like(new: PyTree, old: PyTree, name: str, hint: str = "") -> None:
    """Raises unless a state that a loss returned has the structure, shapes and dtypes of the old one."""
    had, has = (dict(zip(_selection.paths(tree), jax.tree.leaves(tree), strict=True)) for tree in (old, new))
    lost, added = [path for path in had if path not in has], [path for path in has if path not in had]
    if lost or added:
        parts = [("without", lost), ("with the new", added)]
        words = " and ".join(f"{word} {listed(paths)}" for word, paths in parts if paths)
        raise ValueError(f"`{name}` must keep its leaves when `loss_fn` returns it, got one {words}{hint}.")
    for path, leaf in has.items():
        kinds = [(jnp.shape(one), jnp.result_type(one)) for one in (had[path], leaf)]
        if kinds[0] != kinds[1]:
            (shape, dtype), (new_shape, new_dtype) = kinds
            of = f" of `{path}`" if path else ""
            raise ValueError(
                f"`{name}` must keep the shape and dtype{of} when `loss_fn` returns it, {shape} "
                f"{dtype}, got {new_shape} {new_dtype}."
            )
    if jax.tree.structure(old) != jax.tree.structure(new):
        raise ValueError(
            f"`{name}` must keep its structure when `loss_fn` returns it, {jax.tree.structure(old)}, "
            f"got {jax.tree.structure(new)}."
        )


def check_takes(
    function: Callable[..., PyTree], arguments: tuple, expected: str, name: str = "loss_fn"
) -> None:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise TypeError(f"`{name}` must take {expected}, got one with: {error}.") from None
    except ValueError:  # a function without a signature
        pass


def _check_scalar(loss: PyTree) -> None:
    if not isinstance(loss, jax.Array | np.ndarray | np.generic | float):
        raise TypeError(f"`loss_fn` must return a scalar loss, got {told(loss)}.")
    if jnp.shape(loss) != ():
        raise ValueError(f"`loss_fn` must return a scalar loss, got shape {jnp.shape(loss)}.")
    if not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise TypeError(f"`loss_fn` must return a floating-point loss, got {jnp.result_type(loss)}.")


def _check_arrays(aux: PyTree) -> None:
    for path, leaf in zip(_selection.paths(aux), jax.tree.leaves(aux), strict=True):
        if not isinstance(leaf, _ARRAYS):
            raise TypeError(f"`aux` must hold arrays, got {type(leaf).__name__} at `{path}`.")


def is_pair(value: PyTree) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def told(value: PyTree) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(map(told, value))}" if value else "an empty tuple"
    return "an array" if isinstance(value, jax.Array) else type(value).__name__


def listed(paths: list[str]) -> str:
    more = [f"{len(paths) - _NAMED} more"] if len(paths) > _NAMED else []
    return ", ".join([*(f"`{path}`" for path in paths[:_NAMED]), *more])
