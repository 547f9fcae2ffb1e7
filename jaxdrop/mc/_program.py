"""The sampling program of a predictor: its static part, its arrays, its chunks and its devices."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.mc import _prefix

# From a key and inputs `[B, ...]` to outputs `[B, ...]`.
Predict = Callable[[Key, PyTree], PyTree]
# The leaves of a predictor, with None for those that are static.
Arrays = tuple[ArrayLike | None, ...]
# A `jax.tree_util.PyTreeDef`, which type checkers take for a variable.
Structure = PyTree
# Bytes that one chunk may work on: on a CPU it should fit the cache.
_CPU_BYTES = 4 * 2**20
# On other devices it may use one part in so many of the memory.
_MEMORY_SHARE = 8
# The largest chunk that is chosen automatically.
_MOST = 1024
SAMPLES, BATCH = "samples", "batch"
_WHOLE = PartitionSpec()


class Execution(NamedTuple):
    """How a program runs; static.

    Attributes:
      chunk: How many samples are computed at once.
      shared: Whether one draw serves all inputs.
      mesh: The devices; None for one device.
    """

    chunk: int
    shared: bool
    mesh: Mesh | None


class StaticLeaf(NamedTuple):
    """A leaf that is not an array. Its type tells 1 from 1.0, which are equal."""

    kind: type
    value: PyTree


class Program(NamedTuple):
    """The static part of a predictor; hashable.

    Attributes:
      treedef: The structure of the predictor.
      static: Its leaves, with None for those that are arrays.
    """

    treedef: Structure
    static: tuple[StaticLeaf | None, ...]


class Plan(NamedTuple):
    """A predictor split into its static part and its arrays, and facts found by tracing it.

    Attributes:
      program: The static part.
      arrays: The arrays.
      execution: How to run it.
      outputs: The types of one sample.
    """

    program: Program
    arrays: Arrays
    execution: Execution
    outputs: PyTree


class Sampler(NamedTuple):
    """A sampler within a trace.

    Attributes:
      draw: From sample numbers `[C]` to samples `[C, B, ...]`.
      outputs: The types of one sample.
    """

    draw: Callable[[jax.Array], PyTree]
    outputs: PyTree


class _Traced(NamedTuple):
    """Facts about one sample: the bytes of its working set, and the types of its outputs."""

    working_set: int
    outputs: PyTree


def plan(
    predict: Predict,
    key: Key,
    x: PyTree,
    most: int,
    chunk_size: int | None,
    shared: bool,
    mesh: Mesh | None,
) -> Plan:
    """Checks the arguments before any work, and chooses the chunk size."""
    shards = _check_mesh(mesh, _check_batch(x))
    leaves, treedef = jax.tree.flatten(predict)
    static = tuple(None if _is_array(leaf) else StaticLeaf(type(leaf), leaf) for leaf in leaves)
    program = Program(treedef, static)
    arrays = tuple(leaf if _is_array(leaf) else None for leaf in leaves)
    structs, structure = jax.tree.flatten(jax.tree.map(struct, (arrays, key, x)))
    traced = _trace_outputs(program, structure, tuple(structs), shared)
    chunk = _chunk(most, chunk_size, traced.working_set)
    return Plan(program, arrays, Execution(-(-chunk // shards) * shards, bool(shared), mesh), traced.outputs)


def _check_batch(x: PyTree) -> int:
    """The size of the leading axis."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
    if len(sizes) != 1 or not all(size and size[0] for size in sizes):
        shapes = " and ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(x))
        found = f"shapes {shapes}" if shapes else "no arrays"
        raise ValueError(f"`x` must hold arrays that share one non-empty leading axis, got {found}.")
    ((batch,),) = sizes
    return batch


