"""Whether a function returns its arguments as they are, read from its program."""

from collections.abc import Callable

import jax
from jax.extend.core import Jaxpr, Literal, Var

from jaxdrop._types import PyTree
from jaxdrop.mc import _dependence


def is_forwarded(fun: Callable[..., PyTree], first: PyTree, *others: PyTree) -> list[bool]:
    """Whether each leaf of `fun(first, *others)` is the leaf of `first` at its place."""
    closed = jax.make_jaxpr(fun)(first, *others)
    return [source == place for place, source in enumerate(_sources(closed.jaxpr))]


def _sources(jaxpr: Jaxpr) -> list[int | None]:
    """For each output the number of the input that it is, through the functions that are called."""
    known: dict[Var, int] = {var: number for number, var in enumerate(jaxpr.invars)}

    def source(atom: Var | Literal) -> int | None:
        return None if isinstance(atom, Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        inner = _dependence.called(eqn)
        # The parts of an array in `shard_map` are not the array.
        if inner is not None and eqn.primitive.name != "shard_map":
            for out, number in zip(eqn.outvars, _sources(inner), strict=True):
                outer = None if number is None else source(eqn.invars[number])
                if outer is not None:
                    known[out] = outer
    return [source(atom) for atom in jaxpr.outvars]
