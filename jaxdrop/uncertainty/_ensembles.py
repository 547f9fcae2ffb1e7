"""Samples and their targets, and the distances that the scores of samples share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _carries, _checks, _predictions
from jaxdrop._types import ArrayLike, PyTree


def check_ensemble(
    samples: ArrayLike,
    y: ArrayLike,
    where: ArrayLike | None,
    *,
    name: str = "samples",
    axes: str = "[T, ...]",
    features: int = 0,
) -> tuple[ArrayLike, ArrayLike, ArrayLike | None]:
    """Samples, targets of their shape without the first axis, and the mask of examples.

    Both are in their own dtype, and may hold anything where masked. The mask has the shape of the targets
    without their last `features` axes.
    """
    where = _predictions.check_mask(where, np.shape(y)[: max(np.ndim(y) - features, 0)])
    each = None if where is None else where[(..., *[None] * features)]
    y = _predictions.check_exact(y, "y", _predictions.check_mask(each, np.shape(y)))
    samples = _predictions.check_exact(samples, name, _predictions.check_mask(each, np.shape(samples)))
    if np.ndim(samples) < 1 + features:
        raise ValueError(f"`{name}` must be of shape {axes}, got {np.shape(samples)}.")
    if np.shape(y) != np.shape(samples)[1:]:
        expected = f"the shape of `{name}` without its first axis, {np.shape(samples)[1:]}"
        raise ValueError(f"`y` must have {expected}, got {np.shape(y)}.")
    return samples, y, where


def check_shape_of(array: ArrayLike, like: ArrayLike, name: str, of: str) -> None:
    """Raises unless an array that is not cast yet has the shape of another."""
    if np.shape(array) != np.shape(like):
        raise ValueError(f"`{name}` must have the shape of `{of}`, {np.shape(like)}, got {np.shape(array)}.")


def check_spreads(stddevs: ArrayLike, shape: tuple[int, ...], where: ArrayLike | None) -> jax.Array:
    """Finite standard deviations that broadcast to samples of a shape; 1 where masked."""
    mask = _predictions.check_mask(where, shape)
    array = _predictions.check_values(masked_as(stddevs, mask, shape, "stddevs"), "stddevs", mask)
    array = _checks.check_broadcastable(_predictions.filled(array, mask, 1), shape, "stddevs")
    return _predictions.check_finite(array, "stddevs")


def masked_as(stddev: ArrayLike, where: ArrayLike | None, shape: tuple[int, ...], name: str) -> ArrayLike:
    """Standard deviations of the shape of their mask, if there is one; a row of them may be masked."""
    if where is None:
        return stddev
    given = _checks.check_broadcastable(_predictions.exact(stddev), shape, name)
    host = isinstance(given, np.ndarray | np.generic)
    return np.broadcast_to(given, shape) if host else jnp.broadcast_to(given, shape)


def check_normal(
    mean: ArrayLike, stddev: ArrayLike, y: ArrayLike, where: ArrayLike | None, name: str = "stddev"
) -> tuple[jax.Array, jax.Array, ArrayLike | None]:
    """Targets minus means, spreads that broadcast to them, and the mask; 0 and 1 where masked."""
    where = _predictions.check_mask(where, np.shape(y))
    y = _predictions.check_exact(y, "y", where)
    mean = _predictions.check_exact(mean, "mean", where if np.shape(mean) == y.shape else None)
    check_shape_of(mean, y, "mean", "y")
    off = _predictions.filled(_predictions.shifted(y, mean), where, 0)
    spread = _predictions.check_values(masked_as(stddev, where, off.shape, name), name, where)
    spread = _checks.check_broadcastable(_predictions.filled(spread, where, 1), off.shape, name)
    return off, spread, where


def check_fair(fair: bool, count: int) -> None:
    """Raises unless a fair score is possible."""
    if not isinstance(fair, bool):
        raise TypeError(f"`fair` must be a bool, got {fair!r}.")
    if fair and count < 2:
        raise ValueError(f"`samples` must hold at least 2 samples for `fair=True`, got {count}.")


def shifted(x: ArrayLike, by: ArrayLike, where: ArrayLike | None, features: int = 0) -> jax.Array:
    """The samples minus what has their shape without the first axis; 0 where masked."""
    off = _predictions.shifted(x, by[None])
    return off if where is None else masked(off, where, 0, features)


def masked(x: jax.Array, where: ArrayLike, value: float, features: int = 0) -> jax.Array:
    """Samples with a value at the examples that the mask leaves out."""
    mask = jnp.asarray(where)[(None, ..., *[None] * features)]
    return jnp.where(mask, x, jnp.asarray(value, x.dtype))


def scale_of(*arrays: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The size of arrays along some axes, which are kept, rounded to a power of two; 1 where it is 0.

    Divided by it, no square overflows, and those that underflow do not count. It has no gradient.
    """
    sizes = [jnp.max(jnp.abs(jax.lax.stop_gradient(array)), axis=axes, keepdims=True) for array in arrays]
    largest = sizes[0] if len(sizes) == 1 else jnp.maximum(*sizes)
    largest = jnp.where(largest < jnp.finfo(largest.dtype).tiny, 1, largest)
    return largest / (2 * jnp.frexp(largest)[0])


def safe_sqrt(x: jax.Array) -> jax.Array:
    """The square root, with gradient 0 at 0."""
    return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))


@jax.jit
def mean_absolute(off: jax.Array, stddev: jax.Array) -> jax.Array:
    """The mean absolute value of normal variables of these means and standard deviations."""
    # Beyond 20 standard deviations all the mass is on one side, and the division needs no gradient.
    far = jnp.abs(off) > 20 * stddev
    z = jnp.where(far, 20 * jnp.sign(off), off / jnp.where(far | (stddev == 0), 1, stddev))
    return off * jax.lax.erf(z / 2**0.5) + 2 * stddev * jax.scipy.stats.norm.pdf(z)


@jax.jit
def normal_cdf(off: jax.Array, stddev: jax.Array) -> jax.Array:
    """The probability of a normal value up to `off` above its mean; without a spread, half at the mean."""
    # Beyond 40 standard deviations it is 0 or 1 in float64 too, and the division needs no gradient.
    far = jnp.abs(off) > 40 * stddev
    z = jnp.where(far, 40 * jnp.sign(off), off / jnp.where(far | (stddev == 0), 1, stddev))
    return jax.scipy.special.ndtr(z)


def sum_over_pairs(distance: Callable[[PyTree, PyTree], jax.Array], arrays: PyTree) -> jax.Array:
    """The sum of a symmetric distance over all pairs of different indices of the first axis, each once.

    A step takes the distances to the indices that are k further on, so memory is that of the arrays, also
    for a gradient.
    """
    count = len(jax.tree.leaves(arrays)[0])
    twice = jax.tree.map(lambda array: jnp.concatenate([array, array]), arrays)

    @jax.checkpoint
    def step(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        others = jax.tree.map(lambda array: jax.lax.dynamic_slice_in_dim(array, k, count), twice)
        found = jnp.sum(distance(arrays, others), axis=0)
        # Half-way around an even number of indices each pair is met twice.
        return total + jnp.where(2 * k == count, found / 2, found), None

    kind = jax.eval_shape(distance, arrays, arrays)
    zero = jnp.zeros(kind.shape[1:], kind.dtype)
    ks = jnp.arange(1, count // 2 + 1, dtype=jnp.int32)
    zero = _carries.varying(lambda total: step(total, jnp.ones((), jnp.int32))[0], zero)
    return jax.lax.scan(step, zero, ks)[0]
