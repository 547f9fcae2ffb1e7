"""Batches, rows and first weights of many runs that train in one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from jaxdrop import training

Tree = TypeVar("Tree")
# From parameters, inputs and a key to logits.
Network = Callable[[Any, jax.Array, jax.Array], jax.Array]


def draw_batch(key: jax.Array, count: int, size: jax.typing.ArrayLike) -> jax.Array:
    """Draws `count` integers below `size`, with replacement; the bias of the modulus is at most 2**-16."""
    return (jax.random.bits(key, (count,)) % jnp.uint32(size)).astype(jnp.int32)


def draw_rows(
    seed: int, seeds: int, size: int, *, train: int, valid: int, probe: int | None = None
) -> dict[str, np.ndarray]:
    """Draws disjoint training and validation rows of `size` rows for each seed, `[seeds, ...]`.

    "probe" is the head of "train", by default as many rows as "valid".

    Raises:
      BadInputError: If there are fewer rows than `train` and `valid` together.
    """
    if train + valid > size:
        raise cli.BadInputError(
            f"`dataset` must have at least {train + valid} development examples, got {size}."
        )
    draws = np.stack([np.random.default_rng(seed + i).permutation(size) for i in range(seeds)])
    draws = draws.astype(np.int32)
    head = draws[:, :train]
    tail = draws[:, train : train + valid]
    return {"train": head, "probe": head[:, : valid if probe is None else probe], "valid": tail}


def seed_keys(seed: int, seeds: int, settings: int = 1) -> jax.Array:
    """Keys of every setting with every seed; seeds run fastest, settings share them."""
    return jax.vmap(jax.random.key)(jnp.tile(jnp.arange(seed, seed + seeds), settings))


def stack(draws: Sequence[Tree], settings: int = 1) -> Tree:
    """Stacks the first weights of the seeds, repeated for each setting; seeds run fastest."""
    return jax.tree.map(
        lambda *leaves: jnp.asarray(np.stack(leaves * settings), jnp.float32), draws[0], *draws[1:]
    )


def cross_entropy(apply: Network, rows: Callable[[jax.Array], jax.Array]) -> training.LossFn:
    """Mean cross-entropy of a random batch of `(inputs, labels)`.

    Args:
      apply: The network with its noise.
      rows: From a key to the rows of a batch.
    """

    def loss_fn(params: optax.Params, key: jax.Array, pool: tuple) -> tuple[jax.Array, tuple]:
        batch_key, noise_key = jax.random.split(key)
        chosen = rows(batch_key)
        logits = apply(params, pool[0][chosen], noise_key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, pool[1][chosen]).mean(), ()

    return loss_fn
