"""Checks of predictions: probabilities, labels, scores and levels.

Like those of `_checks`, they look at concrete values only and return what the caller continues with.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike


def as_wide(x: ArrayLike, name: str) -> jax.Array:
    """A floating-point array, in float32 or wider."""
    return widened(_checks.check_floating(x, name))


def check_values(x: Any, name: str) -> jax.Array:
    """A non-empty real array without NaN, in float32 or wider."""
    truth = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.bool_)
    real = _checks.check_real(name, x.astype(np.int32) if truth else x)
    check_not_empty(np.shape(real), name)
    if _is_visible(real) and np.isnan(np.asarray(real, np.float64)).any():
        raise ValueError(f"`{name}` must not hold a NaN, got one.")
    return widened(real)


def check_vector(x: Any, name: str) -> jax.Array:
    """A non-empty real vector without NaN, in float32 or wider."""
    array = check_values(x, name)
    if array.ndim != 1:
        raise ValueError(f"`{name}` must have one axis, got shape {array.shape}.")
    return array


def check_finite(x: jax.Array, name: str) -> jax.Array:
    """An array of finite values."""
    if _is_visible(x):
        _checks.check_all(x, name, "be finite", np.isfinite)
    return x


def check_not_empty(shape: Sequence[int], name: str) -> None:
    """Raises if a size is 0."""
    if 0 in shape:
        raise ValueError(f"`{name}` must not be empty, got shape {tuple(shape)}.")


def check_positive(value: Any, name: str) -> Any:
    """Real numbers above 0."""
    value = _checks.check_real(name, value)
    if _is_visible(value):
        _checks.check_all(value, name, "be above 0", lambda values: values > 0)
    return value


def check_level(level: Any, name: str = "level") -> Any:
    """A level, such as that of a quantile or a coverage: each value in (0, 1)."""
    level = _checks.check_real(name, level)
    if _is_visible(level):
        _checks.check_all(level, name, "lie in (0, 1)", lambda values: (values > 0) & (values < 1))
    return level


def check_probabilities(probs: ArrayLike, axes: str, name: str = "probs") -> jax.Array:
    """Class probabilities along the last axis, in float32 or wider; they sum to 1 within `sum_tolerance`."""
    array = _checks.check_floating(probs, name)
    named = len(axes.split(",")) - axes.count("...")
    if array.ndim != max(named, array.ndim * axes.count("...")):
        raise ValueError(f"`{name}` must be of shape {axes}, got {array.shape}.")
    check_not_empty(array.shape, name)
    check_classes(array.shape, name, "for one probability p, stack 1 - p and p")
    if _is_visible(array):
        values, tolerance = np.asarray(array, np.float64), sum_tolerance(array)
        _checks.check_all(
            values, name, "lie in [0, 1]", lambda values: (values >= 0) & (values <= 1 + tolerance)
        )
        expected = f"sum to 1 along the last axis to within {tolerance:g}"
        _checks.check_all(values.sum(-1), name, expected, lambda sums: np.abs(sums - 1) <= tolerance)
    return widened(array)


def check_classes(shape: Sequence[int], name: str, otherwise: str) -> None:
    """Raises if the last axis has one class, of which every prediction is certain."""
    if shape[-1] < 2:
        raise ValueError(
            f"`{name}` must have at least 2 classes along the last axis ({otherwise}), "
            f"got shape {tuple(shape)}."
        )


def check_class_logits(logits: jax.Array, name: str) -> jax.Array:
    """Logits of at least two classes along the last axis."""
    check_classes(
        _checks.check_rank(logits, 1, "[..., K]", name).shape, name, "for one logit z, stack 0 and z"
    )
    return logits


def sum_tolerance(probs: ArrayLike) -> float:
    """The tolerance for sums of probabilities, by the rounding of a softmax of their dtype."""
    return 1e-3 if probs.dtype.itemsize > 2 else 2e-2


def check_labels(
    labels: ArrayLike,
    of: ArrayLike | jax.ShapeDtypeStruct,
    name: str = "labels",
    of_name: str = "probs",
    ignore: int | None = None,
) -> jax.Array:
    """Class indices, one per example of an array `[..., K]`, or the label to ignore."""
    array = _checks.check_array(labels, name, "an array of integers")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be an array of integers, got {array.dtype}.")
    if array.shape != of.shape[:-1]:
        raise ValueError(
            f"`{name}` must have the shape of `{of_name}` without its last axis, {of.shape[:-1]}, "
            f"got {array.shape}."
        )
    if _is_visible(array):
        last = of.shape[-1] - 1
        # Before conversion: JAX would cut 64-bit labels to their low half.
        given = labels if isinstance(labels, np.ndarray) else array
        expected = f"lie in [0, {last}]" + ("" if ignore is None else f" or be {ignore}, to be ignored")
        _checks.check_all(
            given,
            name,
            expected,
            lambda values: (values >= 0) & (values <= last) | (ignore is not None and values == ignore),
        )
    # A narrow dtype may not hold K, or an offset that is added to an index.
    return array.astype(jnp.int32) if array.dtype.itemsize < 4 else array


def _is_visible(value: object) -> bool:
    """Whether the values can be inspected: not traced, and all of them in this process."""
    return _checks.is_concrete(value) and getattr(value, "is_fully_addressable", True)


def widened(x: ArrayLike) -> jax.Array:
    """A real array, in float32 or wider."""
    array = jnp.asarray(x)
    narrow = not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize < 4
    return array.astype(jnp.float32) if narrow else array
