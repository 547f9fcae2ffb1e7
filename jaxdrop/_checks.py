"""All argument checks and their messages.

Checks inspect concrete values only: a traced value cannot be inspected, and nothing is raised. Each
returns its argument in the form that the caller needs.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxdrop._keys import check_key as check_key
from jaxdrop._types import ArrayLike, Bits, Numeric, PyTree, Rate

WIDTHS = (8, 16, 24, 32)
FLAX_WIDTH = 32


def is_concrete(value: object) -> bool:
    """Whether the value, or the value of a variable, is known and not traced."""
    held = getattr(value, "__jax_array__", None) or (lambda: value)
    return not isinstance(held(), jax.core.Tracer)


def is_scalar(value: Any, *choices: float) -> bool:
    """Whether a value is a concrete scalar and one of the choices."""
    return is_concrete(value) and np.ndim(value) == 0 and bool(np.isin(np.float64(value), choices))


def is_trivial_rate(rate: Rate) -> bool:
    """Whether all is kept or all dropped, so that no key is needed."""
    return is_scalar(rate, 0, 1)


def check_real(name: str, value: Any) -> Any:
    """A real number or array; lists and variables become arrays."""
    if isinstance(value, list | tuple) or hasattr(value, "__jax_array__"):
        value = jnp.asarray(value)
    dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"`{name}` must be a real number or an array of them, got {value!r}.")
    return value


def _offender(value: Numeric, allowed: np.ndarray) -> str:
    """The first value that is not allowed, formatted."""
    return f"{float(np.asarray(value)[~allowed].flat[0]):g}"


def check_all(value: Numeric, name: str, expected: str, rule: Callable[[np.ndarray], np.ndarray]) -> None:
    """Raises unless the rule allows every value; by blocks, as a copy in float64 may not fit."""
    flat = np.reshape(np.asarray(value), -1)
    for start in range(0, flat.size, 2**16):
        values = np.asarray(flat[start : start + 2**16], np.float64)
        allowed = rule(values)
        if not allowed.all():
            raise ValueError(f"`{name}` must {expected}, got {_offender(values, allowed)}.")


def check_rate(rate: Rate, name: str = "rate") -> Numeric:
    """A probability of dropping: a real scalar or array in [0, 1]."""
    rate = check_real(name, rate)
    if is_concrete(rate):
        check_all(rate, name, "lie in [0, 1]", lambda values: (values >= 0) & (values <= 1))
    return rate


def check_nonnegative(value: Numeric, name: str, *, finite: bool = True) -> Numeric:
    """A non-negative real scalar or array, such as a strength; infinity only if not `finite`."""
    value = check_real(name, value)
    if is_concrete(value):
        expected = "be finite and at least 0" if finite else "be at least 0"
        check_all(value, name, expected, lambda values: (np.isfinite(values) | (not finite)) & (values >= 0))
    return value


def check_static_rate(rate: Rate, name: str = "rate") -> float:
    """A rate that decides a shape: a number, not traced, in [0, 1)."""
    return check_below_one(check_number(check_rate(rate, name), name), name)


def check_number(value: Any, name: str) -> float:
    """A number known when tracing, because it decides a shape or a choice."""
    if not is_concrete(value) or np.ndim(value) != 0:
        raise TypeError(f"`{name}` must be a number known when tracing, got {value}.")
    return float(value)


def check_below_one(rate: Any, name: str = "rate") -> Any:
    """A rate that must leave something."""
    if is_concrete(rate) and (np.asarray(rate) == 1).any():
        raise ValueError(f"`{name}` must be below 1, so that something is kept, got 1.")
    return rate


def check_scalar(value: Any, name: str) -> Any:
    """One value, traced or not."""
    if np.ndim(value) != 0:
        raise ValueError(f"`{name}` must be a scalar, got shape {np.shape(value)}.")
    return value


def check_integer(value: Any, name: str) -> int:
    """An integer of any type, as an `int`."""
    try:
        return int(operator.index(value))  # of a boolean, whose index is itself
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {value!r}.") from None


def check_count(value: Any, name: str, least: int = 1) -> int:
    """An integer of at least `least`."""
    count = check_integer(value, name)
    if count < least:
        raise ValueError(f"`{name}` must be at least {least}, got {count}.")
    return count


def check_choice(value: Any, choices: Sequence[Any], name: str) -> Any:
    """One of the choices."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.")
    return value


def check_same_array(array: jax.Array, like: jax.Array, name: str, of: str) -> jax.Array:
    """An array of the shape and dtype of another."""
    if (array.shape, array.dtype) != (like.shape, like.dtype):
        raise ValueError(
            f"`{name}` must have the shape and dtype of `{of}`, {like.shape} {like.dtype}, "
            f"got {array.shape} {array.dtype}."
        )
    return array


