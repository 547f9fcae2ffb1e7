"""Acquisition: which images of a pool to label next, from Monte-Carlo samples."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxdrop import uncertainty

RANDOM = "random"
# From a key, probabilities `[T, pool, K]`, a mask of unlabeled images `[pool]` and a number to their places.
Choice = Callable[[chex.PRNGKey, jax.Array, jax.Array, int], jax.Array]
# BatchBALD chooses among this many images, those of the highest BALD: an image adds at most its BALD to a
# batch.
CANDIDATES = 400


def _random(key: chex.PRNGKey, probs: jax.Array, free: jax.Array, num: int) -> jax.Array:
    return _best(jax.random.uniform(key, free.shape), free, num)


def _batch_bald(key: chex.PRNGKey, probs: jax.Array, free: jax.Array, num: int) -> jax.Array:
    # At most half the pool, of which at least as many are unlabeled.
    candidates = _best(uncertainty.bald(probs), free, min(CANDIDATES, len(free) // 2))
    return candidates[uncertainty.batch_bald(key, probs[:, candidates], num).indices]


def _by(score: Callable[[jax.Array], jax.Array]) -> Choice:
    return lambda _, probs, free, num: _best(score(probs), free, num)


def _best(scores: jax.Array, free: jax.Array, num: int) -> jax.Array:
    return uncertainty.top(jnp.where(free, scores, -jnp.inf), num).indices


METHODS: dict[str, Choice] = {
    RANDOM: _random,
    "max entropy": _by(uncertainty.max_entropy),
    "variation ratio": _by(uncertainty.variation_ratio),
    "BALD": _by(uncertainty.bald),
    "BatchBALD": _batch_bald,
}
