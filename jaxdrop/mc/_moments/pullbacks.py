"""Covariance of the outputs by pulling each of them back to the sources of randomness.

With J the derivatives of the outputs in the sources, of variances r, it is `J diag(r) J^T`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

# From perturbations of the sources to the mean path `[K]`, and the variances of the sources.
Path = Callable[[list[jax.Array]], tuple[jax.Array, list[jax.Array]]]


class Found(NamedTuple):
    """Moments of K outputs.

    Attributes:
      mean: The means, `[K]`.
      variance: The variances, `[K]`.
      covariance: The covariance, `[K, K]`, or None.
      shares: The parts of the variances that each group of sources makes, `[G, K]`.
    """

    mean: jax.Array
    variance: jax.Array
    covariance: jax.Array | None
    shares: jax.Array


def moments(
    path: Path, shapes: Sequence[tuple[int, ...]], groups: Sequence[int], count: int, covariance: bool
) -> Found:
    """The moments of the outputs of a mean path.

    Args:
      path: The mean path.
      shapes: The shapes of the sources.
      groups: The group of each source, from 0 on.
      count: The number of groups.
      covariance: Whether to compute covariances, or variances alone.
    """
    zeros = [jnp.zeros(shape, jnp.float32) for shape in shapes]
    mean, pull, variances = jax.vjp(path, zeros, has_aux=True)
    roots = [jnp.sqrt(variance) for variance in variances]

    def pulled(output: jax.Array) -> tuple[jax.Array, jax.Array]:
        (slopes,) = pull(output)
        scaled = [(slope * root).reshape(-1) for slope, root in zip(slopes, roots, strict=True)]
        parts = jnp.zeros(count, jnp.float32)
        for group, one in zip(groups, scaled, strict=True):
            parts = parts.at[group].add(jnp.sum(one**2))
        return parts, jnp.concatenate(scaled) if covariance else jnp.zeros(0)

    # A loop: under `vmap` over the outputs, XLA would compute the means anew for each of them.
    shares, rows = jax.lax.map(pulled, jnp.eye(mean.size, dtype=jnp.float32))
    found = jnp.einsum("ki,li->kl", rows, rows, precision="highest") if covariance else None
    return Found(mean, shares.sum(1), found, shares.T)
