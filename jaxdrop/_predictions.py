"""Checks of predictions: probabilities, labels, scores, levels and masks of examples.

Like those of `_checks`, they look at concrete values only and return what the caller continues with.
No check copies more than a block of the values.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Numeric, PyTree

HALF_TOLERANCE = 2e-2


def as_wide(x: ArrayLike, name: str) -> jax.Array:
    """A floating-point array, in float32 or wider."""
    return widened(_checks.check_floating(x, name))


def exact(x: PyTree) -> PyTree:
    """The argument without a cast: lists and numbers become NumPy arrays, unless they hold JAX's."""
    if isinstance(x, list | tuple | int | float):
        parts = jax.tree.leaves(x)
        return jnp.asarray(x) if any(isinstance(part, jax.Array) for part in parts) else np.asarray(x)
    return x


def check_exact(x: PyTree, name: str, where: ArrayLike | None = None) -> ArrayLike:
    """A non-empty real array without NaN (where a mask selects), in its own dtype."""
    real = exact(x)
    truth = hasattr(real, "dtype") and jnp.issubdtype(real.dtype, jnp.bool_)
    real = _checks.check_real(name, real.astype(np.int32) if truth else real)
    check_not_empty(np.shape(real), name)
    if is_visible(real) and (where is None or is_visible(where)):
        parts = blocks(np.asarray(real).reshape(-1, 1), where)
        if any(np.isnan(part).any() for part in parts):
            raise ValueError(f"`{name}` must not hold a NaN, got one.")
    return real


def check_values(x: PyTree, name: str, where: ArrayLike | None = None) -> jax.Array:
    """A non-empty real array without NaN (where a mask selects), in float32 or wider."""
    return widened(check_exact(x, name, where))


def check_vector(x: PyTree, name: str, where: ArrayLike | None = None) -> ArrayLike:
    """A non-empty real vector without NaN (where a mask selects), in its own dtype."""
    array = check_exact(x, name, where)
    if np.ndim(array) != 1:
        raise ValueError(f"`{name}` must have one axis, got shape {np.shape(array)}.")
    return array


def ranked(*arrays: ArrayLike) -> tuple[jax.Array, ...]:
    """Arrays in one dtype and in the order of the given ones, whose values only count by their order.

    A cast would make ties of numbers that float32 cannot tell apart. Concrete numbers that JAX would
    cast become their ranks among all of them; traced ones have been cast already.
    """
    # NumPy does not promote half precision and integers.
    arrays = tuple(widened(array) if _is_narrow(array) else array for array in arrays)
    kinds = {jnp.issubdtype(array.dtype, jnp.integer) for array in arrays}
    if all(is_visible(array) for array in arrays) and (any(map(is_wide, arrays)) or len(kinds) > 1):
        values = [np.ravel(np.asarray(array)) for array in arrays]
        _, ranks = np.unique(np.concatenate(values), return_inverse=True)
        parts = np.split(ranks.astype(np.int32), np.cumsum([len(part) for part in values])[:-1])
        return tuple(
            jnp.asarray(part.reshape(array.shape)) for part, array in zip(parts, arrays, strict=True)
        )
    if len(kinds) > 1:
        arrays = tuple(map(widened, arrays))
    given = [jnp.asarray(array) for array in arrays]
    dtype = functools.reduce(jnp.promote_types, [array.dtype for array in given])
    return tuple(array.astype(dtype) for array in given)


def is_wide(array: ArrayLike) -> bool:
    """Whether the values are concrete and JAX would cast them to a narrower dtype."""
    return isinstance(array, np.ndarray | np.generic) and array.dtype != jax.dtypes.canonicalize_dtype(
        array.dtype
    )


def needs_float64(array: ArrayLike) -> bool:
    """Whether the values are NumPy's, and float32 may round them: float64, and large integers."""
    return is_wide(array) or (isinstance(array, np.ndarray | np.generic) and array.dtype.kind in "iu")


def _is_narrow(array: ArrayLike) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4


def rounded_up(x: ArrayLike) -> jax.Array:
    """A real array in float32 or wider; what the cast has to round, it rounds up."""
    if is_wide(x):
        return _rounded(np.asarray(x), np.inf)
    given = jnp.asarray(x)
    array = widened(given)
    if array.dtype == given.dtype or not jnp.issubdtype(given.dtype, jnp.integer):
        return array
    below = array.astype(given.dtype) < given
    return jnp.where(below, jnp.nextafter(array, jnp.full_like(array, jnp.inf)), array)


def _rounded(wide: np.ndarray, toward: float) -> jax.Array:
    """The cast of a wide array, rounded toward an infinity; in NumPy, as it may be a constant of a trace."""
    with np.errstate(over="ignore"):
        near = wide.astype(jax.dtypes.canonicalize_dtype(np.float64))
    again = near.astype(wide.dtype)
    off = again < wide if toward > 0 else again > wide
    return jnp.asarray(np.where(off, np.nextafter(near, near.dtype.type(toward)), near))


