"""Softmax, which programs spell out: its equations, found by their pattern, and its moments."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop.mc._moments import elementwise, forms, surveys
from jaxdrop.mc._moments.forms import Constant, Form, Value
from jaxdrop.mc._moments.values import Chain, Random, known
from jaxdrop.mc._moments.walk import Walk

# Logits below are hidden.
_HIDDEN = -1e9
# The least chance that a logit is shown.
_LEAST = np.float32(1e-6)
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
            arranged.append(eqn)
            var = eqn.invars[0]
        return var

    top, bottom = jaxpr.eqns[index].invars
    power = up(top, "exp".__eq__)
    arranged: list[jex.JaxprEqn] = []
    total = up(over(bottom), "reduce_sum".__eq__)
    if total is None or not _is_along(arranged, total):
        return
    if power is None or over(total.invars[0]) is not top:
        return
    shifted = up(power.invars[0], "sub".__eq__)
    if shifted is None or isinstance(shifted.invars[0], jex.Literal):
        return
    arranged.clear()
    logits, shift = shifted.invars[0], over(shifted.invars[1])
    floor = up(shift, "max".__eq__)
    if floor is not None:
        shift = next((var for var in floor.invars if not isinstance(var, jex.Literal)), shift)
    largest = up(over(shift), "reduce_max".__eq__)
    if (
        largest is None
        or not _is_along(arranged, largest)
        or _source(made, largest.invars[0]) is not _source(made, logits)
    ):
        return
    found.ends[index] = End(logits, tuple(total.params["axes"]))
    own = {*part, index}
    for at in part:
        outputs = jaxpr.eqns[at].outvars
        if all(uses.get(var, set()) <= own and var not in jaxpr.outvars for var in outputs):
            found.inner[at] = logits


def _is_along(arranged: Sequence[jex.JaxprEqn], reduced: jex.JaxprEqn) -> bool:
    """Whether a reduced array is broadcast along the axes over which it was reduced.

    Args:
      arranged: The equations that broadcast it, the last first.
      reduced: The equation that reduces.
    """
    shape, axes = forms.kind(reduced.invars[0]).shape, set(reduced.params["axes"])
    kept = [axis for axis in range(len(shape)) if axis not in axes and shape[axis] > 1]
    places = [axis for axis, size in enumerate(forms.kind(reduced.outvars[0]).shape) if size > 1]
    for eqn in reversed(arranged):
        if eqn.primitive.name == "broadcast_in_dim":
            places = [eqn.params["broadcast_dimensions"][place] for place in places]
        elif eqn.primitive.name == "reshape":
            old, new = (forms.kind(var).shape for var in (eqn.invars[0], eqn.outvars[0]))
            if [size for size in old if size > 1] != [size for size in new if size > 1]:
                return False
            # Sizes of 1 come and go; others keep their order.
            order = [axis for axis, size in enumerate(old) if size > 1]
            found = [axis for axis, size in enumerate(new) if size > 1]
            places = [found[order.index(place)] for place in places]
    return places == kept


def _source(
    made: dict[jex.Var, tuple[int, jex.JaxprEqn]], var: jex.Var | jex.Literal
) -> jex.Var | jex.Literal:
    """The variable that is arranged or rounded to this one."""
    while not isinstance(var, jex.Literal) and var in made and made[var][1].primitive.name in _ARRANGING:
        var = made[var][1].invars[0]
    return var


def apply(walk: Walk, value: Random | Chain, axes: tuple[int, ...]) -> Random:
    """The moments of a softmax over some axes."""
    split = _split(value) if isinstance(value, Chain) else None
    shown, logits = (None, value) if split is None else split
    found = elementwise.settle(walk, logits)
    found = found if isinstance(found, Random) else known(found)
    if shown is None:
        walk.survey.wanted = True
        deviations = walk.deviations(found)
        if deviations is not None:
            return _surveyed(walk, found, deviations, axes)
    walk.note("softmax: mean field")
    if shown is None:
        mean, variance = (_to_last(one, axes) for one in (found.mean, found.variance))
        path, spread = _mean_field(mean, variance, walk.smooth)
        draws = found.draws
    else:
        walk.note("softmax: hidden logits one at a time")
        hiding = elementwise.settle(walk, shown)
        parts = (found.mean, found.variance, hiding.mean)
        path, spread = _of_shown(*(_to_last(jnp.broadcast_to(one, shown.shape), axes) for one in parts))
        draws = found.draws | hiding.draws
    path, spread = (_from_last(one, value.shape, axes) for one in (path, spread))
    return Random(path, walk.spread(spread), draws)


def _surveyed(walk: Walk, logits: Random, deviations: jax.Array, axes: tuple[int, ...]) -> Random:
    """By means over the directions of a survey; what the mean slopes leave is a new source."""
    walk.note(f"softmax: means over {surveys.COUNT} fixed directions")
    path, lanes = _to_last(logits.mean, axes), jax.vmap(lambda one: _to_last(one, axes))(deviations)
    at = jax.lax.stop_gradient(path)
    found = jax.lax.stop_gradient(surveys.of_softmax(at, lanes))
    variance = jnp.mean(found.odd**2, 0) + jnp.var(found.even, 0, ddof=1)
    path = walk.scatter(found.mean + found.linear(path - at), found.even)
    path, rest, variance = (_from_last(one, logits.shape, axes) for one in (path, found.rest, variance))
    return Random(walk.inject(path, rest, logits.draws), walk.spread(variance), logits.draws)


def _to_last(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The array with some axes merged into a last one."""
    moved = jnp.moveaxis(array, axes, range(-len(axes), 0))
    return moved.reshape(*moved.shape[: moved.ndim - len(axes)], -1)


