"""Draws of a traced program: the calls of functions of `jax.random` whose laws are known.

Others, such as `jax.random.gumbel`, are made of these.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import PyTree
from jaxdrop.mc import _dependence
from jaxdrop.mc._moments import elementwise, forms, keys
from jaxdrop.mc._moments.forms import Affine
from jaxdrop.mc._moments.values import Chain, KeyValue, Random, RefusalError, is_random, wide
from jaxdrop.mc._moments.walk import Walk

# The names of the jitted functions that draw, and what they draw.
LAWS = {"_bernoulli": "bernoulli", "_normal": "normal", "_uniform": "uniform"}
_CALLS = frozenset({"jit", "pjit"})
_UNIFORM_VARIANCE = np.float32(1 / 12)


def drawn(walk: Walk, eqn: jex.JaxprEqn, values: Sequence[PyTree]) -> PyTree:
    """The outcome of a draw; None if the equation is no draw."""
    kind = LAWS.get(eqn.params.get("name", "")) if eqn.primitive.name in _CALLS else None
    if kind is None or not values or not isinstance(values[0], KeyValue):
        return None
    aval = forms.kind(eqn.outvars[0])
    if len(eqn.outvars) != 1 or jnp.issubdtype(aval.dtype, jnp.complexfloating):
        return None
    rate = values[1] if kind == "bernoulli" else None
    if not _is_drawn_whole(eqn):
        raise walk.refusal(eqn, f"a `{kind}` draw whose numbers are shared between rates or ends")
    use = kind, aval.shape, aval.dtype, float(rate) if isinstance(rate, np.generic) else None
    try:
        identity, looped = keys.identity(values[0])
        number = walk.registry.number(identity, use, [*walk.equations, eqn], kind)
    except RefusalError as error:
        raise walk.refusal(eqn, str(error)) from None
    if (decision := walk.decision(number)) is not None:
        return jnp.broadcast_to(decision, aval.shape)
    if number not in walk.drawn:
        noise = _noise(walk, number, aval.shape, looped)
        walk.drawn[number] = _array(walk, kind, values[1:], noise, number), rate
    found, first_rate = walk.drawn[number]
    if rate is not first_rate and use[-1] is None and kind == "bernoulli":
        raise walk.refusal(eqn, "a key that is used twice, with rates that are not known to be equal")
    return _between(found, values[1:]) if kind == "uniform" else found


def _is_drawn_whole(eqn: jex.JaxprEqn) -> bool:
    """Whether a draw has random bits for each of its numbers; `jax.vmap` over a rate alone shares them."""
    size = forms.kind(eqn.outvars[0]).size
    return all(forms.kind(one.outvars[0]).size == size for one in _bits(eqn.params["jaxpr"].jaxpr))


def _bits(jaxpr: jex.Jaxpr) -> Iterator[jex.JaxprEqn]:
    """The equations of a program that draw bits."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "random_bits":
            yield eqn
        elif (inner := _dependence.called(eqn)) is not None:
            yield from _bits(inner)


def _noise(walk: Walk, number: int, shape: tuple[int, ...], looped: bool) -> jax.Array | np.ndarray:
    """The perturbation of a draw; one that is the same in all steps of a loop is made outside of it."""
    if walk.outer is None or looped:
        if walk.outer is not None:
            walk.registry.mark_looped(number)
        return walk.standard(number, shape)
    return _noise(walk.outer, number, shape, looped)


def _array(
    walk: Walk, kind: str, operands: Sequence[PyTree], noise: jax.Array | np.ndarray, number: int
) -> Random:
    draws, spread = frozenset({number}), walk.spread
    if kind == "normal":
        return Random(jnp.asarray(noise), spread(jnp.ones_like(noise)), draws, "normal", True, True)
    if kind == "uniform":
        variance = jnp.full_like(noise, _UNIFORM_VARIANCE)
        mean = np.float32(0.5) + np.sqrt(_UNIFORM_VARIANCE) * jnp.asarray(noise)
        return Random(mean, spread(variance), draws, "uniform", True, True)
    (chance,) = operands
    p = elementwise.settle(walk, chance)
    if walk.outer is None and noise.size == 1 and not isinstance(p, Random):
        walk.chances[number] = jnp.asarray(wide(p), jnp.float32).reshape(())
    path = p.mean if isinstance(p, Random) else jnp.asarray(wide(p), jnp.float32)
    value = jax.lax.stop_gradient(path)
    variance = jnp.broadcast_to(value * (1 - value), noise.shape)
    # No gradient of the root, which is infinite at 0.
    root = jax.lax.stop_gradient(jnp.sqrt(jnp.maximum(variance, 0)))
    mean = jnp.broadcast_to(path, noise.shape) + root * noise
    if not isinstance(p, Random):
        return Random(mean, spread(variance), draws, "decision", True, True)
    made = chance if isinstance(chance, Chain) and not chance.decisions and not _is_fixed(chance) else None
    return Random(mean, spread(variance), draws | p.draws, "decision", False, p.exact, made)


def _is_fixed(chain: Chain) -> bool:
    return chain.base is None


def _between(found: Random, ends: Sequence[PyTree]) -> Random | Chain:
    """Uniform draws between two known ends."""
    if len(ends) != 2 or any(is_random(end) or isinstance(end, KeyValue) for end in ends):
        raise RefusalError("`predict` must draw uniformly between known ends, got random ends.")
    if all(isinstance(end, np.generic) for end in ends) and (*map(float, ends),) == (0, 1):
        return found
    low, high = (wide(end) for end in ends)
    form = Affine(high - low, low)
    return Chain(found, (), {(): form}, found.shape, found.mean.dtype)
