"""Elementwise equations: put together lazily, settled to moments where another kind of equation follows."""

import itertools
from collections.abc import Sequence

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree
from jaxdrop.mc._moments import comparisons, forms, laws, pairs
from jaxdrop.mc._moments.forms import IDENTITY, Affine, Constant, Curve, Form, Value
from jaxdrop.mc._moments.values import Chain, Random, is_random, wide
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
# Of those so many may have a chance that is a function of the array that they meet.
_MOST_TIED = 1
_BITWISE = frozenset({"and", "not", "or", "xor"})
_NORMAL = "elementwise: arrays taken as normal"
_POINTS = "elementwise: nonlinear functions of a draw, summed over points"
_RESTS = "elementwise: what is not linear taken as uncorrelated between elements"
_TERMS = "variance: terms of a sum taken as uncorrelated"


def apply(walk: Walk, eqn: jex.JaxprEqn, values: Sequence[PyTree]) -> Random | Chain:
    """The outcome of an elementwise equation, of which a value is random."""
    out = forms.kind(eqn.outvars[0])
    parts = [_fitted(walk, value, out.shape) for value in values]
    if eqn.primitive.name in _BITWISE and out.dtype != bool:
        raise walk.refusal(eqn, f"`{eqn.primitive.name}` of random integers")
    if (decided := comparisons.decided(walk, eqn, parts)) is not None:
        return _fitted(walk, decided, out.shape)
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
        return Chain(
            None, (), {(): Constant(wide(forms.number(value)))}, shape, jax.dtypes.result_type(value)
        )
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
        (form,) = part.cases.values()
        return form.value if isinstance(form, Constant) else part
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
    if len(_tied(chain)) > _MOST_TIED:
        raise ValueError("`predict` must draw with one random rate at a time; `mc.estimate` samples it.")
    if not decisions and isinstance(form := chain.cases[()], Affine) and base is not None:
        return _affine(base, form, chain.shape)
    if base is None and len(decisions) == 1 and decisions[0].chance is None:
        values = [form.value for form in chain.cases.values() if isinstance(form, Constant)]
        return _of_decision(decisions[0], values, chain)
    return _mixture(walk, chain)


def _affine(base: Random, form: Affine, shape: tuple[int, ...]) -> Random:
    if form is IDENTITY:
        return base
    mean = jnp.broadcast_to(form.slope * base.mean + form.offset, shape)
    variance = jnp.broadcast_to(jnp.square(form.slope) * base.variance, shape)
    law = base.law if base.law == "normal" else "other"
    return Random(mean, variance, base.draws, law, base.independent, base.exact)


def _of_decision(decision: Random, values: Sequence[Value], chain: Chain) -> Random:
    """A function of one decision, which is affine; of its values for false and true."""
    false, true = (jnp.asarray(value, jnp.float32) for value in values)
    # A value that is never taken does not count.
    chance = jax.lax.stop_gradient(decision.mean)
    false, true = jnp.where(chance < 1, false, true), jnp.where(chance > 0, true, false)
    mean = false + (true - false) * decision.mean
    variance = jnp.broadcast_to((true - false) ** 2 * decision.variance, chain.shape)
    law = "decision" if chain.dtype == bool else "other"
    mean = jnp.broadcast_to(mean, chain.shape)
    return Random(mean, variance, decision.draws, law, decision.independent, decision.exact)


def _mixture(walk: Walk, chain: Chain) -> Random:
    """The moments over the cases, and the best linear predictor of the bases."""
    base, decisions = chain.base, chain.decisions
    tied = _tied(chain)
    free = [one for one in decisions if one not in tied]
    mean = square = slope = jnp.zeros((), jnp.float32)
    given: dict[tuple[int, bool], jax.Array] = {}
    weighted: list[tuple[jax.Array, Form]] = []
    for case, form in chain.cases.items():
        true = dict(zip(map(id, decisions), case, strict=True))
        chance = _chance(free, true)
        first, second = (_tied_form(form, tied, true, power) for power in (1, 2)) if tied else (form, None)
        found = _moments(walk, first, base)
        of_square = found.square if second is None else _moments(walk, second, base).mean
        weighted.append((chance, first))
        mean, square = mean + _times(chance, found.mean), square + _times(chance, of_square)
        slope = slope + _times(chance, found.slope)
        for one in free:
            own = _chance([one], true)
            rest = chance / jnp.maximum(own, jnp.finfo(jnp.float32).tiny)
            key = id(one), true[id(one)]
            given[key] = given.get(key, jnp.zeros((), jnp.float32)) + _times(rest, found.mean)
    slopes = [(one, given[id(one), True] - given[id(one), False]) for one in free]
    slopes += [(base, slope)] if base is not None else []
    noise = square - _moments(walk, _total(weighted), base).square if tied else jnp.zeros((), jnp.float32)
    return _predicted(walk, chain, jax.lax.stop_gradient(mean), square, slopes, noise)