def check_same_shape(array: jax.Array, like: jax.Array, name: str, of: str) -> jax.Array:
    """An array of the shape of another."""
    if array.shape != like.shape:
        raise ValueError(f"`{name}` must have the shape of `{of}`, {like.shape}, got {array.shape}.")
    return array


def check_rank(x: jax.Array, least: int, axes: str, name: str = "x") -> jax.Array:
    """An array with at least `least` axes."""
    if x.ndim < least:
        raise ValueError(f"`{name}` must be of shape {axes}, got {x.shape}.")
    return x


def check_array(value: PyTree, name: str, expected: str = "an array") -> jax.Array:
    """An array, or what `jax.numpy` makes one of."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be {expected}, got {type(value).__name__}.") from None


def check_floating(x: PyTree, name: str = "x") -> jax.Array:
    """An array of a floating-point dtype."""
    array = check_array(x, name, "a floating-point array")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be a floating-point array, got {array.dtype}.")
    return array


def check_shape(shape: Sequence[int], name: str = "shape") -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise TypeError(f"`{name}` must be a sequence of integers, got {shape!r}.") from None
    if any(size < 0 for size in sizes):
        raise ValueError(f"`{name}` must hold sizes of at least 0, got {sizes}.")
    return sizes


def check_axes(axes: Sequence[int], rank: int, name: str) -> tuple[int, ...]:
    """Axes of an array of this rank, made non-negative."""
    try:
        indices = tuple(operator.index(axis) for axis in axes)
    except TypeError:
        raise TypeError(f"`{name}` must be a sequence of integers, got {axes!r}.") from None
    for axis in indices:
        if not rank:
            raise ValueError(f"`{name}` must be an axis, and an array of rank 0 has none, got {axis}.")
        if not -rank <= axis < rank:
            raise ValueError(
                f"`{name}` must lie in [{-rank}, {rank - 1}] for an array of rank {rank}, got {axis}."
            )
    return tuple(axis % rank for axis in indices)


def check_shared(shape: Sequence[int], broadcast_dims: Sequence[int]) -> tuple[int, ...]:
    """The shape of the decisions, of size 1 along the axes that share one."""
    shared = check_axes(broadcast_dims, len(shape), "broadcast_dims")
    return tuple(1 if axis in shared else size for axis, size in enumerate(shape))


def check_channel_axis(channel_axis: int, shape: Sequence[int]) -> int:
    """The channel axis of a batch: any axis but the first, which is the batch."""
    rank = len(shape)
    if rank < 2:
        raise ValueError(f"`x` must have a batch axis and a channel axis, got shape {tuple(shape)}.")
    (axis,) = check_axes((channel_axis,), rank, "channel_axis")
    if axis == 0:
        raise ValueError(f"`channel_axis` must not be the batch axis 0, got {channel_axis}.")
    return axis


def feature_map_dims(shape: Sequence[int], channel_axis: int) -> tuple[int, ...]:
    """The axes of a feature map: all except the batch and the channels."""
    channels = check_channel_axis(channel_axis, shape)
    return tuple(axis for axis in range(1, len(shape)) if axis != channels)


def check_broadcastable(value: Any, to: Sequence[int], name: str) -> Any:
    """A value that broadcasts to a shape without enlarging it; an array gets the shape's rank."""
    shape = np.shape(value)
    pairs = zip(reversed(shape), reversed(to), strict=False)
    if len(shape) > len(to) or any(size not in (1, size_to) for size, size_to in pairs):
        raise ValueError(f"`{name}` must broadcast to shape {tuple(to)}, got {tuple(shape)}.")
    return value.reshape((1,) * (len(to) - len(shape)) + shape) if shape else value


def check_window(window: Any, sides: Sequence[int], name: str, odd: bool = False) -> tuple[int, ...]:
    """The sides of a box within a map: one for all axes, or one per axis."""
    lengths = tuple(window) if isinstance(window, list | tuple) else (window,) * len(sides)
    if len(lengths) != len(sides):
        raise ValueError(f"`{name}` must be one side or {len(sides)}, one per axis, got {lengths}.")
    for length, side in zip(lengths, sides, strict=True):
        if not isinstance(length, int | np.integer):
            raise TypeError(f"`{name}` must be an integer or integers, got {length!r}.")
        if odd and length % 2 == 0:
            raise ValueError(f"`{name}` must be odd, got {length}.")
        if not 1 <= length <= side:
            raise ValueError(
                f"`{name}` must be at least 1 and at most {side} (the map's side), got {length}."
            )
    return tuple(int(length) for length in lengths)