def added(x: ArrayLike, by: ArrayLike, toward: float) -> jax.Array:
    """The sum `x + by`, in float32 or wider, rounded toward an infinity."""
    if needs_float64(x) and is_visible(by):
        return _rounded(np.asarray(x, np.float64) + np.asarray(by, np.float64), toward)
    x = _rounded(np.asarray(x), toward) if is_wide(x) else widened(x)
    total = x + by
    # The rounding error of the sum, exactly (Knuth's two-sum).
    finite = jnp.isfinite(total)
    a, b, s = (jnp.where(finite, value, 0) for value in (x, by, total))
    error = (a - (s - (s - a))) + (b - (s - a))
    step = jnp.nextafter(s, jnp.full_like(s, toward)) - s
    off = error > 0 if toward > 0 else error < 0
    return total + jax.lax.stop_gradient(jnp.where(off, step, 0))


def shifted(x: ArrayLike, by: ArrayLike) -> jax.Array:
    """The difference `x - by`, in float32 or wider; that of concrete NumPy numbers is formed in float64."""
    if (needs_float64(x) or needs_float64(by)) and is_visible(x) and is_visible(by):
        with np.errstate(invalid="ignore", over="ignore"):  # of examples that are masked, and of infinities
            wide = np.asarray(x, np.float64) - np.asarray(by, np.float64)
            return jnp.asarray(wide.astype(jax.dtypes.canonicalize_dtype(np.float64)))
    return widened(x) - widened(by)


def ascending(x: jax.Array) -> jax.Array:
    """Sorted along the first axis; NumPy sorts numbers of the host, ten times as fast as XLA."""
    return jnp.asarray(np.sort(x, axis=0)) if is_on_host(x) else jnp.sort(x, axis=0)


def likeliest(probs: ArrayLike) -> jax.Array:
    """The index of the largest value along the last axis, found before a cast."""
    probs = exact(probs)
    return jnp.asarray(np.argmax(probs, -1)) if is_wide(probs) else jnp.argmax(jnp.asarray(probs), -1)


def check_finite(x: jax.Array, name: str) -> jax.Array:
    """An array of finite values."""
    if is_visible(x):
        _checks.check_all(x, name, "be finite", np.isfinite)
    return x


def check_not_empty(shape: Sequence[int], name: str) -> None:
    """Raises if a size is 0."""
    if 0 in shape:
        raise ValueError(f"`{name}` must not be empty, got shape {tuple(shape)}.")


def check_positive(value: Any, name: str) -> Any:
    """Real numbers above 0."""
    value = _checks.check_real(name, value)
    if is_visible(value):
        _checks.check_all(value, name, "be above 0", lambda values: values > 0)
    return value


def check_level(level: Any, name: str = "level") -> Any:
    """A level, such as that of a quantile or a coverage: each value in (0, 1)."""
    level = _checks.check_real(name, level)
    if is_visible(level):
        _checks.check_all(level, name, "lie in (0, 1)", lambda values: (values > 0) & (values < 1))
    return level


def check_mask(where: ArrayLike | None, shape: Sequence[int], name: str = "where") -> ArrayLike | None:
    """A boolean mask that broadcasts to the shape of the examples, in that shape; None stays None."""
    if where is None:
        return None
    mask = _checks.check_array(where, name, "a boolean array") if _is_list(where) else where
    if not hasattr(mask, "dtype") or mask.dtype != np.bool_:
        raise TypeError(
            f"`{name}` must be a boolean array, got {getattr(mask, 'dtype', type(mask).__name__)}."
        )
    mask = _checks.check_broadcastable(mask, shape, name)
    return np.broadcast_to(mask, shape) if isinstance(mask, np.ndarray) else jnp.broadcast_to(mask, shape)


def filled(x: jax.Array, where: ArrayLike | None, value: Numeric) -> jax.Array:
    """The array with a value at the examples that the mask leaves out; the mask has its leading axes."""
    if where is None:
        return x
    mask = jnp.asarray(where).reshape(*np.shape(where), *[1] * (x.ndim - np.ndim(where)))
    return jnp.where(mask, x, jnp.asarray(value, x.dtype))


def check_probabilities(
    probs: ArrayLike, axes: str, name: str = "probs", where: ArrayLike | None = None
) -> jax.Array:
    """Class probabilities along the last axis, in float32 or wider; they sum to 1 within `sum_tolerance`.

    Examples that a mask leaves out may hold anything, and become uniform.
    """
    array = _checks.check_floating(probs, name)
    named = len(axes.split(",")) - axes.count("...")
    if array.ndim != max(named, array.ndim * axes.count("...")):
        raise ValueError(f"`{name}` must be of shape {axes}, got {array.shape}.")
    check_not_empty(array.shape, name)
    check_classes(array.shape, name, "for one probability p, stack 1 - p and p")
    if is_visible(array) and (where is None or is_visible(where)):
        for rows in blocks(np.asarray(array).reshape(-1, array.shape[-1]), where):
            _check_sums(rows, name, sum_tolerance(array))
    return filled(widened(array), where, 1 / array.shape[-1])


