"""The table of rules for equations that are not elementwise, a rule a primitive."""

from collections.abc import Callable, Sequence

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree
from jaxdrop.mc._moments import convolutions, elementwise, forms, maxima
from jaxdrop.mc._moments.pairs import are_disjoint, product
from jaxdrop.mc._moments.values import Chain, KeyValue, Random, Steps, is_random, known, wide
from jaxdrop.mc._moments.walk import Walk

Rule = Callable[[Walk, jex.JaxprEqn, list[PyTree]], list[PyTree]]


def apply(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    """The outcome of an equation, of which a value is random and none is a key."""
    name = eqn.primitive.name
    if name not in _RULES and name not in _UNCHANGED:
        raise walk.refusal(eqn, f"`{name}` of a random array")
    if name in _UNCHANGED:
        return values
    plain = [value.now if isinstance(value, Steps) else value for value in values]
    if name in _VIEWS and isinstance(plain[0], Chain) and not any(map(is_random, plain[1:])):
        fun, distinct = _rearrangement(eqn, plain)
        found = elementwise.rearranged(plain[0], _name(eqn), fun, distinct) if len(plain) == 1 else None
        if found is not None:
            return [found]
    settled = [elementwise.settle(walk, value) for value in plain]
    return _RULES[name](walk, eqn, settled)


def _name(eqn: jex.JaxprEqn) -> tuple:
    return eqn.primitive.name, str(sorted(eqn.params.items(), key=lambda item: item[0]))


def _rearrangement(
    eqn: jex.JaxprEqn, values: Sequence[PyTree]
) -> tuple[Callable[[jax.Array], jax.Array], bool]:
    """An arrangement as a function of the array, and whether it repeats no number."""
    name, sizes = eqn.primitive.name, [forms.kind(var).size for var in (eqn.invars[0], eqn.outvars[0])]
    distinct = name != "gather" and (name != "broadcast_in_dim" or sizes[0] == sizes[1])
    return lambda array: forms.bind(eqn, [array, *values[1:]])[0], distinct


def _view(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    _only_first(walk, eqn, values)
    fun, distinct = _rearrangement(eqn, values)
    if len(values) == 1:
        return [values[0].view(_name(eqn), fun, distinct)]
    array, law = values[0], values[0].law
    if eqn.params.get("fill_value") is not None:  # outside of the array, known numbers without variance
        eqn = eqn.replace(params={**eqn.params, "fill_value": 0})
        law = law if law == "normal" or forms.kind(eqn.outvars[0]).dtype == bool else "other"
    variance = forms.bind(eqn, [array.variance, *values[1:]])[0]
    return [Random(fun(array.mean), variance, array.draws, law, array.independent and distinct, array.exact)]


def _sum(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    """Sums of numbers of one array."""
    _only_first(walk, eqn, values)
    array, fun = values[0], lambda one: forms.bind(eqn, [one])[0]
    law = array.law if array.law == "normal" and array.independent else "other"
    independent = array.independent and eqn.primitive.name == "reduce_sum"
    exact = array.independent and array.exact
    return [Random(fun(array.mean), fun(array.variance), array.draws, law, independent, exact)]


def _joined(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    """Several arrays in one, with no number twice."""
    parts = [value if isinstance(value, Random) else known(value) for value in values]
    mean = forms.bind(eqn, [part.mean for part in parts])[0]
    variance = forms.bind(eqn, [part.variance for part in parts])[0]
    return [Random(mean, variance, *_union(parts))]


def _union(parts: Sequence[Random]) -> tuple[frozenset[int], str, bool, bool]:
    draws = frozenset().union(*(part.draws for part in parts))
    disjoint = sum(len(part.draws) for part in parts) == len(draws)
    independent = disjoint and all(part.independent for part in parts)
    law = "normal" if all(part.law == "normal" for part in parts) else "other"
    return draws, law, independent, all(part.exact for part in parts)


def _split(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    (array,) = values
    pairs = zip(forms.bind(eqn, [array.mean]), forms.bind(eqn, [array.variance]), strict=True)
    flags = array.draws, array.law, array.independent, array.exact
    return [Random(mean, variance, *flags) for mean, variance in pairs]


def _pad(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    _only_first(walk, eqn, values)
    array, padding = values[0], wide(values[1])
    mean = forms.bind(eqn, [array.mean, jnp.asarray(padding, jnp.float32)])[0]
    variance = forms.bind(eqn, [array.variance, np.float32(0)])[0]
    law = "normal" if array.law == "normal" else "other"
    return [Random(mean, variance, array.draws, law, array.independent, array.exact)]


def _update(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    """Parts of an array, at known places, are replaced or added to."""
    array, *rest = values
    place = 1 if eqn.primitive.name == "dynamic_update_slice" else 2
    if any(isinstance(value, Random) for index, value in enumerate(values[1:], 1) if index != place):
        raise walk.refusal(eqn, f"`{eqn.primitive.name}` at random places")
    parts = [one if isinstance(one, Random) else known(one) for one in (array, values[place])]

    def fun(arrays: list[jax.Array]) -> jax.Array:
        given = [arrays[0], *rest]
        given[place] = arrays[1]
        return forms.bind(eqn, given)[0]

    draws, law, independent, exact = _union(parts)
    if eqn.primitive.name == "scatter-add":
        independent, exact = False, exact and independent
    mean, variance = fun([part.mean for part in parts]), fun([part.variance for part in parts])
    return [Random(mean, variance, draws, law, independent, exact)]


def _product(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    """A product with known weights, or of two random arrays."""
    params = dict(eqn.params)
    if "preferred_element_type" in params:
        params["preferred_element_type"] = None
    eqn = eqn.replace(params=params)

    def bind(a: jax.Array, b: jax.Array) -> jax.Array:
        if eqn.primitive.name == "conv_general_dilated":
            return convolutions.bind(eqn, a, b)
        return forms.bind(eqn, [a, b])[0]

    if not all(isinstance(value, Random) for value in values):
        return [_weighted(values, bind)]
    a, b = (value for value in values if isinstance(value, Random))
    if not (a.independent and b.independent and are_disjoint(a, b)):
        walk.note("variance: terms of a sum taken as uncorrelated")
    walk.survey.wanted |= not are_disjoint(a, b)
    return [product(walk, eqn.primitive.name, bind, a, b)]


def _weighted(values: Sequence[PyTree], bind: Callable[[jax.Array, jax.Array], jax.Array]) -> Random:
    array = next(value for value in values if isinstance(value, Random))
    means = [value.mean if isinstance(value, Random) else _weights(value) for value in values]
    squares = [value.variance if isinstance(value, Random) else _weights(value) ** 2 for value in values]
    law = "normal" if array.law == "normal" and array.independent else "other"
    exact = array.independent and array.exact
    variance = jax.lax.stop_gradient(bind(squares[0], squares[1]))
    return Random(bind(means[0], means[1]), variance, array.draws, law, False, exact)


def _weights(value: PyTree) -> jax.Array:
    return jnp.asarray(wide(value), jnp.float32)


def _pool(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    return [maxima.pooled(walk, eqn, values[0])]


def _any(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    (array,) = values
    if array.law != "decision":
        raise walk.refusal(eqn, "`reduce_or` of a random array")
    return [maxima.any_of(walk, array, lambda one: jnp.sum(one, eqn.params["axes"]))]


def _placed(walk: Walk, eqn: jex.JaxprEqn, values: list[PyTree]) -> list[PyTree]:
    """What changes the sharding of an array alone."""
    array = values[0]
    mean, variance = (forms.bind(eqn, [one, *values[1:]])[0] for one in (array.mean, array.variance))
    flags = array.law, array.independent, array.exact, array.chance
    return [Random(mean, variance, array.draws, *flags)]


def _only_first(walk: Walk, eqn: jex.JaxprEqn, values: Sequence[PyTree]) -> None:
    if not isinstance(values[0], Random) or any(isinstance(v, Random | KeyValue) for v in values[1:]):
        raise walk.refusal(eqn, f"`{eqn.primitive.name}` at random places")


# Arrangements of numbers.
_VIEWS = frozenset(
    [
        "broadcast_in_dim",
        "dynamic_slice",
        "expand_dims",
        "gather",
        "reshape",
        "rev",
        "slice",
        "squeeze",
        "transpose",
    ]
)
_SUMS = frozenset({"cumsum", "reduce_sum", "reduce_window_sum"})
# What changes no number.
_UNCHANGED = frozenset({"optimization_barrier", "stop_gradient"})
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_VIEWS, _view),
    **dict.fromkeys(_SUMS, _sum),
    "concatenate": _joined,
    "conv_general_dilated": _product,
    "dot_general": _product,
    "dynamic_update_slice": _update,
    "pad": _pad,
    "reduce_or": _any,
    "reduce_window_max": _pool,
    "reshard": _placed,
    "scatter": _update,
    "scatter-add": _update,
    "sharding_constraint": _placed,
    "split": _split,
    "stack": _joined,
}
