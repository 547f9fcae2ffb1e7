"""Explicit meshes: computations left to the compiler, whose results have a stated sharding."""

import math
from collections.abc import Callable

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxdrop._types import PyTree

WHOLE = PartitionSpec()


def on_automatic_axes(fun: Callable[..., PyTree], *args: PyTree, out: PyTree = WHOLE) -> PyTree:
    """`fun(*args)`, with explicit mesh axes left to the compiler.

    The results are explicit again, sharded by `out`, a partition or a tree of them.
    """
    explicit = _explicit_mesh(*args)
    if explicit is None:
        return fun(*args)

    def only_explicit(spec: PartitionSpec) -> PartitionSpec:
        kept = [tuple(axis for axis in axes if axis in explicit.explicit_axes) for axes in map(_names, spec)]
        return PartitionSpec(*(axes or None for axes in kept))

    out = jax.tree.map(only_explicit, out, is_leaf=lambda one: isinstance(one, PartitionSpec))
    with jax.sharding.use_abstract_mesh(explicit):
        return jax.sharding.auto_axes(fun, out_sharding=out)(*args)


def partition(x: jax.Array) -> PartitionSpec:
    """How an array is sharded over explicit mesh axes."""
    return jax.typeof(x).sharding.spec


def shards(axes: str | tuple[str, ...], x: jax.Array) -> int:
    """The number of shards over some axes of an array's mesh."""
    return math.prod(jax.typeof(x).sharding.mesh.shape[axis] for axis in _names(axes))


def like(x: jax.Array, other: jax.Array) -> jax.Array:
    """An array of the shape of another, sharded like it on an explicit mesh."""
    if _explicit_mesh(x, other) is None or partition(x) == partition(other):
        return x
    return on_automatic_axes(lambda x: x, x, out=partition(other))


def of_product(x: jax.Array, kernel: jax.Array) -> NamedSharding | None:
    """The partition of `x @ kernel`: of the rows of `x`, and of the columns of `kernel` over other axes."""
    mesh = _explicit_mesh(x, kernel)
    if mesh is None:
        return None
    rows, columns = partition(x)[:-1], partition(kernel)[-1]
    used = {axis for axes in rows for axis in _names(axes)}
    return NamedSharding(mesh, PartitionSpec(*rows, None if used & set(_names(columns)) else columns))


def _explicit_mesh(*args: PyTree) -> jax.sharding.AbstractMesh | None:
    """The mesh with explicit axes that is set, or that an array lies on."""
    types = (jax.typeof(leaf) for leaf in jax.tree.leaves(args))
    meshes = [jax.sharding.get_abstract_mesh(), *(kind.sharding.mesh for kind in types)]
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def _names(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()