def _check_sums(rows: np.ndarray, name: str, tolerance: float) -> None:
    """Raises unless rows are in [0, 1] and sum to 1, to the rounding of half precision if stored so."""
    _checks.check_all(rows, name, "lie in [0, 1]", lambda values: (values >= 0) & (values <= 1 + tolerance))
    sums = rows.sum(-1)
    largest = np.abs(sums - 1).max(initial=0)
    if tolerance < largest <= HALF_TOLERANCE and is_half(rows):
        return
    expected = f"sum to 1 along the last axis to within {tolerance:g}"
    _checks.check_all(sums, name, expected, lambda sums: np.abs(sums - 1) <= tolerance)


def blocks(rows: np.ndarray, where: ArrayLike | None) -> Iterator[np.ndarray]:
    """Blocks of rows in float64, of those that a mask selects."""
    kept = None if where is None else np.asarray(where).reshape(-1)
    step = max(1, 2**16 // rows.shape[-1])
    for start in range(0, len(rows), step):
        block = np.asarray(rows[start : start + step], np.float64)
        yield block if kept is None else block[kept[start : start + step]]


def is_half(values: np.ndarray) -> bool:
    """Whether values up to 6e4 were stored in half precision: rounding them to it changes none."""
    return any((values.clip(-6e4, 6e4).astype(to) == values).all() for to in (jnp.bfloat16, np.float16))


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


def refuse_probabilities(logits: jax.Array, where: ArrayLike | None) -> None:
    """Raises if every example is a distribution; scaled as logits, it would be far from calibrated."""
    if where is not None and not np.any(where):
        return
    rows = np.asarray(logits).reshape(-1, logits.shape[-1])
    tolerance = HALF_TOLERANCE if is_half(rows) else sum_tolerance(logits)
    parts = blocks(rows, where)
    if all(((part >= 0).all(-1) & (np.abs(part.sum(-1) - 1) <= tolerance)).all() for part in parts):
        raise ValueError("`logits` must be logits (the logarithms of probabilities are), got probabilities.")


def sum_tolerance(probs: ArrayLike) -> float:
    """The tolerance for sums of probabilities, by the rounding of a softmax of their dtype."""
    return 1e-3 if probs.dtype.itemsize > 2 else HALF_TOLERANCE


def check_examples(
    probs: ArrayLike, labels: ArrayLike, where: ArrayLike | None, axes: str = "[..., K]"
) -> tuple[jax.Array, jax.Array, ArrayLike | None]:
    """Probabilities, labels and a mask of the labels' shape; examples left out hold valid values."""
    if np.ndim(probs) and np.shape(labels) == np.shape(probs):
        raise ValueError(
            "`probs` must have one axis more than `labels`, of classes (`binary_nll` and `binary_ece` take "
            f"one probability per label), got shape {np.shape(probs)} of both."
        )
    where = check_mask(where, np.shape(probs)[:-1])
    probs = check_probabilities(probs, axes, where=where)
    return probs, filled(check_labels(labels, probs, where=where), where, 0), where


def check_labels(
    labels: ArrayLike,
    of: ArrayLike | jax.ShapeDtypeStruct,
    name: str = "labels",
    of_name: str = "probs",
    ignore: int | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Class indices, one per example of an array `[..., K]`, or the label to ignore, where a mask selects."""
    array = _checks.check_array(labels, name, "an array of integers")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be an array of integers, got {array.dtype}.")
    if array.shape != of.shape[:-1]:
        raise ValueError(
            f"`{name}` must have the shape of `{of_name}` without its last axis, {of.shape[:-1]}, "
            f"got {array.shape}."
        )
    if is_visible(array) and (where is None or is_visible(where)):
        last = of.shape[-1] - 1
        # Before conversion: JAX would cut 64-bit labels to their low half.
        given = exact(labels) if is_wide(exact(labels)) else array
        kept = given if where is None else np.asarray(given)[np.asarray(where)]
        expected = f"lie in [0, {last}]" + ("" if ignore is None else f" or be {ignore}, to be ignored")
        _checks.check_all(
            kept,
            name,
            expected,
            lambda values: (values >= 0) & (values <= last) | (ignore is not None and values == ignore),
        )
    # A narrow dtype may not hold K, or an offset that is added to an index.
    return array.astype(jnp.int32) if array.dtype.itemsize < 4 else array


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | bool)


def is_visible(value: object) -> bool:
    """Whether the values can be inspected: not traced, and all of them in this process."""
    return _checks.is_concrete(value) and getattr(value, "is_fully_addressable", True)


def is_on_host(value: ArrayLike) -> bool:
    """Whether the values can be inspected and lie on one CPU: NumPy then computes without a copy."""
    devices = value.devices() if is_visible(value) and isinstance(value, jax.Array) else ()
    return is_visible(value) and len(devices) < 2 and all(one.platform == "cpu" for one in devices)


def widened(x: ArrayLike) -> jax.Array:
    """A real array, in float32 or wider."""
    if is_wide(x) and jnp.issubdtype(x.dtype, jnp.integer):
        x = np.asarray(x, jnp.float32)  # JAX would cut 64-bit integers to their low half
    array = jnp.asarray(x)
    narrow = not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize < 4
    return array.astype(jnp.float32) if narrow else array
