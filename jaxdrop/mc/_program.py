"""How a predictor becomes the body of a program: what is static of it, its chunks and its devices."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdrop import _checks
from jaxdrop._types import Key
from jaxdrop.mc import _prefix

Predict = Callable[[Key, Any], Any]
# What a chunk works on: on a CPU it should stay in the cache; elsewhere a share of the memory.
_CPU_BYTES = 4 * 2**20
_MEMORY_SHARE = 8
_MOST = 1024
SAMPLES, BATCH = "samples", "batch"
_WHOLE = PartitionSpec()


class Execution(NamedTuple):
    """How a program goes about it; static."""

    chunk: int
    shared: bool
    mesh: Mesh | None


class Plan(NamedTuple):
    """A predictor as what is static of it and its arrays, and what is known of it by looking.

    Attributes:
      program: Structure and leaves that are no arrays, with their types, as 1 and 1.0 are equal; hashable.
      arrays: The others.
      execution: How to go about it.
      outputs: The types of one sample.
    """

    program: tuple
    arrays: tuple
    execution: Execution
    outputs: Any


def plan(
    predict: Predict,
    key: Key,
    x: Any,
    most: int,
    chunk_size: int | None,
    shared: bool,
    mesh: Mesh | None,
) -> Plan:
    """Checks what can be checked before any work, and chooses the size of the chunks."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
    if len(sizes) != 1 or not all(size and size[0] for size in sizes):
        found = ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(x)) or "no arrays"
        raise ValueError(f"`x` must hold arrays of one leading axis of at least one example, got {found}.")
    ((batch,),) = sizes
    shards = _check_mesh(mesh, batch)
    leaves, treedef = jax.tree.flatten(predict)
    program = treedef, tuple(None if _is_array(leaf) else (type(leaf), leaf) for leaf in leaves)
    arrays = tuple(leaf if _is_array(leaf) else None for leaf in leaves)
    structs, structure = jax.tree.flatten(jax.tree.map(_struct, (arrays, key, x)))
    bytes_a_sample, outputs = _trace_outputs(program, structure, tuple(structs), shared)
    if chunk_size is None:
        chunk = int(np.clip(_budget() // bytes_a_sample, 1, _MOST))
        # As many to each chunk, so that little is drawn in vain.
        chunk = -(-most // -(-most // chunk))
    else:
        chunk = min(_checks.check_count(chunk_size, "chunk_size"), most)
    return Plan(program, arrays, Execution(-(-chunk // shards) * shards, bool(shared), mesh), outputs)


@lru_cache(maxsize=256)
def _trace_outputs(program: tuple, structure: Any, structs: tuple, shared: bool) -> tuple[int, Any]:
    """The working set of one sample and the types of its outputs."""
    found: list[Any] = []

    def trace(arrays: tuple, key: Key, x: Any) -> None:
        parts = _prefix.KeyFreeSplit(_function(program, arrays, x, shared), key)
        found.extend((parts.working_set, parts.outputs))

    jax.eval_shape(trace, *structure.unflatten(structs))
    batch = jax.tree.leaves(structure.unflatten(structs)[2])[0].shape[0]
    _check_rows(found[1], batch)
    return found[0], found[1]


def _check_rows(outputs: Any, batch: int) -> None:
    for leaf in jax.tree.leaves(outputs):
        if leaf.shape[:1] != (batch,):
            raise ValueError(
                "`predict` must give arrays with one row for each of the examples of a batch, got "
                f"{leaf.shape} for a batch of {batch}."
            )


def _function(program: tuple, arrays: tuple, x: Any, shared: bool) -> Callable[[Key], Any]:
    """The prediction as a function of the key alone."""
    treedef, others = program
    pairs = zip(arrays, others, strict=True)
    predict = treedef.unflatten([other[1] if array is None else array for array, other in pairs])
    if not shared:
        return lambda key: predict(key, x)

    def alone(key: Key, row: Any) -> Any:
        outputs = predict(key, jax.tree.map(lambda leaf: leaf[None], row))
        _check_rows(outputs, 1)
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    return lambda key: jax.vmap(partial(alone, key))(x)


def make_sampler(
    program: tuple, arrays: tuple, key: Key, x: Any, execution: Execution
) -> tuple[Callable[[jax.Array], Any], Any]:
    """From numbers of samples `[C]` to samples `[C, B, ...]`; and the types of one sample."""
    x = shard(x, execution.mesh, BATCH)
    parts = _prefix.KeyFreeSplit(_function(program, arrays, x, execution.shared), key)
    predict = parts.hoisted()

    def draw(index: jax.Array) -> Any:
        index = shard(index, execution.mesh, SAMPLES)
        samples = jax.vmap(lambda t: predict(jax.random.fold_in(key, t)))(index)
        return shard(samples, execution.mesh, SAMPLES, BATCH)

    return draw, parts.outputs


def on_automatic_axes(fun: Callable, *args: Any, out: PartitionSpec = _WHOLE) -> Any:
    """`fun(*args)` where axes of a mesh that are explicit are left to the compiler.

    The results are explicit again, divided by `out`.
    """
    types = (jax.typeof(leaf) for leaf in jax.tree.leaves(args))
    meshes = [jax.sharding.get_abstract_mesh(), *(kind.sharding.mesh for kind in types)]
    explicit = [mesh for mesh in meshes if mesh.explicit_axes]
    if not explicit:
        return fun(*args)
    out = PartitionSpec(*(axis if axis in explicit[0].explicit_axes else None for axis in out))
    with jax.sharding.use_abstract_mesh(explicit[0]):
        return jax.sharding.auto_axes(fun, out_sharding=out)(*args)


def shard(tree: Any, mesh: Mesh | None, *axes: str) -> Any:
    """The same, its leading axes divided over those axes of the mesh, as far as it has them."""
    if mesh is None:
        return tree
    spec = places(mesh, *axes)
    auto = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    return jax.lax.with_sharding_constraint(tree, NamedSharding(auto, spec))


def places(mesh: Mesh | None, *axes: str) -> PartitionSpec:
    """Leading axes on those of the mesh, as far as it has them."""
    names = () if mesh is None else mesh.axis_names
    return PartitionSpec(*(axis if axis in names else None for axis in axes))


def _check_mesh(mesh: Mesh | None, batch: int) -> int:
    """How many parts the samples are divided into."""
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


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _struct(leaf: Any) -> jax.ShapeDtypeStruct:
    leaf = jnp.asarray(leaf) if isinstance(leaf, np.ndarray) or not hasattr(leaf, "dtype") else leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _budget() -> int:
    """The bytes that a chunk may work on."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if not stats or "bytes_limit" not in stats:
        return _CPU_BYTES
    return stats["bytes_limit"] // _MEMORY_SHARE
