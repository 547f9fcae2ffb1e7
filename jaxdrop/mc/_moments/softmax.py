"""Softmax, which programs spell out: its equations, found by their pattern, and its moments."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop.mc._moments import surveys
from jaxdrop.mc._moments.values import Random
from jaxdrop.mc._moments.walk import Walk

_ARRANGING = ("broadcast_in_dim", "reshape", "stop_gradient", "convert_element_type")


class End(NamedTuple):
    """The last equation of a softmax: the variable of its logits and the axes."""

    logits: jex.Var
    axes: tuple[int, ...]


class Found(NamedTuple):
    """The softmaxes of a program.

    Attributes:
      ends: Their last equations, by index.
      inner: Their other equations that nothing else uses, by index, with the variable of the logits.
    """

    ends: dict[int, End]
    inner: dict[int, jex.Var]


def find(jaxpr: jex.Jaxpr) -> Found:
    """Finds `exp(x - max(x)) / sum(exp(x - max(x)))`."""
    made = {var: (index, eqn) for index, eqn in enumerate(jaxpr.eqns) for var in eqn.outvars}
    found = Found({}, {})
    uses: dict[jex.Var, set[int]] = {}
    for index, eqn in enumerate(jaxpr.eqns):
        for var in eqn.invars:
            if not isinstance(var, jex.Literal):
                uses.setdefault(var, set()).add(index)
    for index, eqn in enumerate(jaxpr.eqns):
        if eqn.primitive.name == "div":
            _add(jaxpr, made, uses, index, found)
    return found


def _add(
    jaxpr: jex.Jaxpr,
    made: dict[jex.Var, tuple[int, jex.JaxprEqn]],
    uses: dict[jex.Var, set[int]],
    index: int,
    found: Found,
) -> None:
    """Adds the softmax that ends at an equation, if one does."""
    part: list[int] = []

    def up(var: jex.Var | jex.Literal, test: Callable[[str], bool]) -> jex.JaxprEqn | None:
        at, eqn = made.get(var, (0, None)) if not isinstance(var, jex.Literal) else (0, None)
        if eqn is None or not test(eqn.primitive.name):
            return None
        part.append(at)
        return eqn

    def over(var: jex.Var | jex.Literal) -> jex.Var | jex.Literal:
        while (eqn := up(var, _ARRANGING.__contains__)) is not None:
            var = eqn.invars[0]
        return var

    top, bottom = jaxpr.eqns[index].invars
    power = up(top, "exp".__eq__)
    total = up(over(bottom), "reduce_sum".__eq__)
    if power is None or total is None or over(total.invars[0]) is not top:
        return
    shifted = up(power.invars[0], "sub".__eq__)
    if shifted is None or isinstance(shifted.invars[0], jex.Literal):
        return
    logits, shift = shifted.invars[0], over(shifted.invars[1])
    floor = up(shift, "max".__eq__)
    if floor is not None:
        shift = next((var for var in floor.invars if not isinstance(var, jex.Literal)), shift)
    largest = up(over(shift), "reduce_max".__eq__)
    if largest is None or over(largest.invars[0]) is not logits:
        return
    found.ends[index] = End(logits, tuple(total.params["axes"]))
    own = {*part, index}
    for at in part:
        outputs = jaxpr.eqns[at].outvars
        if all(uses.get(var, set()) <= own and var not in jaxpr.outvars for var in outputs):
            found.inner[at] = logits


def apply(walk: Walk, logits: Random, axes: tuple[int, ...]) -> Random:
    """The moments of a softmax over some axes.

    By the directions of a survey, or without one, in a loop, a mean-field correction of the softmax of the
    means, with slopes and variances at the mean.
    """
    shape, last = logits.shape, range(-len(axes), 0)

    def to_last(array: jax.Array) -> jax.Array:
        moved = jnp.moveaxis(array, axes, last)
        return moved.reshape(*moved.shape[: moved.ndim - len(axes)], -1)

    def back(array: jax.Array) -> jax.Array:
        moved = jnp.moveaxis(jnp.zeros(shape), axes, last)
        return jnp.moveaxis(array.reshape(moved.shape), last, axes)

    walk.survey.wanted = True
    deviations = walk.deviations(logits)
    if deviations is not None:
        return _surveyed(walk, logits, jax.vmap(to_last)(deviations), to_last, back)
    walk.note("softmax: mean field")
    mean, variance = to_last(logits.mean), to_last(logits.variance)
    if not walk.smooth:
        probs = jax.nn.softmax(mean, -1)
        return Random(back(probs), jnp.zeros(shape, jnp.float32), logits.draws)
    # E p[k] is about 1 / sum over l of exp(-(m[k] - m[l]) / sqrt(1 + pi / 8 * (v[k] + v[l]))).
    scale = jnp.sqrt(1 + np.float32(np.pi / 8) * (variance[..., :, None] + variance[..., None, :]))
    gaps = (mean[..., None, :] - mean[..., :, None]) / scale
    probs = jnp.exp(-jax.nn.logsumexp(gaps, axis=-1))
    probs = probs / jax.lax.stop_gradient(probs).sum(-1, keepdims=True)
    at = jax.lax.stop_gradient(probs)
    spread = at**2 * ((1 - 2 * at) * variance + (at**2 * variance).sum(-1, keepdims=True))
    return Random(back(probs), walk.spread(back(spread)), logits.draws)


def _surveyed(
    walk: Walk,
    logits: Random,
    deviations: jax.Array,
    to_last: Callable[[jax.Array], jax.Array],
    back: Callable[[jax.Array], jax.Array],
) -> Random:
    """By means over the directions of a survey, with what the mean slopes leave as a new source."""
    walk.note(f"softmax: means over {surveys.COUNT} fixed directions")
    path = to_last(logits.mean)
    at = jax.lax.stop_gradient(path)
    found = jax.lax.stop_gradient(surveys.of_softmax(at, deviations))
    variance = jnp.mean(found.odd**2, 0) + found.rest
    mean = walk.inject(back(found.mean + found.linear(path - at)), back(found.rest), logits.draws)
    return Random(mean, walk.spread(back(variance)), logits.draws)
