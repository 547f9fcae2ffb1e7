"""Elementwise equations of several random arrays."""

from collections.abc import Callable, Sequence

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from jaxdrop._types import PyTree
from jaxdrop.mc._moments import forms, maxima, surveys
from jaxdrop.mc._moments.values import Random, known, wide
from jaxdrop.mc._moments.walk import Walk

_LINEARIZED = frozenset({"div", "pow", "atan2"})
_UNCORRELATED = "taken as uncorrelated"


def apply(walk: Walk, eqn: jex.JaxprEqn, values: Sequence[PyTree]) -> Random:
    """The outcome of an elementwise equation of settled values, at least two of them random."""
    name, shape = eqn.primitive.name, forms.kind(eqn.outvars[0]).shape
    arrays = [_fitted(value, shape) for value in values]
    if name in _RULES and (name != "select_n" or len(arrays) == 3):
        if name in ("and", "or") and not are_disjoint(*arrays):
            raise walk.refusal(eqn, f"`{name}` of decisions of one draw")
        return _RULES[name](walk, *arrays)
    if name in _LINEARIZED:
        return _linearized(walk, eqn, arrays)
    raise walk.refusal(eqn, f"`{name}` of {len(arrays)} arrays")


def _fitted(value: PyTree, shape: tuple[int, ...]) -> Random:
    value = value if isinstance(value, Random) else known(value)
    if value.shape == shape:
        return value
    return value.view(("fit", shape), lambda array: jnp.broadcast_to(array, shape), False)


def are_disjoint(a: Random, b: Random) -> bool:
    """Whether two arrays depend on different draws."""
    return not a.draws & b.draws


def _add(walk: Walk, a: Random, b: Random) -> Random:
    return _sum(a, b, a.mean + b.mean)


def _sub(walk: Walk, a: Random, b: Random) -> Random:
    return _sum(a, b, a.mean - b.mean)


def _sum(a: Random, b: Random, mean: jax.Array) -> Random:
    disjoint = are_disjoint(a, b)
    law = "normal" if disjoint and a.law == b.law == "normal" else "other"
    flags = disjoint and a.independent and b.independent, disjoint and a.exact and b.exact
    return Random(mean, a.variance + b.variance, a.draws | b.draws, law, *flags)


def _mul(walk: Walk, a: Random, b: Random) -> Random:
    found = product(walk, "mul", jnp.multiply, a, b)
    disjoint = are_disjoint(a, b)
    flags = disjoint and a.independent and b.independent, disjoint and a.exact and b.exact
    note_rests(walk, a, b)
    return Random(found.mean, found.variance, found.draws, "other", *flags)


def product(
    walk: Walk, name: str, bind: Callable[[jax.Array, jax.Array], jax.Array], a: Random, b: Random
) -> Random:
    """A product of two arrays, elementwise or summed; what is not linear is a new source."""
    note_terms(walk, a, b)
    first, second = jax.lax.stop_gradient((a.mean, b.mean))
    of_a, of_b = walk.variance(a), walk.variance(b)
    linear, rest = bind(of_a, second**2) + bind(first**2, of_b), bind(of_a, of_b)
    mean, draws = bind(a.mean, b.mean), a.draws | b.draws
    beside, other = (None, None) if are_disjoint(a, b) else (walk.deviations(a), walk.deviations(b))
    if beside is not None and other is not None:
        walk.note(f"{name}: means over {surveys.COUNT} fixed directions")
        products = jax.vmap(bind)(beside, other)
        path = walk.scatter(mean + jnp.mean(products, 0), products)
        return Random(path, walk.spread(linear + jnp.var(products, 0, ddof=1)), draws)
    if not are_disjoint(a, b):
        walk.note(f"{name}: two factors {_UNCORRELATED}")
    path = walk.inject(mean, rest, draws, (a.draws, b.draws))
    return Random(path, walk.spread(linear + rest), draws)


def note_terms(walk: Walk, *arrays: Random) -> None:
    """Notes that a variance that counts is not exact."""
    if not all(array.exact for array in arrays):
        walk.note("variance: terms of a sum taken as uncorrelated")


def note_rests(walk: Walk, *arrays: Random) -> None:
    """Notes that what a product leaves beyond its linear part may be correlated between elements."""
    if not any(array.independent for array in arrays):
        walk.note("products: rests taken as uncorrelated")


def _select(walk: Walk, which: Random, false: Random, true: Random) -> Random:
    disjoint = sum(len(one.draws) for one in (which, false, true)) == len(
        which.draws | false.draws | true.draws
    )
    if not disjoint:
        walk.note(f"select_n: {_UNCORRELATED}")
    note_terms(walk, false, true)
    note_rests(walk, which)
    chance = jax.lax.stop_gradient(which.mean)
    # A NaN that is never chosen does not count.
    false, true = _where(chance < 1, false), _where(chance > 0, true)
    gap = jax.lax.stop_gradient(true.mean - false.mean)
    spread = chance * (1 - chance)
    rest = spread * (false.variance + true.variance)
    variance = chance * true.variance + (1 - chance) * false.variance + spread * gap**2
    draws = which.draws | false.draws | true.draws
    factors = which.draws, false.draws | true.draws
    mean = walk.inject(false.mean + which.mean * (true.mean - false.mean), rest, draws, factors)
    return Random(mean, walk.spread(variance), draws)


def _where(chosen: jax.Array, a: Random) -> Random:
    """The array, with zeros where it is never chosen."""
    mean, variance = (jnp.where(chosen, one, 0) for one in (a.mean, a.variance))
    return Random(mean, variance, a.draws)


def _max(walk: Walk, a: Random, b: Random) -> Random:
    walk.note(f"max: Clark's moments, {_UNCORRELATED}")
    return maxima.larger(walk, a, b)


def _min(walk: Walk, a: Random, b: Random) -> Random:
    found = _max(walk, _negative(a), _negative(b))
    return _negative(found)


def _negative(a: Random) -> Random:
    return Random(-a.mean, a.variance, a.draws, a.law if a.law == "normal" else "other")


def _or(walk: Walk, a: Random, b: Random) -> Random:
    return _negation(_and(walk, _negation(a), _negation(b)))


def _and(walk: Walk, a: Random, b: Random) -> Random:
    found = _mul(walk, a, b)
    return Random(found.mean, found.variance, found.draws, "decision", found.independent, found.exact)


def _negation(a: Random) -> Random:
    return Random(1 - a.mean, a.variance, a.draws, "decision", a.independent, a.exact)


_RULES: dict[str, Callable[..., Random]] = {
    "add": _add,
    "add_any": _add,
    "and": _and,
    "max": _max,
    "min": _min,
    "mul": _mul,
    "or": _or,
    "select_n": _select,
    "sub": _sub,
}


def _linearized(walk: Walk, eqn: jex.JaxprEqn, arrays: Sequence[Random]) -> Random:
    """Value and slopes at the means."""
    walk.note(f"{eqn.primitive.name}: linear at the means")
    note_terms(walk, *arrays)
    means = [wide(array.mean) for array in arrays]
    at = jax.lax.stop_gradient(means)

    def fun(*means: jax.Array) -> jax.Array:
        return forms.bind(eqn, means)[0]

    variance = jnp.zeros_like(at[0])
    for index, array in enumerate(arrays):
        tangents = [jnp.ones_like(mean) if i == index else jnp.zeros_like(mean) for i, mean in enumerate(at)]
        _, slope = jax.jvp(fun, tuple(at), tuple(tangents))
        variance = variance + slope**2 * array.variance
    draws = frozenset().union(*(array.draws for array in arrays))
    return Random(fun(*means), walk.spread(variance), draws)