def _chunk(most: int, chunk_size: int | None, sample_bytes: int) -> int:
    """The chunk size, before it is rounded up to the devices."""
    if chunk_size is not None:
        return min(_checks.check_count(chunk_size, "chunk_size"), most)
    chunk = int(np.clip(_budget() // sample_bytes, 1, _MOST))
    # Chunks of equal size, so that the last one draws few samples in vain.
    return -(-most // -(-most // chunk))


@lru_cache(maxsize=256)
def _trace_outputs(
    program: Program,
    structure: Structure,
    structs: tuple[jax.ShapeDtypeStruct, ...],
    shared: bool,
) -> _Traced:
    """Traces one sample."""
    found: list[_Traced] = []

    def trace(arrays: Arrays, key: Key, x: PyTree) -> None:
        parts = _prefix.KeyFreeSplit(function(program, arrays, x, shared), key)
        found.append(_Traced(parts.working_set, parts.outputs))

    jax.eval_shape(trace, *structure.unflatten(structs))
    batch = jax.tree.leaves(structure.unflatten(structs)[2])[0].shape[0]
    _check_rows(found[0].outputs, batch)
    return found[0]


def _check_rows(outputs: PyTree, batch: int) -> None:
    for leaf in jax.tree.leaves(outputs):
        if leaf.shape[:1] != (batch,):
            raise ValueError(
                "`predict` must return arrays with one row per example, got "
                f"{leaf.shape} for a batch of {batch}."
            )


def function(program: Program, arrays: Arrays, x: PyTree, shared: bool) -> Callable[[Key], PyTree]:
    """The prediction as a function of the key alone."""
    pairs = zip(arrays, program.static, strict=True)
    predict = program.treedef.unflatten([array if leaf is None else leaf.value for array, leaf in pairs])
    if not shared:
        return lambda key: predict(key, x)

    def one_row(key: Key, row: PyTree) -> PyTree:
        outputs = predict(key, jax.tree.map(lambda leaf: leaf[None], row))
        _check_rows(outputs, 1)
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    return lambda key: jax.vmap(partial(one_row, key))(x)


def make_sampler(program: Program, arrays: Arrays, key: Key, x: PyTree, execution: Execution) -> Sampler:
    """The sampler of a predictor; key-free parts are evaluated here."""
    x = shard(x, execution.mesh, BATCH)
    parts = _prefix.KeyFreeSplit(function(program, arrays, x, execution.shared), key)
    predict = parts.hoisted()

    def draw(index: jax.Array) -> PyTree:
        index = shard(index, execution.mesh, SAMPLES)
        samples = jax.vmap(lambda t: predict(jax.random.fold_in(key, t)))(index)
        return shard(samples, execution.mesh, SAMPLES, BATCH)

    return Sampler(draw, parts.outputs)


def on_automatic_axes(fun: Callable[..., PyTree], *args: PyTree, out: PartitionSpec = _WHOLE) -> PyTree:
    """`fun(*args)`, with explicit mesh axes left to the compiler.

    The results are explicit again, sharded by `out`.
    """
    types = (jax.typeof(leaf) for leaf in jax.tree.leaves(args))
    meshes = [jax.sharding.get_abstract_mesh(), *(kind.sharding.mesh for kind in types)]
    explicit = [mesh for mesh in meshes if mesh.explicit_axes]
    if not explicit:
        return fun(*args)
    out = PartitionSpec(*(axis if axis in explicit[0].explicit_axes else None for axis in out))
    with jax.sharding.use_abstract_mesh(explicit[0]):
        return jax.sharding.auto_axes(fun, out_sharding=out)(*args)


def shard(tree: PyTree, mesh: Mesh | None, *axes: str) -> PyTree:
    """The tree, its leading axes sharded over the named mesh axes that exist."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, sharding(mesh, *axes))


def put(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Examples on their way to the devices; those of a mesh of many processes stay where they are."""
    if is_of_many_processes(mesh):
        return tree
    return jax.device_put(tree, None if mesh is None else sharding(mesh, BATCH))


def is_of_many_processes(mesh: Mesh | None) -> bool:
    """Whether the devices of a mesh belong to more than one process."""
    return mesh is not None and len({device.process_index for device in mesh.devices.flat}) > 1


def sharding(mesh: Mesh, *axes: str) -> NamedSharding:
    """Leading axes sharded over the named mesh axes that exist, left to the compiler."""
    auto = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    return NamedSharding(auto, places(mesh, *axes))


def places(mesh: Mesh | None, *axes: str) -> PartitionSpec:
    """The partition of leading axes over the named mesh axes that exist."""
    names = () if mesh is None else mesh.axis_names
    return PartitionSpec(*(axis if axis in names else None for axis in axes))


def _check_mesh(mesh: Mesh | None, batch: int) -> int:
    """The number of shards of the samples."""
    if mesh is None:
        return 1
    wrong = set(mesh.axis_names) - {SAMPLES, BATCH}
    if wrong or not mesh.axis_names:
        names = ", ".join(mesh.axis_names) or "none"
        raise ValueError(f"`mesh` must have axes named '{SAMPLES}' or '{BATCH}', got {names}.")
    parts = mesh.shape.get(BATCH, 1)
    if batch % parts:
        raise ValueError(
            f"`x` must have a multiple of {parts} examples, the '{BATCH}' axis of `mesh`, got {batch}."
        )
    return mesh.shape.get(SAMPLES, 1)


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def struct(leaf: Any) -> jax.ShapeDtypeStruct:
    """The type of a leaf, as JAX would have it."""
    leaf = jnp.asarray(leaf) if isinstance(leaf, np.ndarray) or not hasattr(leaf, "dtype") else leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _budget() -> int:
    """Bytes that one chunk may work on."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if not stats or "bytes_limit" not in stats:
        return _CPU_BYTES
    return stats["bytes_limit"] // _MEMORY_SHARE
