"""Whether a function returns its arguments as they are, read from its program."""

from collections.abc import Callable

import jax
from jax.extend.core import Jaxpr, Literal, Var

from jaxdrop._types import PyTree


def is_forwarded(fun: Callable[..., PyTree], first: PyTree, *others: PyTree) -> list[bool]:
    """Whether each leaf of `fun(first, *others)` is the leaf of `first` at its place."""
    closed = jax.make_jaxpr(fun)(first, *others)
    return [source == place for place, source in enumerate(_sources(closed.jaxpr))]


def _sources(jaxpr: Jaxpr) -> list[int | None]:
    """For each output the number of the input that it is, through compiled and rematerialized functions."""
    known: dict[Var, int] = {var: number for number, var in enumerate(jaxpr.invars)}

    def source(atom: Var | Literal) -> int | None:
        return None if isinstance(atom, Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        inner = eqn.params.get("jaxpr")
        inner = getattr(inner, "jaxpr", inner)  # that of a closed one
        if eqn.primitive.name in _CALLS and inner is not None:
            for out, number in zip(eqn.outvars, _sources(inner), strict=True):
                outer = None if number is None else source(eqn.invars[number])
                if outer is not None:
                    known[out] = outer
    return [source(atom) for atom in jaxpr.outvars]


_CALLS = frozenset({"checkpoint", "closed_call", "jit", "pjit", "remat", "remat2"})
