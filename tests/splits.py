"""Coverage over random splits, and the law that it has if scores are exchangeable and have no ties."""

import math
from collections.abc import Callable

import jax
import numpy as np

from jaxdrop._types import PyTree

SPLITS = 200


def over_splits(one: Callable[[jax.Array], PyTree], seed: int) -> PyTree:
    """The results of 200 splits, in one program."""
    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), SPLITS))
    return jax.tree.map(np.asarray, found)


def band(level: float, fitted: int, new: int) -> tuple[float, float]:
    """The expected coverage and 5 standard errors of its mean over the splits.

    The coverage of one fit has the law Beta(k, n + 1 - k), where k of the n + 1 scores are at most the
    threshold, and the number of new examples that are covered is binomial of that.
    """
    k = math.ceil(round((fitted + 1) * level, 6))
    mean = k / (fitted + 1)
    assert level <= mean <= level + 1 / (fitted + 1)
    variance = mean * (1 - mean) / new * (fitted + 1 + new) / (fitted + 2)
    return mean, 5 * math.sqrt(variance / SPLITS)


def loop_quantile(scores: np.ndarray, percent: int) -> float:
    rank = -(-(len(scores) + 1) * percent // 100)
    return np.sort(scores)[rank - 1] if rank <= len(scores) else np.inf
