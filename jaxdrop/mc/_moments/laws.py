"""Moments of a function of one number with a known law."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop.mc._moments import forms
from jaxdrop.mc._moments.forms import Affine, Constant, Form, Ramp

# Points and their distance, in standard deviations, of a sum over a smooth function, and over one with a
# kink. For functions such as tanh, 15 points in equal distances are as exact as 20 of Gauss and Hermite.
_SMOOTH_POINTS = (15, 0.7)
_KINKED_POINTS = (81, 0.125)
_UNIFORM_POINTS = 64
# A variance below this share of the squared mean is that of a known number.
_LEAST = 1e-12


class Moments(NamedTuple):
    """Mean, mean square and mean slope (`Cov(h, u) / Var(u)`) of a function h of a number u."""

    mean: jax.Array
    square: jax.Array
    slope: jax.Array


def moments(form: Form, mean: jax.Array, variance: jax.Array, law: str) -> Moments:
    """The moments of a form of a number of this mean, variance and law ("normal" or "uniform")."""
    match form:
        case Constant(value):
            value = jnp.asarray(value, jnp.float32)
            return Moments(value, value**2, jnp.zeros_like(value))
        case Affine(slope, offset):
            value = slope * mean + offset
            return Moments(value, value**2 + slope**2 * variance, slope + jnp.zeros_like(mean))
    if law == "uniform":
        return _of_uniform(form, mean)
    live = variance > _LEAST * (1 + mean**2)
    deviation = jnp.sqrt(jnp.where(live, variance, 1))
    spread = _of_ramp(form, mean, deviation) if isinstance(form, Ramp) else _summed(form, mean, deviation)
    # Where there is no variance, or a point is outside of the function's domain.
    there = at_mean(form, mean)
    good = live & jnp.isfinite(spread.mean) & jnp.isfinite(spread.square)
    return Moments(*(jnp.where(good, some, none) for some, none in zip(spread, there, strict=True)))


def at_mean(form: Form, mean: jax.Array) -> Moments:
    """The moments of a number without variance."""

    def fun(u: jax.Array) -> jax.Array:
        return forms.evaluate(form, u).astype(jnp.float32)

    value, slope = jax.jvp(fun, (mean,), (jnp.ones_like(mean),))
    return Moments(value, value**2, slope)


def _of_ramp(form: Ramp, mean: jax.Array, deviation: jax.Array) -> Moments:
    """In closed form."""
    slope, start, offset = form
    above = mean - start
    standard = above / deviation
    share, density = normal_cdf(standard), normal_density(standard)
    first = above * share + deviation * density
    second = (above**2 + deviation**2) * share + above * deviation * density
    shift = slope * start + offset
    value = slope * first + shift
    return Moments(value, slope**2 * second + 2 * slope * first * shift + shift**2, slope * share)


def _summed(form: Form, mean: jax.Array, deviation: jax.Array) -> Moments:
    """By sums over points."""
    points, weights = _KINKED if forms.is_kinked(form) else _SMOOTH
    sums = _sums(form, lambda point: mean + deviation * point, mean, points, weights)
    return Moments(sums.mean, jnp.maximum(sums.square, sums.mean**2), sums.slope / deviation)


def _of_uniform(form: Form, like: jax.Array) -> Moments:
    """Of a number that is uniform on (0, 1), for an array of the shape of `like`."""
    sums = _sums(form, lambda point: jnp.full_like(like, point), like, *_UNIFORM)
    return Moments(sums.mean, jnp.maximum(sums.square, sums.mean**2), 12 * (sums.slope - sums.mean / 2))


def _sums(
    form: Form, at: Callable[[jax.Array], jax.Array], like: jax.Array, points: np.ndarray, weights: np.ndarray
) -> Moments:
    """Weighted sums of the values, of their squares, and of their products with the points."""

    def add(sums: Moments, one: tuple[jax.Array, jax.Array]) -> tuple[Moments, None]:
        point, weight = one
        # Otherwise XLA would compute the function anew for each sum.
        value = jax.lax.optimization_barrier(forms.evaluate(form, at(point)).astype(jnp.float32))
        part = weight * value
        return Moments(sums.mean + part, sums.square + part * value, sums.slope + point * part), None

    zero = jnp.zeros_like(like)
    return jax.lax.scan(add, Moments(zero, zero, zero), (jnp.asarray(points), jnp.asarray(weights)))[0]


def normal_cdf(x: jax.Array) -> jax.Array:
    """The standard normal distribution function, with errors of 1e-7.

    `jax.scipy.stats.norm.cdf` also has the digits of tiny probabilities, takes several times as long to
    compute, and longer to compile.
    """
    return 0.5 + 0.5 * jax.lax.erf(x * np.float32(0.5**0.5))


def normal_density(x: jax.Array) -> jax.Array:
    """The standard normal density."""
    return np.float32((2 * np.pi) ** -0.5) * jnp.exp(-0.5 * x**2)


def _even(count: int, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Points at equal distances, and weights: the trapezoidal rule."""
    points = (np.arange(count) - (count - 1) / 2) * distance
    weights = np.exp(-(points**2) / 2)
    return points.astype(np.float32), (weights / weights.sum()).astype(np.float32)


def _between(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points on (0, 1), and weights: dense at the ends, where logs and quantile functions are infinite."""
    t = (np.arange(count) + 0.5) / count
    points, weights = t**3 * (10 - 15 * t + 6 * t**2), (t * (1 - t)) ** 2
    return points.astype(np.float32), (weights / weights.sum()).astype(np.float32)


_SMOOTH, _KINKED = _even(*_SMOOTH_POINTS), _even(*_KINKED_POINTS)
_UNIFORM = _between(_UNIFORM_POINTS)
