"""Mixtures of normal distributions, as Monte-Carlo samples of a mean and a variance predict.

The T components have equal weights. Their means `[T, ...]` have the axis of samples first.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _carries, _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty import _ensembles

__all__ = ["crps_gaussian_mixture", "gaussian_mixture_quantile", "pit_gaussian_mixture"]

# Terms of the logarithm's asymptotic series: exact to rounding from where it is used, z = -10 in float32
# and -20 in float64.
_ORDER = 10
# The largest number of deviations, whose square does not overflow.
_FAR = 1e15


def crps_gaussian_mixture(
    means: ArrayLike, stddevs: ArrayLike, y: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """CRPS, the continuous ranked probability score of a mixture of normal distributions, in closed form.

    It takes time T^2, and memory that is linear in T.

    Args:
      means: Means of the components, `[T, ...]`, with the axis of samples first.
      stddevs: Standard deviations, at least 0, of the shape of `means` or one that broadcasts to it. Where
        all are 0 the score is that of samples, `crps`.
      y: Targets, `[...]`.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of shape `[...]`, one value of at least 0 per target, but for rounding; in float32 at least.
      NaN where masked, so average with `jnp.mean(..., where=where)`.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are non-finite or
        deviations negative.

    References:
      Grimit et al., "The continuous ranked probability score for circular variables and its application
      to mesoscale forecast ensemble verification", 2006.

    Examples:
      >>> crps_gaussian_mixture(jnp.array([[0.0], [2.0]]), jnp.array(0.5), jnp.array([1.0])).round(3)
      Array([0.367], dtype=float32)
    """
    off, stddevs, where = _check(means, stddevs, y, where)
    score = _meshes.on_automatic_axes(_crps, off, stddevs, out=_examples(off))
    return _predictions.filled(score, where, jnp.nan)


def pit_gaussian_mixture(
    means: ArrayLike, stddevs: ArrayLike, y: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """PIT of a mixture of normal distributions: the probability of a value up to the target.

    It is uniform on [0, 1] if the predictions are right.

    Args:
      means: Means of the components, `[T, ...]`, with the axis of samples first.
      stddevs: Standard deviations, at least 0, of the shape of `means` or one that broadcasts to it. A
        component without a spread counts half where its mean is the target.
      y: Targets, `[...]`.
      where: Boolean mask that broadcasts to `y`. Targets that it leaves out may hold anything. None: all.

    Returns:
      Array of shape `[...]`, one value in [0, 1] per target; in float32 at least. NaN where masked.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are non-finite or
        deviations negative.

    References:
      Dawid, "Statistical theory: the prequential approach", 1984; Gneiting, Balabdaoui and Raftery,
      "Probabilistic forecasts, calibration and sharpness", 2007.

    Examples:
      >>> pit_gaussian_mixture(jnp.array([[0.0], [2.0]]), jnp.array(0.5), jnp.array([1.0]))
      Array([0.5], dtype=float32)
    """
    off, stddevs, where = _check(means, stddevs, y, where)
    return _predictions.filled(jnp.mean(_ensembles.normal_cdf(-off, stddevs), axis=0), where, jnp.nan)


def gaussian_mixture_quantile(
    means: ArrayLike, stddevs: ArrayLike, level: Numeric, *, where: ArrayLike | None = None
) -> jax.Array:
    """Quantiles of a mixture of normal distributions, to the rounding of the dtype.

    They are found by bisection of the logarithm of the smaller tail, which no tail is too small for.

    Args:
      means: Means of the components, `[T, ...]`, with the axis of samples first.
      stddevs: Standard deviations, above 0, of the shape of `means` or one that broadcasts to it. (Without
        a spread, use `jnp.quantile` of the means.)
      level: The level of the quantiles, in (0, 1): a scalar, or an array `[Q]`; may be traced. That of
        concrete float64 is not rounded, which matters near 0 and 1.
      where: Boolean mask that broadcasts to the examples, `[...]`. Those that it leaves out may hold
        anything. None: all.

    Returns:
      Array of shape `[...]`, or `[Q, ...]` if `level` has an axis; in float32 at least. NaN where masked,
      and where traced deviations are not above 0. It has a gradient in all three arguments; 0 where
      deviations are far below the rounding of the quantile.

    Raises:
      TypeError: If an argument is not real, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete values are non-finite,
        deviations not above 0, or levels outside (0, 1).

    Examples:
      >>> gaussian_mixture_quantile(jnp.array([0.0, 2.0]), jnp.array(0.5), jnp.array([0.1, 0.5])).round(2)
      Array([-0.42,  1.  ], dtype=float32)
    """
    where = _predictions.check_mask(where, np.shape(means)[1:])
    each = None if where is None else _predictions.check_mask(where, np.shape(means))
    means = _predictions.filled(_predictions.check_values(means, "means", each), each, 0)
    _predictions.check_finite(_checks.check_rank(means, 1, "[T, ...]", "means"), "means")
    stddevs = _ensembles.check_spreads(stddevs, means.shape, where)
    _predictions.check_positive(stddevs, "stddevs")
    level = _predictions.check_level(_predictions.exact(level))
    _predictions.check_not_empty(np.shape(level), "level")
    if np.ndim(level) > 1:
        raise ValueError(f"`level` must be a scalar or have one axis, got shape {np.shape(level)}.")
    above, tail = (jnp.asarray(value) for value in _tails(level))
    solve = _quantiles if above.ndim else _quantile
    out = jax.sharding.PartitionSpec(*[None] * above.ndim, *_examples(means))
    stddevs = jnp.broadcast_to(stddevs, means.shape)
    found = _meshes.on_automatic_axes(solve, means, stddevs, above, tail.astype(means.dtype), out=out)
    each = None if where is None else _predictions.check_mask(where, found.shape)
    return _predictions.filled(found, each, jnp.nan)


def _check(
    means: ArrayLike, stddevs: ArrayLike, y: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, ArrayLike | None]:
    """Means minus targets, and standard deviations that broadcast to them."""
    means, y, where = _ensembles.check_ensemble(means, y, where, name="means")
    off = _predictions.check_finite(_ensembles.shifted(means, y, where), "means - y")
    stddevs = _ensembles.check_spreads(stddevs, off.shape, where)
    _checks.check_nonnegative(stddevs, "stddevs")
    return off, stddevs, where


def _examples(means: jax.Array) -> jax.sharding.PartitionSpec:
    """How the examples of `[T, ...]` are sharded."""
    return jax.sharding.PartitionSpec(*_meshes.partition(means)[1:])


@jax.jit
def _crps(off: jax.Array, stddevs: jax.Array) -> jax.Array:
    stddevs = jnp.broadcast_to(stddevs, off.shape)
    scale = _ensembles.scale_of(off, stddevs, axes=(0,))
    off, stddevs = off / scale, stddevs / scale

    def distance(one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]) -> jax.Array:
        stddev = _ensembles.safe_sqrt(one[1] ** 2 + other[1] ** 2)
        return _ensembles.mean_absolute(one[0] - other[0], stddev)

    # Of each component with itself: the mean distance of two values is 2 / sqrt(pi) deviations.
    own = jnp.sum(stddevs, axis=0) * np.pi**-0.5
    spread = (_ensembles.sum_over_pairs(distance, (off, stddevs)) + own) / len(off) ** 2
    return (jnp.mean(_ensembles.mean_absolute(off, stddevs), axis=0) - spread) * scale[0]


def _tails(level: Numeric) -> tuple[ArrayLike, ArrayLike]:
    """Whether the upper tail is the smaller one, and the logarithm of the smaller; in float64 if concrete."""
    if _predictions.is_visible(level):
        level = np.asarray(level, np.float64)
        return level > 0.5, np.log(np.minimum(level, 1 - level))
    level = _predictions.widened(jnp.asarray(level))
    return level > 0.5, jnp.log(jnp.where(level > 0.5, 1 - level, level))


@jax.jit
def _quantile(means: jax.Array, stddevs: jax.Array, above: jax.Array, log_tail: jax.Array) -> jax.Array:
    """The quantile of one level."""
    # The upper tail is the lower one of the mirrored distribution.
    means = jnp.where(above, -means, means)

    def log_cdf(q: jax.Array, means: jax.Array, stddevs: jax.Array) -> jax.Array:
        z = jnp.clip((q[None] - means) / stddevs, -_FAR, _FAR)
        logs = jax.scipy.special.log_ndtr(z, series_order=_ORDER)
        return jax.nn.logsumexp(logs, axis=0) - np.log(len(means)).astype(logs.dtype)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without an overflow
        below = log_cdf(_float(middle), *fixed) < log_tail
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    fixed = jax.lax.stop_gradient((means, stddevs))
    # A normal tail beyond t deviations is at most exp(-t^2 / 2) / 2.
    beyond = jnp.sqrt(-2 * jnp.minimum(jax.lax.stop_gradient(log_tail) + float(np.log(2)), 0))
    ends = jnp.min(fixed[0] - beyond * fixed[1], axis=0), jnp.max(fixed[0], axis=0)
    # Bisection of the floats in their order takes one step per bit, wherever the root is.
    ends = _carries.varying(lambda ends: halve(0, ends), tuple(_order(end) for end in ends))
    _, high = jax.lax.fori_loop(0, 8 * means.dtype.itemsize, halve, ends)
    q = _float(high)
    # One step of Newton's method whose value is 0 has the gradient of the implicit function.
    _, slope = jax.jvp(lambda q: log_cdf(q, *fixed), (q,), (jnp.ones_like(q),))
    rest = log_tail - log_cdf(q, means, stddevs)
    # Where the next float is so many deviations off that the density underflows, only the value is known.
    step = (rest - jax.lax.stop_gradient(rest)) / jnp.where(slope == 0, 1, slope)
    q = q + jnp.where(slope == 0, 0, step)
    valid = jnp.all(fixed[1] > 0, axis=0)
    return jnp.where(valid, jnp.where(above, -q, q), jnp.nan)


_quantiles = jax.jit(jax.vmap(_quantile, in_axes=(None, None, 0, 0)))


def _order(x: jax.Array) -> jax.Array:
    """Integers in the order of the floats."""
    kind = jnp.int64 if x.dtype.itemsize == 8 else jnp.int32
    bits = jax.lax.bitcast_convert_type(x, kind)
    return jnp.where(bits < 0, bits ^ jnp.iinfo(kind).max, bits)


def _float(order: jax.Array) -> jax.Array:
    """The floats of integers in their order."""
    bits = jnp.where(order < 0, order ^ jnp.iinfo(order.dtype).max, order)
    return jax.lax.bitcast_convert_type(bits, jnp.float64 if order.dtype.itemsize == 8 else jnp.float32)
