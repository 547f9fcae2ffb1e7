"""Elementwise equations: put together lazily, settled to moments where another kind of equation follows."""

import itertools
from collections.abc import Sequence

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree
from jaxdrop.mc._moments import forms, laws, pairs
from jaxdrop.mc._moments.forms import IDENTITY, Affine, Constant, Curve, Form
from jaxdrop.mc._moments.values import Chain, Random, is_random, known, wide
from jaxdrop.mc._moments.walk import Walk

PRIMITIVES = frozenset(
    [
        "abs",
        "add",
        "and",
        "atan2",
        "cbrt",
        "ceil",
        "clamp",
        "convert_element_type",
        "copy",
        "cos",
        "cosh",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "integer_pow",
        "is_finite",
        "le",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "pow",
        "reduce_precision",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "sub",
        "tan",
        "tanh",
        "xor",
    ]
)
# A chain has at most so many decisions, and twice as many cases for each.
_MOST_DECISIONS = 3
_NORMAL = "elementwise: arrays taken as normal"
_RESTS = "elementwise: what is not linear taken as uncorrelated between elements"
_TERMS = "variance: terms of a sum taken as uncorrelated"


def apply(walk: Walk, eqn: jex.JaxprEqn, values: Sequence[PyTree]) -> Random | Chain:
    """The outcome of an elementwise equation, of which a value is random."""
    out = eqn.outvars[0].aval
    parts = [_fitted(walk, value, out.shape) for value in values]
    if eqn.primitive.name in ("max", "min"):
        parts = [_rebased(walk, part) for part in parts]
    bases = _unique([part.base for part in parts if part.base is not None])
    decisions = _unique([one for part in parts for one in part.decisions])
    if len(bases) > 1 or len(decisions) > _MOST_DECISIONS or _is_noise(bases, decisions):
        return pairs.apply(walk, eqn, [_settled_part(walk, part) for part in parts])
    cases = {}
    for case in itertools.product((False, True), repeat=len(decisions)):
        true = dict(zip(map(id, decisions), case, strict=True))
        chosen = [part.cases[tuple(true[id(one)] for one in part.decisions)] for part in parts]
        cases[case] = forms.combined(eqn, chosen)
    return Chain(bases[0] if bases else None, tuple(decisions), cases, out.shape, out.dtype)


def settle(walk: Walk, value: PyTree) -> PyTree:
    """A chain as an array with moments; all else as it is."""
    if not isinstance(value, Chain):
        return value
    if value.settled is None:
        value.settled = _settled(walk, value)
    return value.settled


def rearranged(value: Chain, name: tuple, fun: PyTree, independent: bool) -> Chain | None:
    """A chain of decisions alone in another arrangement; None for another chain."""
    scalars = all(isinstance(form, Constant) and not np.ndim(form.value) for form in value.cases.values())
    if value.base is not None or not scalars:
        return None
    decisions = tuple(one.view(name, fun, independent) for one in value.decisions)
    return Chain(None, decisions, value.cases, decisions[0].shape, value.dtype)


def _fitted(walk: Walk, value: PyTree, shape: tuple[int, ...]) -> Chain:
    """A value as a chain of this shape."""
    if not is_random(value):
        return Chain(None, (), {(): Constant(wide(value))}, shape, jax.dtypes.result_type(value))
    if isinstance(value, Chain) and value.shape != shape:
        value = settle(walk, value)
    if isinstance(value, Chain):
        return value
    if value.shape != shape:
        value = value.view(("fit", shape), lambda array: jnp.broadcast_to(array, shape), False)
    if value.law == "decision":
        false, true = Constant(np.False_), Constant(np.True_)
        return Chain(None, (value,), {(False,): false, (True,): true}, shape, np.dtype(bool))
    return Chain(value, (), {(): IDENTITY}, shape, value.mean.dtype)


def _settled_part(walk: Walk, part: Chain) -> PyTree:
    if not part.bases:
        return part.cases[()].value
    return settle(walk, part)


def _rebased(walk: Walk, part: Chain) -> Chain:
    """A chain that is an affine function of one array, of which the slope may be negative, as an array."""
    form = part.cases.get(())
    if part.base is None or not isinstance(form, Affine) or not np.ndim(form.slope):
        return part
    return _fitted(walk, settle(walk, part), part.shape)


def _unique(bases: Sequence[Random]) -> list[Random]:
    return list({id(base): base for base in bases}.values())


def _is_noise(bases: Sequence[Random], decisions: Sequence[Random]) -> bool:
    """Whether a uniform draw meets decisions: no rule takes both at once."""
    return bool(decisions) and any(base.law == "uniform" for base in bases)


def _settled(walk: Walk, chain: Chain) -> Random:
    base, decisions = chain.base, chain.decisions
    if not decisions and isinstance(form := chain.cases[()], Affine) and base is not None:
        return _affine(base, form, chain.shape)
    if base is None and len(decisions) == 1 and decisions[0].chance is None:
        return _of_decision(decisions[0], chain)
    return _mixture(walk, chain)


def _affine(base: Random, form: Affine, shape: tuple[int, ...]) -> Random:
    if form is IDENTITY:
        return base
    mean = jnp.broadcast_to(form.slope * base.mean + form.offset, shape)
    variance = jnp.broadcast_to(jnp.square(form.slope) * base.variance, shape)
    law = base.law if base.law == "normal" else "other"
    return Random(mean, variance, base.draws, law, base.independent, base.exact)


