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

from jaxdrop.mc._moments import forms, laws
from jaxdrop.mc._moments.values import Random
from jaxdrop.mc._moments.walk import Walk

# Stands for minus infinity outside of the array: its square is finite.
_LOWEST = np.float32(-1e15)
_LEAST = 1e-12
# Beyond so many standard deviations, the larger one is certain.
_CERTAIN = np.float32(30)


# Means and variances.
Carry = tuple[jax.Array, jax.Array]


class Maximum(NamedTuple):
    """The maximum of several numbers.

    Attributes:
      mean: Its mean.
      variance: Its variance.
      slopes: The probability of each number to be the largest, along the first axis. These are the
        slopes of the best linear predictor.
    """

    mean: jax.Array
    variance: jax.Array
    slopes: jax.Array


def larger(walk: Walk, a: Random, b: Random) -> Random:
    """The larger of two arrays, elementwise."""
    if not walk.smooth:
        return _at_mean(jnp.maximum(a.mean, b.mean), a.draws | b.draws)
    paths, variances = jnp.stack([a.mean, b.mean]), jnp.stack([a.variance, b.variance])
    return _source(walk, paths, variances, a.draws | b.draws)


def pooled(walk: Walk, eqn: jex.JaxprEqn, array: Random) -> Random:
    """`reduce_window_max`: the maximum of each window."""
    if array.law == "decision":
        return _any_in_window(walk, eqn, array)
    if not walk.smooth:
        return _at_mean(forms.bind(eqn, [array.mean])[0], array.draws)
    walk.note("reduce_window_max: Clark's moments, taken as uncorrelated")
    windows = _tiles if _is_tiled(eqn) else _slices
    paths, variances = windows(eqn, array.mean, _LOWEST), windows(eqn, array.variance, np.float32(0))
    return _source(walk, paths, variances, array.draws)


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


def _at_mean(mean: jax.Array, draws: frozenset[int]) -> Random:
    return Random(mean, jnp.zeros_like(mean), draws)


def _source(walk: Walk, paths: jax.Array, variances: jax.Array, draws: frozenset[int]) -> Random:
    """The maximum along the first axis; what is not linear in the numbers is a source."""
    means = jax.lax.stop_gradient(paths)
    found = jax.lax.stop_gradient(_greatest(means, variances))
    rest = found.variance - jnp.sum(found.slopes**2 * variances, 0)
    path = found.mean + jnp.sum(found.slopes * (paths - means), 0)
    return Random(walk.inject(path, jnp.maximum(rest, 0), draws), walk.spread(found.variance), draws)


def _greatest(means: jax.Array, variances: jax.Array) -> Maximum:
    """The maximum along the first axis of uncorrelated numbers: of two, of that and the next, and so on.

    A loop takes a third of the compile time. In pairs of pairs, standard deviations would be further off.
    """

    def step(largest: Carry, one: Carry) -> tuple[Carry, jax.Array]:
        found = _clark(*largest, *one)
        return (found.mean, found.variance), found.slopes

    (mean, variance), shares = jax.lax.scan(step, (means[0], variances[0]), (means[1:], variances[1:]))
    # Each number must win against those before, and what is won against those after.
    after = jax.lax.cumprod(shares, reverse=True)
    one = jnp.ones_like(mean)[None]
    slopes = jnp.concatenate([one, 1 - shares]) * jnp.concatenate([after, one])
    return Maximum(mean, variance, slopes)


def _clark(first: jax.Array, v1: jax.Array, second: jax.Array, v2: jax.Array) -> Maximum:
    """The larger of two normal numbers; the slope is that of the first."""
    gap = first - second
    live = v1 + v2 > _LEAST
    deviation = jnp.sqrt(jnp.where(live, v1 + v2, 1))
    certain = jnp.where(gap >= 0, _CERTAIN, -_CERTAIN)
    standard = jnp.where(live, jnp.clip(gap / deviation, -_CERTAIN, _CERTAIN), certain)
    share = laws.normal_cdf(standard)
    tail = jnp.where(live, deviation * laws.normal_density(standard), 0)
    mean = jnp.where(share < 1, second + share * gap + tail, first)
    # Squares of distances from the mean lose fewer digits than those from zero.
    above, below = first - mean, second - mean
    spread = share * (v1 + above**2) + (1 - share) * (v2 + below**2) + (above + below) * tail
    return Maximum(mean, jnp.maximum(spread, 0), share)


def _is_tiled(eqn: jex.JaxprEqn) -> bool:
    """Whether the windows tile the array."""
    params, size = eqn.params, forms.kind(eqn.invars[0]).shape
    window = params["window_dimensions"]
    return (
        tuple(window) == tuple(params["window_strides"])
        and not any(map(any, params["padding"]))
        and set(params["base_dilation"]) == set(params["window_dilation"]) == {1}
        and not any(n % width for n, width in zip(size, window, strict=True))
    )


def _tiles(eqn: jex.JaxprEqn, array: jax.Array, fill: np.float32) -> jax.Array:
    """The windows of an array that they tile, along a new first axis."""
    window = eqn.params["window_dimensions"]
    parts = array.reshape(
        [n for size, width in zip(array.shape, window, strict=True) for n in (size // width, width)]
    )
    axes = range(parts.ndim)
    tiles = parts.transpose([*axes[1::2], *axes[::2]])
    return tiles.reshape(-1, *tiles.shape[len(window) :])


def _slices(eqn: jex.JaxprEqn, array: jax.Array, fill: np.float32) -> jax.Array:
    """The windows of an array, along a new first axis."""
    params, shape = eqn.params, forms.kind(eqn.outvars[0]).shape
    edges = zip(params["padding"], params["base_dilation"], strict=True)
    padded = jax.lax.pad(array, fill, [(low, high, step - 1) for (low, high), step in edges])
    strides, dilation = params["window_strides"], params["window_dilation"]
    found = []
    for place in itertools.product(*map(range, params["window_dimensions"])):
        start = [at * step for at, step in zip(place, dilation, strict=True)]
        stop = [at + (n - 1) * step + 1 for at, n, step in zip(start, shape, strides, strict=True)]
        found.append(jax.lax.slice(padded, start, stop, strides))
    return jnp.stack(found)
