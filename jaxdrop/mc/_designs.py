"""Counts and functions of predictors that are told the numbers of their samples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxdrop._types import PyTree


def count_rows(tree: PyTree, name: str) -> int:
    """The size of the leading axis that the arrays of a tree share."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        found = ", ".join(sorted(str(size[0]) if size else "none" for size in sizes)) or "no arrays"
        raise ValueError(f"`{name}` must hold arrays that share one non-empty leading axis, got {found}.")
    ((count,),) = sizes
    return count


def as_partial(function: Callable[..., PyTree], expected: str) -> jax.tree_util.Partial:
    """A function as a pytree, so that predictors made of it share programs."""
    if not callable(function):
        raise TypeError(f"`predict` must be {expected}, got {type(function).__name__}.")
    return function if isinstance(function, jax.tree_util.Partial) else jax.tree_util.Partial(function)


class Design(NamedTuple):
    """The counts of an `Indexed`."""

    max_samples: int | None
    clusters: int | None
