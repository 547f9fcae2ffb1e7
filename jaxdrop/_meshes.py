"""Meshes: the axes that an argument names; on explicit meshes, computations left to the compiler."""

import math
from collections.abc import Callable

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrop._types import PyTree

WHOLE = PartitionSpec()
# Mesh axes that one axis of an array is sharded over.
Axes = tuple[str, ...]


def chosen_axes(mesh: Mesh, spec: PartitionSpec | None, names: tuple[str, ...], entries: str) -> list[Axes]:
    """The mesh axes of each role, chosen by `spec`, by default those that have the roles' names; checked.

    Args:
      mesh: The devices.
      spec: The user's argument, an entry for each role.
      names: The axes' names by default.
      entries: How many entries `spec` has at most and what they are, in words.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(f"`mesh` must be a `jax.sharding.Mesh`, got a {type(mesh).__name__}.")
    if spec is None:
        if not set(names) & set(mesh.axis_names):
            raise ValueError(
                f"`mesh` must have an axis named {' or '.join(map(repr, names))}, or `spec` must name the "
                f"axes to use, got {_listed(mesh.axis_names)}."
            )
        return [(name,) if name in mesh.axis_names else () for name in names]
    if not isinstance(spec, PartitionSpec):
        raise TypeError(f"`spec` must be a `jax.sharding.PartitionSpec`, got a {type(spec).__name__}.")
    if len(spec) > len(names):
        raise ValueError(f"`spec` must have at most {entries}, got {spec}.")
    chosen = [names_of(entry) for entry in (*spec, *(None,) * (len(names) - len(spec)))]
    named = [axis for axes in chosen for axis in axes]
    if not set(named) <= set(mesh.axis_names) or len(set(named)) < len(named):
        raise ValueError(
            f"`spec` must name axes of `mesh` ({_listed(mesh.axis_names)}), each once at most, got {spec}."
        )
    return chosen


def check_no_spec(spec: PartitionSpec | None) -> None:
    """Raises if a `spec` is given without a mesh."""
    if spec is not None:
        raise ValueError(f"`spec` must be given with a `mesh`, got {spec} alone.")


def on_automatic_axes(fun: Callable[..., PyTree], *args: PyTree, out: PyTree = WHOLE) -> PyTree:
    """`fun(*args)`, with explicit mesh axes left to the compiler.

    The results are explicit again, sharded by `out`, a partition or a tree of them.
    """
    explicit = _explicit_mesh(*args)
    if explicit is None:
        return fun(*args)

    def only_explicit(spec: PartitionSpec) -> PartitionSpec:
        kept = [
            tuple(axis for axis in axes if axis in explicit.explicit_axes) for axes in map(names_of, spec)
        ]
        return PartitionSpec(*(axes or None for axes in kept))

    out = jax.tree.map(only_explicit, out, is_leaf=lambda one: isinstance(one, PartitionSpec))
    with jax.sharding.use_abstract_mesh(explicit):
        axes = explicit.explicit_axes
        return jax.sharding.auto_axes(fun, axes=axes, out_sharding=out)(*args)


def partition(x: jax.Array) -> PartitionSpec:
    """How an array is sharded over explicit mesh axes."""
    return jax.typeof(x).sharding.spec


def shards(axes: str | tuple[str, ...], x: jax.Array) -> int:
    """The number of shards over some axes of an array's mesh."""
    return math.prod(jax.typeof(x).sharding.mesh.shape[axis] for axis in names_of(axes))


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
    used = {axis for axes in rows for axis in names_of(axes)}
    return NamedSharding(mesh, PartitionSpec(*rows, None if used & set(names_of(columns)) else columns))


def _explicit_mesh(*args: PyTree) -> jax.sharding.AbstractMesh | None:
    """The mesh with explicit axes that is set, or that an array lies on."""
    types = (jax.typeof(leaf) for leaf in jax.tree.leaves(args))
    meshes = [jax.sharding.get_abstract_mesh(), *(kind.sharding.mesh for kind in types)]
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def names_of(axes: str | Axes | None) -> Axes:
    return (axes,) if isinstance(axes, str) else tuple(axes or ())


def _listed(names: Axes) -> str:
    return ", ".join(names) or "none"
