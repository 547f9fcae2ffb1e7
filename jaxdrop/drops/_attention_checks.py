"""Checks of the arguments of attention."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike


def check_heads(
    queries: ArrayLike, keys: ArrayLike, values: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    queries = _checks.check_rank(_checks.check_floating(queries, "queries"), 3, "[..., T, H, D]", "queries")
    keys = _checks.check_rank(_checks.check_floating(keys, "keys"), 3, "[..., S, K, D]", "keys")
    values = _checks.check_rank(_checks.check_floating(values, "values"), 3, "[..., S, K, E]", "values")
    for name, array in (("keys", keys), ("values", values)):
        if array.dtype != queries.dtype:
            raise TypeError(
                f"`{name}` must be of the dtype of `queries`, {queries.dtype}, got {array.dtype}."
            )
    batch, (_, heads, size) = queries.shape[:-3], queries.shape[-3:]
    shared = keys.shape[-2]
    if keys.shape[:-3] != batch or keys.shape[-1] != size or (heads % shared if shared else heads):
        raise ValueError(
            f"`keys` must be of shape [..., S, K, D] for `queries` of shape [..., T, H, D], where K divides "
            f"H, got {keys.shape} for {queries.shape}."
        )
    if values.shape[:-1] != keys.shape[:-1]:
        raise ValueError(
            f"`values` must have the shape of `keys` but for the last axis, got {values.shape} for "
            f"{keys.shape}."
        )
    return queries, keys, values


def check_like_scores(
    array: ArrayLike | None, shape: tuple[int, ...], name: str, kind: type[np.generic]
) -> jax.Array | None:
    """An array that broadcasts to the scores, in their rank."""
    if array is None:
        return None
    found = _checks.check_array(array, name)
    if not jnp.issubdtype(found.dtype, kind):
        expected = "a boolean array" if kind is np.bool_ else "a floating-point array"
        raise TypeError(f"`{name}` must be {expected}, got {found.dtype}.")
    _checks.check_broadcastable(found, shape, name)
    return found.reshape((1,) * (len(shape) - found.ndim) + found.shape)


def check_per_example(
    array: ArrayLike | None, shape: tuple[int, ...], name: str, axes: tuple[int, ...]
) -> jax.Array | None:
    """Integers of each example, with axes added so that they broadcast to the scores."""
    if array is None:
        return None
    array = _checks.check_array(array, name, "an integer array")
    if not jnp.issubdtype(array.dtype, np.integer):
        raise TypeError(f"`{name}` must be an integer array, got {array.dtype}.")
    if array.shape != shape:
        raise ValueError(f"`{name}` must be of shape {shape}, got {array.shape}.")
    return jnp.expand_dims(array, axes)


def check_constant(value: float, name: str) -> float:
    """A number that the compiled program contains."""
    value = _checks.check_real(name, value)
    if not _checks.is_concrete(value) and name == "scale":
        raise TypeError("`scale` must be a number known when tracing; multiply `queries` by a traced one.")
    number = _checks.check_number(value, name)
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be finite, got {number:g}.")
    return number


def check_window(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"`local_window_size` must be a number or a pair of them, got {size}.")
    before, after = (_checks.check_count(side, "local_window_size", 0) for side in pair)
    return before, after