def _tied(chain: Chain) -> list[Random]:
    """The decisions whose chances are functions of the chain's base."""
    base = chain.base
    return [one for one in chain.decisions if base is not None and one.chance and one.chance.base is base]


def _tied_form(form: Form, tied: Sequence[Random], true: dict[int, bool], power: int) -> Form:
    """A power of a form times the chance of tied decisions."""

    def fun(u: jax.Array) -> jax.Array:
        value = forms.evaluate(form, u).astype(jnp.float32) ** power
        for one in tied:
            assert one.chance is not None
            chance = forms.evaluate(one.chance.cases[()], u)
            value = value * (chance if true[id(one)] else 1 - chance)
        return value

    return Curve(fun, True)


def _total(weighted: Sequence[tuple[jax.Array, Form]]) -> Form:
    """A weighted sum of forms."""
    return Curve(lambda u: sum(weight * forms.evaluate(form, u) for weight, form in weighted) + 0 * u, True)


def _predicted(
    walk: Walk,
    chain: Chain,
    mean: jax.Array,
    square: jax.Array,
    slopes: Sequence[tuple[Random, jax.Array]],
    noise: jax.Array,
) -> Random:
    """The best linear predictor of some arrays, and what it leaves as new sources.

    Args:
      walk: The walk.
      chain: The function of the arrays.
      mean: Its mean.
      square: Its mean square.
      slopes: The arrays, and the mean slope in each.
      noise: The variance that is made by tied decisions alone.
    """
    variance = jnp.maximum(square - mean**2, 0)
    path, explained = mean, noise
    for one, slope in slopes:
        slope = jax.lax.stop_gradient(slope)
        path = path + slope * (one.mean - jax.lax.stop_gradient(one.mean))
        explained = explained + slope**2 * walk.variance(one)
    path, variance = jnp.broadcast_to(path, chain.shape), jnp.broadcast_to(variance, chain.shape)
    _note(walk, chain)
    tied = _tied(chain)
    own = _own_draws(chain)
    disjoint = sum(map(len, own)) == len(chain.draws)
    independent = disjoint and all(one.independent for one in chain.bases)
    exact = disjoint and all(one.exact for one in chain.bases)
    factors = () if tied else [*own[:1], *own] if _is_curved(chain) else own
    path = walk.inject(path, jnp.maximum(variance - explained, 0), chain.draws, factors)
    for one in tied:
        draws = one.draws - one.chance.draws if one.chance else one.draws
        path = walk.inject(path, jnp.broadcast_to(jnp.maximum(noise, 0), chain.shape), draws)
    law = "decision" if chain.dtype == bool else "other"
    return Random(path, walk.spread(variance), chain.draws, law, independent, exact)


def _own_draws(chain: Chain) -> list[frozenset[int]]:
    """The draws of the bases; of a tied decision without those of its chance."""
    tied = _tied(chain)
    return [
        one.draws - one.chance.draws if one in tied and one.chance is not None else one.draws
        for one in chain.bases
    ]


def _is_curved(chain: Chain) -> bool:
    """Whether a chain is not affine in its base."""
    return any(not isinstance(form, Constant | Affine) for form in chain.cases.values())


def _note(walk: Walk, chain: Chain) -> None:
    """Notes what is approximate in the moments of a chain."""
    curved = _is_curved(chain)
    if chain.base is not None and curved and chain.base.law == "other":
        walk.note(_NORMAL)
    elif chain.base is not None and any(isinstance(form, Curve) for form in chain.cases.values()):
        walk.note(_POINTS)
    if chain.base is not None and not chain.base.exact and walk.smooth:
        walk.note(_TERMS)
    decided = all(one.independent for one in chain.decisions)
    known = chain.base is None or chain.base.independent
    if not (decided and known if curved else decided or known):
        walk.note(_RESTS)
    if sum(map(len, _own_draws(chain))) != len(chain.draws):
        walk.note("elementwise: decisions taken as independent of the arrays that they meet")


def _times(chance: jax.Array, value: jax.Array) -> jax.Array:
    """The product, and 0 for a chance of 0, whatever the value is."""
    return jnp.where(chance > 0, chance * value, 0)


def _chance(decisions: Sequence[Random], true: dict[int, bool]) -> jax.Array:
    """The probability of a case of independent decisions."""
    chance = jnp.ones((), jnp.float32)
    for one in decisions:
        mean = jax.lax.stop_gradient(one.mean)
        chance = chance * (mean if true[id(one)] else 1 - mean)
    return chance


def _moments(walk: Walk, form: Form, base: Random | None) -> laws.Moments:
    """The moments of a form of a base."""
    if base is None:
        assert isinstance(form, Constant)
        value = jnp.asarray(form.value, jnp.float32)
        return laws.Moments(value, value**2, jnp.zeros((), jnp.float32))
    mean = jax.lax.stop_gradient(base.mean)
    if not walk.smooth:
        return laws.at_mean(form, mean)
    return laws.moments(form, mean, walk.variance(base), base.law)
