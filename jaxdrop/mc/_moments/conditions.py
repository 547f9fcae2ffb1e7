"""Moments over the values of a few decisions, from those given each value: for masks of whole examples.

One decision that scales a whole branch, as in stochastic depth, makes outputs that are far from linear in it.
So the program is analyzed for each value z of such decisions. The mean is then E m(z) and the covariance
E Cov(y | z) + Cov m(z), where m(z) is the mean given z.

Many decisions have too many values. Those that differ from the most probable one in more than a few
decisions are then left out: m(z) is expanded in joint effects of a few decisions, and the mean of Cov(y | z)
is taken over the values that are analyzed.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop.mc._moments.pullbacks import Found

# At most so many values are analyzed: all of five decisions, pairs of eight.
_MOST_VALUES = 40
_LEAST_ORDER = 2
MOST_DECISIONS = 8

# Decisions, by their place.
Subset = tuple[int, ...]


def subsets(count: int) -> list[Subset]:
    """The sets of decisions that get other values than the most probable ones, the empty one first.

    There is none if there are no decisions.
    """
    if count > MOST_DECISIONS:
        raise ValueError(
            f"`predict` must make at most {MOST_DECISIONS} decisions for whole examples, as by `drop_path`, "
            f"got {count}; `mc.estimate` samples it."
        )
    for order in range(count if count else -1, min(_LEAST_ORDER, count) - 1, -1):
        if sum(math.comb(count, size) for size in range(order + 1)) <= _MOST_VALUES:
            return [one for size in range(order + 1) for one in itertools.combinations(range(count), size)]
    return []


def rule(sets: Sequence[Subset], count: int) -> str | None:
    """The approximate rule for so many decisions; None if the sets are all that there are."""
    return "decisions: joint effects of three or more left out" if 0 < len(sets) < 2**count else None


def values(sets: Sequence[Subset], chances: jax.Array) -> jax.Array:
    """The values of the decisions of these probabilities `[n]`, for each set, `[M, n]`."""
    return jnp.asarray(_differing(sets, len(chances))) != (chances >= 0.5)[None]


def combined(given: Found, sets: Sequence[Subset], chances: jax.Array, groups: Sequence[int]) -> Found:
    """The moments over the decisions.

    Args:
      given: The moments given the values of each set, with a leading axis `[M]`.
      sets: The sets of decisions.
      chances: The probabilities of the decisions, `[n]`.
      groups: The group of each decision, and last that of what several make together.
    """
    other = jnp.minimum(chances, 1 - chances)
    weights = _weights(sets, other)
    within = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), given)
    effects = _effects(given.mean, sets, other)
    shares, covariance = within.shares, within.covariance
    for one, effect in zip(sets[1:], effects[1:], strict=True):
        spread = math.prod(other[place] * (1 - other[place]) for place in one)
        group = groups[one[0]] if len(one) == 1 else groups[-1]
        shares = shares.at[group].add(spread * effect**2)
        if covariance is not None:
            covariance = covariance + spread * jnp.outer(effect, effect)
    return Found(effects[0], shares.sum(0), covariance, shares)


def _differing(sets: Sequence[Subset], count: int) -> np.ndarray:
    """Whether each decision is in each set, `[M, n]`."""
    return np.array([[place in one for place in range(count)] for one in sets])


def _weights(sets: Sequence[Subset], other: jax.Array) -> jax.Array:
    """The probabilities of the values that are analyzed, as shares of their sum, `[M]`."""
    found = jnp.prod(jnp.where(_differing(sets, len(other)), other[None], 1 - other[None]), 1)
    return found / found.sum()


def _effects(means: jax.Array, sets: Sequence[Subset], other: jax.Array) -> jax.Array:
    """The mean, and the joint effect of each set of decisions, as deviations from their means, `[M, K]`."""
    within = np.array([[set(small) <= set(large) for small in sets] for large in sets])
    sizes = np.array([len(one) for one in sets])
    signs = np.where(within, (-1.0) ** (sizes[:, None] - sizes), 0).astype(np.float32)
    differences = jnp.tensordot(signs, means, 1)
    missing = np.array(
        [
            [[place in large and place not in small for place in range(len(other))] for large in sets]
            for small in sets
        ]
    )
    factors = jnp.where(within.T, jnp.prod(jnp.where(missing, other[None, None], 1), -1), 0)
    return jnp.tensordot(factors, differences, 1)
