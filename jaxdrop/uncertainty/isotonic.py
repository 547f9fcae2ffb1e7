"""Isotonic regression, and calibration by it, fitted on held-out examples."""

import functools
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _carries, _meshes, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.uncertainty._unchecked import interpolated

__all__ = ["Isotonic", "fit_isotonic", "isotonic_regression"]


class Isotonic(NamedTuple):
    """A non-decreasing function per class; a call returns probabilities.

    Attributes:
      thresholds: The fitted probabilities in ascending order, `[K, N]`.
      values: The function there, `[K, N]`; linear between them and constant beyond.
    """

    thresholds: jax.Array
    values: jax.Array

    def __call__(self, probs: ArrayLike) -> jax.Array:
        """Calibrated probabilities of probabilities `[..., K]`; uniform where every class is mapped to 0."""
        probs = _predictions.check_probabilities(probs, "[..., K]")
        if probs.shape[-1] != len(self.values):
            raise ValueError(
                f"`probs` must have the {len(self.values)} classes of the fit, got {probs.shape[-1]}."
            )
        of_class = jax.vmap(interpolated, in_axes=(-1, 0, 0), out_axes=-1)
        out = _meshes.partition(probs)
        mapped = _meshes.on_automatic_axes(of_class, probs, self.thresholds, self.values, out=out)
        total = jnp.sum(mapped, axis=-1, keepdims=True)
        # Not `total > 0`, so that a NaN stays one.
        return jnp.where(total == 0, 1 / probs.shape[-1], mapped / jnp.where(total == 0, 1, total))


