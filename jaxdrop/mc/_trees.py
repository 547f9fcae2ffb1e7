"""Trees of reducers, and the trees of their states and estimates."""

import itertools
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp

from jaxdrop._types import PyTree
from jaxdrop.mc.reducers import Part, Reducer
from jaxdrop.mc.reducers._grouped import explain_nan


def map_reducers(fun: Callable[..., PyTree], reducers: PyTree, *states: PyTree) -> PyTree:
    """Calls a function with each reducer and its part of each state."""
    return jax.tree.map(fun, reducers, *states, is_leaf=lambda one: hasattr(one, "summarize"))


def check_reducer(one: object) -> Reducer:
    """A reducer, not its class."""
    if isinstance(one, type) or not hasattr(one, "summarize"):
        raise TypeError(f"`reducers` must be a reducer, such as `Moments()`, or a tree of them, got {one!r}.")
    return cast(Reducer, one)


def clusters(reducers: PyTree) -> int | None:
    """The least number of clusters that reducers have standard errors of; None if there are none."""
    found = jax.tree.leaves(map_reducers(lambda one: getattr(inner(one), "clusters", None), reducers))
    return min(found, default=None)


def check_clusters(reducers: PyTree, count: int | None) -> None:
    """Checks that the clusters of all reducers are those of the predictor."""
    if count == 1:
        raise ValueError(
            "`predict` must have at least 2 clusters, as standard errors are between clusters, got 1: an "
            "ensemble of one network is that network, a predictor without `ensemble`."
        )

    def check(one: Reducer) -> None:
        found = getattr(inner(one), "clusters", None)
        if found == count:
            return
        kind = type(inner(one)).__name__
        if count is None:
            raise ValueError(
                f"`reducers` must not be `Clustered` for independent samples, got {found} clusters."
            )
        got = f"{kind} without any" if found is None else str(found)
        raise ValueError(
            f"`reducers` must be `Clustered` in {count} clusters, as the samples of `predict` are, so that "
            f"standard errors are between clusters, got {got}."
        )

    map_reducers(check, reducers)


def inner(one: Reducer) -> Reducer:
    """The reducer of a part."""
    return inner(one.reducer) if isinstance(one, Part) else one


def check_values(reducers: PyTree, value: PyTree, has_nan: bool) -> None:
    """Lets each reducer check its concrete estimates, and explain a NaN."""
    if has_nan:
        map_reducers(explain_nan, reducers, value)
    map_reducers(lambda one, estimates: one.check_values(estimates), reducers, value)


def check_alike(state: PyTree, like: PyTree, name: str, of: str) -> None:
    """Compares paths, shapes and dtypes, leaf by leaf."""
    for found, expected in itertools.zip_longest(_leaves(state), _leaves(like), fillvalue="nothing"):
        if found != expected:
            raise ValueError(f"`{name}` must be a state of {of}, with {expected}, got {found}.")


def has_nan(samples: PyTree) -> jax.Array:
    """For each sample, whether any of its outputs is NaN."""
    real = [leaf for leaf in jax.tree.leaves(samples) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    found = [jnp.isnan(leaf).reshape(leaf.shape[0], -1).any(-1) for leaf in real]
    return jnp.stack(found).any(0) if found else jnp.zeros((), bool)


def any_nan(tree: PyTree) -> jax.Array:
    """Whether anything in a tree is NaN."""
    found = [
        jnp.isnan(leaf).any() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.stack(found).any() if found else jnp.zeros((), bool)


def _leaves(state: PyTree) -> list[str]:
    """The dtype, shape and path of each leaf."""
    return [
        f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))} at {jax.tree_util.keystr(path)}"
        for path, leaf in jax.tree.leaves_with_path(state)
    ]
