"""Deviations of arrays along a few fixed directions of the sources.

The variances that a walk carries on take the terms of a sum as uncorrelated, which fails in attention: all
logits of a query move together, and queries, keys and values depend on the same draws. So where a program
has attention, the linear part of every array is evaluated along R directions, each of them a sign for every
source. The mean over directions of the product of two deviations is the covariance of the two numbers, with
an error of about one over the root of R. The signs are fixed: the moments depend on the program alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop.mc._moments.values import Random

# The number of directions; one costs about as much as a forward pass.
COUNT = 16


@dataclass(eq=False)
class Survey:
    """The arrays on which rules for dependent arrays rest.

    Attributes:
      found: The deviations of the arrays, in the order of those, `[R, ...]`; None while they are unknown.
      wanted: Whether the program has a step for which variances are not enough.
      arrays: The arrays so far.
    """

    found: Sequence[jax.Array] | None = None
    wanted: bool = False
    arrays: list[Random] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)

    def of(self, array: Random) -> jax.Array | None:
        """The deviations of an array; None while they are unknown."""
        if id(array) not in self._places:
            self._places[id(array)] = len(self.arrays)
            self.arrays.append(array)
        return None if self.found is None else self.found[self._places[id(array)]]


def directions(shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
    """Signs for sources of these shapes, `[R, ...]`, the same in every call."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    key = jax.random.key(0, impl="threefry2x32")
    signs = jax.random.rademacher(key, (COUNT, ends[-1]), jnp.float32)
    parts = jnp.split(signs, ends[:-1], axis=1)
    return [part.reshape(COUNT, *shape) for part, shape in zip(parts, shapes, strict=True)]


class Softmax(NamedTuple):
    """The moments of a softmax along its last axis.

    Attributes:
      mean: The means.
      odd: The odd parts of its deviations, `[R, ...]`.
      even: The even parts, with the mean in them, `[R, ...]`.
      rest: The variances of what the slopes leave of the odd parts.
    """

    mean: jax.Array
    odd: jax.Array
    even: jax.Array
    rest: jax.Array

    def linear(self, deviation: jax.Array) -> jax.Array:
        """A deviation times the mean slopes: those of the mean less the odd part's covariance."""
        own = self.mean * (deviation - jnp.sum(self.mean * deviation, -1, keepdims=True))
        weights = jnp.sum(self.odd * deviation[None], -1, keepdims=True)
        return own - jnp.mean(weights * self.odd, 0)


def of_softmax(logits: jax.Array, deviations: jax.Array) -> Softmax:
    """The moments of a softmax of logits with deviations `[R, ...]`, each in both directions."""
    up, down = (jax.nn.softmax(logits[None] + sign * deviations) for sign in (1, -1))
    even, odd = (up + down) / 2, (up - down) / 2
    found = Softmax(jnp.mean(even, 0), odd, even, jnp.zeros_like(logits))
    return found._replace(rest=jnp.mean((odd - jax.lax.map(found.linear, deviations)) ** 2, 0))
