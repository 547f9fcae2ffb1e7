"""Reducers of samples in balanced sets, made of those that a caller gave."""

from dataclasses import replace
from functools import partial

import jax

from jaxdrop._types import PyTree
from jaxdrop.mc import _trees
from jaxdrop.mc.reducers import Grouped, Part, Reducer
from jaxdrop.mc.reducers._in_sets import InSets, size_of_state


def in_sets(reducers: PyTree, size: int) -> PyTree:
    """The reducers with standard errors between sets of samples of a size."""
    return _trees.map_reducers(partial(_in_sets, size), reducers)


def of_state(reducers: PyTree, reduced: PyTree) -> PyTree:
    """The reducers as the states of `accumulate` are of them: a state tells its own design."""

    def of(one: Reducer, state: PyTree) -> Reducer:
        size = size_of_state(state)
        return one if size is None else _in_sets(size, one)

    return _trees.map_reducers(of, reducers, reduced)


def size_of(reducers: PyTree) -> int | None:
    """The size of the sets that reducers have standard errors between; None if samples are independent."""
    sizes = _trees.map_reducers(lambda one: getattr(_trees.inner(one), "size", None), reducers)
    return max(jax.tree.leaves(sizes), default=None)


def _in_sets(size: int, one: Reducer) -> Reducer:
    if isinstance(one, Part):
        return replace(one, reducer=_in_sets(size, one.reducer))
    if not isinstance(one, Grouped):
        raise TypeError(
            "`reducers` must have `groups` with `balanced`, such as `Moments()`, as standard errors are "
            f"between sets of samples, got {type(one).__name__}."
        )
    return InSets(one, size)