def _from_last(array: jax.Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> jax.Array:
    kept = [size for axis, size in enumerate(shape) if axis not in axes]
    split = array.reshape(*kept, *(shape[axis] for axis in axes))
    return jnp.moveaxis(split, range(-len(axes), 0), axes)


def _mean_field(mean: jax.Array, variance: jax.Array, smooth: bool) -> tuple[jax.Array, jax.Array]:
    """The mean path and the variance over the last axis; slopes and variances are at the mean.

    E p[k] is about 1 / sum over l of exp(-(m[k] - m[l]) / sqrt(1 + pi / 8 * (v[k] + v[l]))).
    """
    if not smooth:
        return jax.nn.softmax(mean, -1), jnp.zeros_like(variance)
    scale = jnp.sqrt(1 + np.float32(np.pi / 8) * (variance[..., :, None] + variance[..., None, :]))
    gaps = (mean[..., None, :] - mean[..., :, None]) / scale
    probs = jnp.exp(-jax.nn.logsumexp(gaps, axis=-1))
    probs = probs / jax.lax.stop_gradient(probs).sum(-1, keepdims=True)
    return probs, _spread(jax.lax.stop_gradient(probs), variance)


def _spread(probs: jax.Array, variance: jax.Array) -> jax.Array:
    """The variance to first order."""
    return probs**2 * ((1 - 2 * probs) * variance + (probs**2 * variance).sum(-1, keepdims=True))


def _of_shown(mean: jax.Array, variance: jax.Array, shown: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean path and the variance where decisions hide logits: `z * exp(u) / sum(z * exp(u))`.

    The slope in a decision is the difference that it makes, the others at their means.
    """
    chance = jnp.maximum(jax.lax.stop_gradient(shown), _LEAST)
    power = jnp.exp(jax.lax.stop_gradient(mean - mean.max(-1, keepdims=True)))
    part = chance * power
    without = jnp.maximum(part.sum(-1, keepdims=True) - part, jnp.finfo(jnp.float32).tiny)
    among = without + power
    # Row: the probability that changes; column: the decision that makes the change.
    change = part[..., :, None] * (1 / among - 1 / without)[..., None, :]
    own = jnp.broadcast_to(jnp.eye(mean.shape[-1], dtype=bool), change.shape)
    change = jnp.where(own, (power / among)[..., None], change)
    probs = part / among
    probs = probs / probs.sum(-1, keepdims=True)
    # The slopes in the logits are those of a softmax with the chances as weights.
    soft = jax.nn.softmax(mean + jnp.log(chance), -1)
    path = probs + soft - jax.lax.stop_gradient(soft)
    path = path + (change * (shown - jax.lax.stop_gradient(shown))[..., None, :]).sum(-1)
    decided = (change**2 * (chance * (1 - chance))[..., None, :]).sum(-1)
    return path, decided + _spread(jax.lax.stop_gradient(soft), variance)


def _split(chain: Chain) -> tuple[Chain, Chain] | None:
    """Whether logits are shown, and what they are then; None if no decisions alone hide them."""
    hidden = {case: _is_hidden(form) for case, form in chain.cases.items()}
    shown = [form for case, form in chain.cases.items() if not hidden[case]]
    if not any(hidden.values()) or not shown or not all(_is_same(form, shown[0]) for form in shown):
        return None
    cases: dict[tuple[bool, ...], Form] = {case: Constant(np.bool_(not one)) for case, one in hidden.items()}
    decisions = Chain(None, chain.decisions, cases, chain.shape, np.dtype(bool))
    return decisions, Chain(chain.base, (), {(): shown[0]}, chain.shape, chain.dtype)


def _is_same(a: Form, b: Form) -> bool:
    return a is b or (type(a) is type(b) and all(x is y for x, y in zip(a, b, strict=True)))


def _is_hidden(form: Form) -> bool:
    return isinstance(form, Constant) and np.ndim(form.value) == 0 and _is_lowest(form.value)


def _is_lowest(value: Value) -> bool:
    return isinstance(value, np.generic) and float(value) < _HIDDEN