def _of_decision(decision: Random, chain: Chain) -> Random:
    """A function of one decision, which is affine."""
    false, true = (jnp.asarray(chain.cases[(case,)].value, jnp.float32) for case in (False, True))
    mean = false + (true - false) * decision.mean
    variance = jnp.broadcast_to((true - false) ** 2 * decision.variance, chain.shape)
    law = "decision" if chain.dtype == bool else "other"
    mean = jnp.broadcast_to(mean, chain.shape)
    return Random(mean, variance, decision.draws, law, decision.independent, decision.exact)


def _mixture(walk: Walk, chain: Chain) -> Random:
    """The moments over the cases, and the best linear predictor of the bases."""
    base, decisions = chain.base, chain.decisions
    tied = [one for one in decisions if base is not None and one.chance and one.chance.base is base]
    free = [one for one in decisions if one not in tied]
    mean = square = slope = jnp.zeros((), jnp.float32)
    given: dict[tuple[int, bool], jax.Array] = {}
    for case, form in chain.cases.items():
        true = dict(zip(map(id, decisions), case, strict=True))
        chance = _chance(free, true)
        first, second, tilt = _moments(walk, form, base, [(one.chance, true[id(one)]) for one in tied])
        mean, square, slope = mean + chance * first, square + chance * second, slope + chance * tilt
        for one in free:
            own = _chance([one], true)
            rest = chance / jnp.maximum(own, jnp.finfo(jnp.float32).tiny)
            key = id(one), true[id(one)]
            given[key] = given.get(key, jnp.zeros((), jnp.float32)) + rest * first
    slopes = [(one, given[id(one), True] - given[id(one), False]) for one in free]
    slopes += [(base, slope)] if base is not None else []
    return _predicted(walk, chain, jax.lax.stop_gradient(mean), square, slopes)


def _predicted(
    walk: Walk, chain: Chain, mean: jax.Array, square: jax.Array, slopes: Sequence[tuple[Random, jax.Array]]
) -> Random:
    """The best linear predictor of some arrays, and what it leaves as a new source."""
    variance = jnp.maximum(square - mean**2, 0)
    path, explained = mean, jnp.zeros((), jnp.float32)
    for one, slope in slopes:
        slope = jax.lax.stop_gradient(slope)
        path = path + slope * (one.mean - jax.lax.stop_gradient(one.mean))
        explained = explained + slope**2 * walk.variance(one)
    path, variance = jnp.broadcast_to(path, chain.shape), jnp.broadcast_to(variance, chain.shape)
    rest = jnp.maximum(variance - explained, 0)
    _note(walk, chain)
    disjoint = _are_disjoint(chain.bases)
    independent = disjoint and all(one.independent for one in chain.bases)
    exact = disjoint and all(one.exact for one in chain.bases)
    path = walk.inject(path, rest, chain.draws)
    return Random(path, walk.spread(variance), chain.draws, "other", independent, exact)


def _note(walk: Walk, chain: Chain) -> None:
    """Notes what is approximate in the moments of a chain."""
    curved = any(not isinstance(form, Constant | Affine) for form in chain.cases.values())
    if chain.base is not None and curved and chain.base.law == "other":
        walk.note(_NORMAL)
    if chain.base is not None and not chain.base.exact and walk.smooth:
        walk.note(_TERMS)
    decided = all(one.independent for one in chain.decisions)
    known = chain.base is None or chain.base.independent
    if not (decided and known if curved else decided or known):
        walk.note(_RESTS)
    if not _are_disjoint(chain.bases):
        walk.note("elementwise: decisions taken as independent of the arrays that they meet")


def _are_disjoint(bases: Sequence[Random]) -> bool:
    return sum(len(base.draws) for base in bases) == len(frozenset().union(*(base.draws for base in bases)))


def _chance(decisions: Sequence[Random], true: dict[int, bool]) -> jax.Array:
    """The probability of a case of independent decisions."""
    chance = jnp.ones((), jnp.float32)
    for one in decisions:
        mean = jax.lax.stop_gradient(one.mean)
        chance = chance * (mean if true[id(one)] else 1 - mean)
    return chance


def _moments(
    walk: Walk, form: Form, base: Random | None, tied: Sequence[tuple[Chain, bool]]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean, mean square and slope of a form, times the chances of decisions that the base makes."""
    if base is None:
        value = jnp.asarray(form.value, jnp.float32) if isinstance(form, Constant) else jnp.nan
        return value, value**2, jnp.zeros((), jnp.float32)
    mean = jax.lax.stop_gradient(base.mean)

    def of(form: Form) -> laws.Moments:
        if not walk.smooth:
            return laws.at_mean(form, mean)
        return laws.moments(form, mean, walk.variance(base), base.law)

    if not tied:
        return of(form)

    def weighted(power: int) -> Curve:
        def fun(u: jax.Array) -> jax.Array:
            value = forms.evaluate(form, u).astype(jnp.float32) ** power
            for chain, true in tied:
                chance = forms.evaluate(chain.cases[()], u)
                value = value * (chance if true else 1 - chance)
            return value

        return Curve(fun, True)

    first = of(weighted(1))
    return first.mean, of(weighted(2)).mean, first.slope


def known_part(value: PyTree) -> Random:
    """A value with moments, of zero variance if it is known."""
    return value if isinstance(value, Random) else known(value)
