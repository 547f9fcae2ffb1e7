"""Maxima of normal numbers by Clark's moments: of two arrays, and of the windows of a pooling layer.

Clark, "The greatest of a finite set of random variables", 1961.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from jaxdrop.mc._moments import forms
from jaxdrop.mc._moments.values import Random
from jaxdrop.mc._moments.walk import Walk

# Stands for minus infinity outside of the array: its square is finite.
_LOWEST = np.float32(-1e15)
_LEAST = 1e-12


class Part(NamedTuple):
    """Normal numbers: the mean path, the variances, and the part of those that is linear in the sources."""

    mean: jax.Array
    variance: jax.Array
    linear: jax.Array


def larger(walk: Walk, a: Random, b: Random) -> Random:
    """The larger of two arrays, elementwise."""
    return _source(walk, _clark(walk, _part(a), _part(b)), a.draws | b.draws)


def pooled(walk: Walk, eqn: jex.JaxprEqn, array: Random) -> Random:
    """`reduce_window_max`: the maximum of each window, one place after the other."""
    params, shape = eqn.params, forms.kind(eqn.outvars[0]).shape
    if array.law == "decision":
        return _any_in_window(walk, eqn, array)
    walk.note("reduce_window_max: Clark's moments, taken as uncorrelated")
    padding = [(low, high, 0) for low, high in params["padding"]]
    mean = jax.lax.pad(array.mean, _LOWEST, padding)
    variance = jax.lax.pad(array.variance, np.float32(0), padding)
    strides, found = params["window_strides"], None
    for start in itertools.product(*map(range, params["window_dimensions"])):
        stop = [at + (size - 1) * step + 1 for at, size, step in zip(start, shape, strides, strict=True)]
        cut = [jax.lax.slice(one, start, stop, strides) for one in (mean, variance)]
        part = Part(cut[0], cut[1], cut[1])
        found = part if found is None else _clark(walk, found, part)
    assert found is not None
    return _source(walk, found, array.draws)


def any_of(walk: Walk, array: Random, total: Callable[[jax.Array], jax.Array]) -> Random:
    """Whether any of some decisions is true; `total` sums over them.

    The chance that none is true is the product over them, and the slopes are those of that product.
    """
    if not array.independent:
        walk.note("any: decisions taken as independent")
    chance = jax.lax.stop_gradient(array.mean)
    other = jnp.maximum(1 - chance, _LEAST)
    none = jnp.exp(total(jnp.log(other)))
    path = 1 - none + none * total((array.mean - chance) / other)
    variance = none * (1 - none)
    rest = variance - none**2 * total(array.variance / other**2)
    walk.note("any: what is not linear taken as uncorrelated between elements")
    path = walk.inject(path, jnp.maximum(rest, 0), array.draws)
    return Random(path, walk.spread(variance), array.draws, "decision")


def _any_in_window(walk: Walk, eqn: jex.JaxprEqn, array: Random) -> Random:
    params = eqn.params
    window, strides, padding = (
        params[f"{name}"] for name in ("window_dimensions", "window_strides", "padding")
    )
    dilations = params["base_dilation"], params["window_dilation"]

    def total(values: jax.Array) -> jax.Array:
        return jax.lax.reduce_window(values, np.float32(0), jax.lax.add, window, strides, padding, *dilations)

    return any_of(walk, array, total)


def _part(array: Random) -> Part:
    return Part(array.mean, array.variance, array.variance)


def _source(walk: Walk, part: Part, draws: frozenset[int]) -> Random:
    mean = walk.inject(part.mean, jnp.maximum(part.variance - part.linear, 0), draws)
    return Random(mean, walk.spread(part.variance), draws)


def _clark(walk: Walk, a: Part, b: Part) -> Part:
    first, second = jax.lax.stop_gradient((a.mean, b.mean))
    if not walk.smooth:
        higher = first >= second
        return Part(jnp.where(higher, a.mean, b.mean), jnp.zeros_like(first), jnp.zeros_like(first))
    total = a.variance + b.variance
    live = total > _LEAST
    deviation = jnp.sqrt(jnp.where(live, total, 1))
    standard = jnp.where(live, (first - second) / deviation, jnp.where(first >= second, 30.0, -30.0))
    share, other, density = norm.cdf(standard), norm.cdf(-standard), norm.pdf(standard)
    tail = jnp.where(live & (density > 0), deviation * density, 0)
    value = first * share + second * other + tail
    square = (first**2 + a.variance) * share + (second**2 + b.variance) * other + (first + second) * tail
    path = value + share * (a.mean - first) + other * (b.mean - second)
    linear = share**2 * a.linear + other**2 * b.linear
    return Part(path, jax.lax.stop_gradient(jnp.maximum(square - value**2, 0)), linear)
