"""Which images of a pool to have labelled next: every method from the same samples."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxdrop import uncertainty

RANDOM = "random"
# From a key, probabilities `[T, pool, K]`, which images have no label yet `[pool]`, and how many to choose.
Choice = Callable[[chex.PRNGKey, jax.Array, jax.Array, int], jax.Array]
# Of how many images BatchBALD chooses: those of the highest BALD. No other image could add more than its
# own BALD to a batch.
CANDIDATES = 400


def _random(key: chex.PRNGKey, probs: jax.Array, free: jax.Array, num: int) -> jax.Array:
    return _best(jax.random.uniform(key, free.shape), free, num)


def _batch_bald(key: chex.PRNGKey, probs: jax.Array, free: jax.Array, num: int) -> jax.Array:
    # At most half the pool, so that there are as many without labels.
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