def fit_isotonic(probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> Isotonic:
    """Isotonic calibration: one-against-rest isotonic regression per class, normalized to sum to 1.

    Before they are normalized, it keeps the order of each class's probabilities; so it keeps the order
    of two classes, but not always of three or more. It can give exactly 0 or 1, where the NLL of a new
    example may be infinite. It needs about a thousand examples per class.

    Args:
      probs: Probabilities, `[N, K]`; further leading axes are examples, too.
      labels: Integers in [0, K), `[N]`.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.

    Returns:
      An `Isotonic`. It is NaN if a traced label is out of range, or if no example is selected.
      Probabilities that float32 cannot tell apart are equal, as they are to a call.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers, or `where` is not boolean.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    References:
      Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
      estimates", 2002.

    Examples:
      >>> fitted = fit_isotonic(jnp.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]]), jnp.array([0, 1, 0]))
      >>> fitted(jnp.array([0.65, 0.35]))
      Array([0.5, 0.5], dtype=float32)
    """
    probs, labels, where = _predictions.check_examples(probs, labels, where)
    classes = probs.shape[-1]
    labels = labels.reshape(1, -1)
    hits = (labels == jnp.arange(classes, dtype=labels.dtype)[:, None]).astype(probs.dtype)
    hits = jnp.where((labels >= 0) & (labels < classes), hits, jnp.nan)
    x = probs.reshape(-1, classes).T
    mask = None if where is None else jnp.broadcast_to(jnp.asarray(where).reshape(1, -1), x.shape)
    order, x, weight, new = _sorted(x, mask, probs.dtype)

    def fit(hits: jax.Array, order: ArrayLike, weight: ArrayLike, new: ArrayLike) -> jax.Array:
        return jax.vmap(_compiled)(jnp.take_along_axis(hits, order, -1), weight, new)

    if not _is_for_scipy(hits, weight, new):
        return Isotonic(jnp.asarray(x), _meshes.on_automatic_axes(fit, hits, order, weight, new))
    of_classes = np.take_along_axis(np.asarray(hits), np.asarray(order), -1)
    values = [_by_scipy(*of_class) for of_class in zip(of_classes, weight, new, strict=True)]
    return Isotonic(jnp.asarray(x), _placed(np.stack(values), hits))


def isotonic_regression(x: ArrayLike, y: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Isotonic regression: the least-squares fit to `y` that does not decrease with `x`.

    Pool adjacent violators, in linear time after a sort. Concrete points are fitted by SciPy. Traced
    ones are fitted by a sequential loop that is about ten times slower on a CPU, and more on a GPU; sorted
    targets need no loop.

    Args:
      x: Positions, `[N]`; equal positions get the same value. Only their order counts: that of concrete
        float64 numbers is found before they are cast.
      y: Targets, `[N]`.
      where: Boolean mask of the points to fit to, which broadcasts to `x`. Others may hold anything.
        None: all.

    Returns:
      Array of shape `[N]`, in the order of `x`, NaN where masked; in float32 at least. NaN if a traced
      value is NaN. Its gradient in `y` is the gradient of the mean within each pool.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      Ayer et al., "An empirical distribution function for sampling with incomplete information",
      1955.

    Examples:
      >>> isotonic_regression(jnp.array([3.0, 1.0, 2.0]), jnp.array([4.0, 2.0, 0.0]))
      Array([4., 1., 1.], dtype=float32)
    """
    where = _predictions.check_mask(where, np.shape(x))
    x = _predictions.check_vector(x, "x", where)
    y = _predictions.widened(_predictions.check_vector(y, "y", where))
    if y.shape != x.shape:
        raise ValueError(f"`y` must have the shape of `x`, {x.shape}, got {y.shape}.")
    y = _predictions.filled(y, where, 0)
    order, _, weight, new = _sorted(x, where, y.dtype)

    def fit(y: jax.Array, order: ArrayLike, weight: ArrayLike, new: ArrayLike) -> jax.Array:
        fitted = _compiled(y[order], weight, new)
        return jnp.zeros_like(fitted).at[order].set(fitted)

    if _is_for_scipy(y, weight, new):
        values = np.empty(y.shape, y.dtype)
        values[order] = _by_scipy(np.asarray(y)[order], weight, new)
        found = _placed(values, y)
    else:
        found = _meshes.on_automatic_axes(fit, y, order, weight, new)
    return _predictions.filled(found, where, jnp.nan)


def _sorted(
    x: ArrayLike, where: ArrayLike | None, dtype: np.dtype
) -> tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]:
    """The order along the last axis, `x` and the weights in it, and where `x` rises.

    Points that are masked have weight 0 and the largest `x` of the others, so each has a neighbor to
    take its value from. Concrete values are sorted by NumPy: in float64, and faster than by XLA.
    """
    if _predictions.is_visible(x) and (where is None or _predictions.is_visible(where)):
        return _sorted_by(np, np.asarray(x), where, dtype)
    sort = functools.partial(_sorted_by, jnp, dtype=dtype)
    return _meshes.on_automatic_axes(sort, _predictions.ranked(x)[0], where)


def _sorted_by(
    xp: ModuleType, x: ArrayLike, where: ArrayLike | None, dtype: np.dtype
) -> tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]:
    weight = xp.ones(x.shape, dtype)
    if where is not None:
        x = xp.where(where, x, xp.zeros_like(x))
        x = xp.where(where, x, xp.where(where, x, x.min(-1, keepdims=True)).max(-1, keepdims=True))
        weight = xp.asarray(where).astype(dtype)
    if xp is jnp and jnp.issubdtype(x.dtype, jnp.floating):
        weight = jnp.where(jnp.isnan(x).any(-1, keepdims=True), jnp.nan, weight)  # so that all of it is NaN
    order = xp.argsort(x, -1)
    x, weight = map(functools.partial(xp.take_along_axis, indices=order, axis=-1), (x, weight))
    new = xp.concatenate([xp.zeros_like(x[..., :1], bool), x[..., :-1] < x[..., 1:]], -1)
    return order.astype(np.int32), x, weight, new


def _is_for_scipy(y: jax.Array, weight: ArrayLike, new: ArrayLike) -> bool:
    """Whether sorted points are concrete and finite."""
    return all(map(_predictions.is_visible, (y, weight, new))) and bool(np.isfinite(y).all())


def _placed(found: np.ndarray, like: jax.Array) -> jax.Array:
    """An array of the host as an array of JAX, whole on each device of an explicit mesh."""
    mesh = getattr(like.sharding, "mesh", None)
    if mesh is None or not mesh.explicit_axes:
        return jnp.asarray(found)
    return jax.device_put(found, jax.sharding.NamedSharding(mesh, _meshes.WHOLE))


def _by_scipy(y: np.ndarray, weight: ArrayLike, new: ArrayLike) -> np.ndarray:
    from scipy.optimize import isotonic_regression as fit  # takes long to import

    weight, new = np.asarray(weight), np.asarray(new)
    first = np.append(0, np.flatnonzero(new))
    weight = weight.astype(np.float64)
    size = np.add.reduceat(weight, first)
    if not size.all():  # none is selected
        return np.full_like(y, np.nan)
    values = fit(np.add.reduceat(y * weight, first) / size, weights=size).x
    return np.repeat(values.astype(y.dtype), np.diff(first, append=len(y)))


@jax.jit
def _compiled(y: jax.Array, weight: jax.Array, new: jax.Array) -> jax.Array:
    fixed = jax.lax.stop_gradient(y)

    def means(starts: jax.Array, y: jax.Array) -> jax.Array:
        pool = jnp.cumsum(starts)
        size = jnp.zeros_like(y).at[pool].add(weight)

        def mean(values: jax.Array) -> jax.Array:
            return (jnp.zeros_like(y).at[pool].add(values * weight) / jnp.where(size > 0, size, 1))[pool]

        # A sum of millions loses digits; the sum of the residuals does not.
        rough = mean(y)
        return rough + jnp.where(jnp.isfinite(rough), mean(y - rough), 0)

    def falls(starts: jax.Array) -> jax.Array:
        values = means(starts, fixed)
        return jnp.append(False, values[:-1] > values[1:])

    def pool(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        starts = state[0] & ~state[1]
        return starts, falls(starts)

    # The loop leaves only what its rounding hid, and infinities.
    starts = new & _starts(means(new, fixed), jnp.sum(weight > 0, dtype=jnp.int32))
    starts, _ = jax.lax.while_loop(lambda state: state[1].any(), pool, (starts, falls(starts)))
    known = (weight > 0).any() & ~jnp.isnan(y).any()
    return jnp.where(known, means(starts, y), jnp.nan)


class _Stack(NamedTuple):
    """The pools of the first points: a stack whose means do not fall.

    Attributes:
      taken: The number of points taken.
      top: The index of the last pool.
      total: The sum of each pool, `[N]`.
      size: The number of points of each pool, `[N]`.
    """

    taken: jax.Array
    top: jax.Array
    total: jax.Array
    size: jax.Array


# Batched, each step would copy the stacks instead of changing one number.
@jax.custom_batching.sequential_vmap
def _starts(y: jax.Array, count: jax.Array) -> jax.Array:
    """Whether each of the first `count` points starts a pool: a step pools the last two, or takes a point."""
    # Sums lose fewest digits around 0.
    center = jnp.mean(y)
    y = jnp.where(jnp.isfinite(center), y - center, y)

    def step(_: int, stack: _Stack) -> _Stack:
        taken, top, total, size = stack
        last, before = total[top], total[top - 1]
        # XLA works in place as long as it computes these quotients once; a product it would repeat.
        falls = (top > 0) & (before / size[top - 1].astype(y.dtype) > last / size[top].astype(y.dtype))
        takes = ~falls & (taken < count)
        at = jnp.where(falls, top - 1, jnp.where(takes, top + 1, top))
        value = jnp.where(falls, last + before, jnp.where(takes, y[jnp.minimum(taken, len(y) - 1)], last))
        points = jnp.where(falls, size[top] + size[top - 1], jnp.where(takes, 1, size[top]))
        return _Stack(taken + takes.astype(jnp.int32), at, total.at[at].set(value), size.at[at].set(points))

    zero = jnp.zeros((), jnp.int32)
    stack = _Stack(zero + 1, zero, jnp.zeros_like(y).at[0].set(y[0]), jnp.ones(len(y), jnp.int32))
    stack = _carries.varying(lambda stack: step(0, stack), stack)
    # Points that do not fall are pools already.
    falls = ((y[1:] < y[:-1]) & (jnp.arange(1, len(y), dtype=jnp.int32) < count)).any()
    stack = jax.lax.fori_loop(0, jnp.where(falls, 2 * (count - 1), 0), step, stack)
    first = jnp.cumsum(stack.size, dtype=jnp.int32) - stack.size
    first = jnp.where(jnp.arange(len(y), dtype=jnp.int32) <= stack.top, first, len(y))
    return ~falls | jnp.zeros(len(y), bool).at[first].set(True, mode="drop")