def choose_width(bits: Bits, rate: Rate | None) -> int:
    """The number of random bits per mask element: `bits`, or chosen by the rate.

    A concrete rate gets 24 bits where 16 would realize it worse than to 0.1 % of the smaller of
    rate and 1 - rate, and else 16. A rate of None, for probabilities that are data, gets 16.
    """
    if bits is not None and bits not in WIDTHS:
        raise ValueError(f"`bits` must be one of 8, 16, 24, 32 or None, got {bits!r}.")
    if rate is None or not is_concrete(rate):
        return bits or 16
    keep = 1 - np.asarray(rate, np.float64)
    if bits is None:
        return 16 if _is_realized(keep) else 24
    lost = (keep > 0) & (keep < 1) & np.isin(np.round(keep * 2.0**bits), (0, 2.0**bits))
    if bits < 32 and lost.any():
        told = _offender(rate, ~lost)
        raise ValueError(f"`bits` must be enough to tell rate {told} from 0 and 1, got {bits}.")
    return bits


def _is_realized(keep: np.ndarray) -> bool:
    tolerance = 1e-3 * np.minimum(keep, 1 - keep)
    return bool((np.abs(np.round(keep * 2.0**16) / 2.0**16 - keep) <= tolerance).all())


@partial(jax.tree_util.register_dataclass, data_fields=["threshold", "keep_prob"], meta_fields=["width"])
@dataclass(frozen=True)
class Draw:
    """The threshold and realized keep probability of a rate, for a number of bits.

    For a concrete rate both are NumPy values, so the compiled program computes neither.

    Attributes:
      threshold: The number of the 2**width random values that are kept; with 32 bits, a fraction.
      keep_prob: The realized keep probability, without a gradient; NaN where a traced rate is invalid.
      width: Random bits per element.
    """

    threshold: ArrayLike
    keep_prob: ArrayLike
    width: int


def prepare(rate: Numeric, shape: Sequence[int], bits: Bits) -> Draw:
    """The draw of a checked rate that broadcasts to the mask's shape; checks `bits` too."""
    rate = check_broadcastable(rate, shape, "rate")
    width = choose_width(bits, rate)
    return draw_of(realized_keep_prob(rate, width), width)


def draw_of(keep_prob: ArrayLike, width: int) -> Draw:
    """The draw of a realized keep probability; a NaN keeps all elements, so that the result shows it."""
    xp = _namespace(keep_prob)
    valid = xp.where(xp.isnan(keep_prob), xp.ones_like(keep_prob), keep_prob)
    threshold = valid if width == FLAX_WIDTH else (valid * np.float32(2**width)).astype(np.uint32)
    return Draw(threshold, keep_prob, width)


def realized_keep_prob(rate: Numeric, width: int) -> ArrayLike:
    """The keep probability of a mask of `width` bits, as float32 without a gradient.

    With 32 bits it has Flax's dtype and rounding. A traced rate outside [0, 1] cannot raise: it
    gives NaN, and the whole result is NaN.
    """
    if width == FLAX_WIDTH:
        if isinstance(rate, int | float):
            return jnp.asarray(1.0 - rate)
        return 1 - jnp.asarray(without_gradient(rate, jnp.promote_types(jnp.result_type(rate), np.float32)))
    keep = 1 - without_gradient(rate)
    return _namespace(keep).round(keep * np.float32(2**width)) * np.float32(2.0**-width)


def without_gradient(rate: Numeric, dtype: np.dtype | type = np.float32) -> ArrayLike:
    """The rate in one dtype, without a gradient; NaN where a traced rate is outside [0, 1]."""
    if is_concrete(rate):
        return np.asarray(rate, dtype)
    rate = jax.lax.stop_gradient(jnp.asarray(rate, dtype))
    return jnp.where((rate >= 0) & (rate <= 1), rate, jnp.nan)


def scale_of(draw: Draw, dtype: np.dtype) -> ArrayLike:
    """The scale for `select_and_scale`: one over the keep probability.

    With 32 bits it is the keep probability itself, because Flax divides and its numbers are matched.
    """
    keep_prob = draw.keep_prob
    xp = _namespace(keep_prob)
    safe = xp.where(keep_prob == 0, xp.ones_like(keep_prob), keep_prob)
    return safe if draw.width == FLAX_WIDTH else 1 / safe.astype(widened(dtype))


def widened(dtype: np.dtype) -> np.dtype:
    """Float32 for narrower dtypes, so that a scale is not rounded to half precision."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def widest(*arrays: jax.Array) -> np.dtype:
    """Float32, or the widest dtype of some arrays; JAX refuses to promote float8, and others if strict."""
    return max((widened(array.dtype) for array in arrays), key=lambda dtype: dtype.itemsize)


def _namespace(value: ArrayLike) -> Any:
    """NumPy for concrete values, `jax.numpy` for others."""
    return jnp if isinstance(value, jax.Array) else np
