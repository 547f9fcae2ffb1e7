"""The arguments of the table of calls on meshes of the axes "a", of examples, and "b", of features."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrop._types import PyTree
from tests.calls.arrays import KERNEL, LOGITS

# Calls that Flax itself refuses on an explicit mesh, with or without a wrapper.
OF_FLAX = {"linen.EmbeddingDropout", "nnx.EmbeddingDropout"}


def partition(leaf: jax.Array, features: str | None = "b") -> PartitionSpec:
    """Examples over "a"; features, and the rows of a kernel, over "b" where that divides them."""
    shape = np.shape(leaf)
    if shape[-2:] == KERNEL.shape:
        return PartitionSpec(*(None,) * (len(shape) - 2), features, None)
    if shape == LOGITS.shape:
        return PartitionSpec(None, "a")
    if shape[:1] != (8,):
        return PartitionSpec()
    last = features if len(shape) > 1 and shape[-1] % 2 == 0 else None
    return PartitionSpec("a", *(None,) * (len(shape) - 2), *([last] if len(shape) > 1 else []))


def placed(mesh: Mesh, args: PyTree, features: str | None = "b") -> PyTree:
    """The arguments on the devices of a mesh of both axes."""
    return jax.tree.map(
        lambda leaf: jax.device_put(leaf, NamedSharding(mesh, partition(leaf, features))), args
    )
