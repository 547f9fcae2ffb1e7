"""Devices: which mesh axes samples and examples are sharded over."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdrop._meshes import Axes, check_no_spec, chosen_axes, on_automatic_axes
from jaxdrop._types import PyTree

SAMPLES, BATCH = "samples", "batch"
_FREE = PartitionSpec.UNCONSTRAINED
_WHOLE = PartitionSpec()


class Layout(NamedTuple):
    """The devices, and the mesh axes of samples and examples; static. Other axes are the compiler's.

    Attributes:
      mesh: The devices.
      samples: The mesh axes that samples are sharded over.
      batch: The mesh axes that examples are sharded over.
    """

    mesh: Mesh
    samples: Axes
    batch: Axes

    def shards(self, axes: Axes) -> int:
        """The number of shards over some axes."""
        return int(np.prod([self.mesh.shape[axis] for axis in axes], dtype=int))


def make_layout(mesh: Mesh | None, spec: PartitionSpec | None, batch: int) -> Layout | None:
    """Checks a mesh and the axes it is used by; None for no mesh."""
    if mesh is None:
        check_no_spec(spec)
        return None
    entries = "two entries, of samples and of examples"
    layout = Layout(mesh, *chosen_axes(mesh, spec, (SAMPLES, BATCH), entries))
    parts = layout.shards(layout.batch)
    if batch % parts:
        axes = ", ".join(layout.batch)
        raise ValueError(
            f"`x` must have a multiple of {parts} examples, the size of the mesh axes of the examples "
            f"({axes}), got {batch}."
        )
    return layout


def shard(tree: PyTree, layout: Layout | None, *leading: str) -> PyTree:
    """The tree with its leading axes, "samples" or "batch", sharded; other axes are the compiler's."""
    if layout is None:
        return tree
    auto, sizes = _automatic(layout.mesh), [getattr(layout, name) or _FREE for name in leading]

    def constrained(leaf: jax.Array) -> jax.Array:
        spec = PartitionSpec(*sizes, *(_FREE,) * (np.ndim(leaf) - len(sizes)))
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(auto, spec))

    return jax.tree.map(constrained, tree)


def put(examples: PyTree, layout: Layout | None) -> PyTree:
    """Examples on their way to the devices; those of a mesh of many processes stay where they are."""
    if layout is None:
        return jax.device_put(examples)
    if is_of_many_processes(layout.mesh):
        return examples
    return jax.device_put(examples, NamedSharding(_automatic(layout.mesh), PartitionSpec(layout.batch)))


def is_of_many_processes(mesh: Mesh | None) -> bool:
    """Whether the devices of a mesh belong to more than one process."""
    return mesh is not None and len({device.process_index for device in mesh.devices.flat}) > 1


def _automatic(mesh: Mesh) -> Mesh:
    """The mesh with all axes left to the compiler."""
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def shard_examples(tree: PyTree, layout: Layout | None, batch: int) -> PyTree:
    """The tree with its arrays `[B, ...]` sharded over the examples."""
    return tree if layout is None else _shard_examples(tree, layout, batch)


@partial(jax.jit, static_argnames=("layout", "batch"))
def _shard_examples(tree: PyTree, layout: Layout, batch: int) -> PyTree:
    def is_of_examples(leaf: jax.Array) -> bool:
        return leaf.shape[:1] == (batch,)

    def run(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: shard(leaf, layout, BATCH) if is_of_examples(leaf) else leaf, tree)

    examples = PartitionSpec(layout.batch)
    out = jax.tree.map(lambda leaf: examples if is_of_examples(leaf) else _WHOLE, tree)
    return on_automatic_axes(run, tree, out=out)
