"""Devices: where the state of a run or of a sweep lies."""

import math
from collections.abc import Callable

import jax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrop import _meshes
from jaxdrop._types import PyTree

RUNS = "runs"


def of_runs(mesh: Mesh | None, spec: PartitionSpec | None) -> NamedSharding | None:
    """The sharding of arrays `[runs, ...]` by the arguments of `sweep`, checked; None for no mesh."""
    if mesh is None:
        _meshes.check_no_spec(spec)
        return None
    (axes,) = _meshes.chosen_axes(mesh, spec, (RUNS,), "one entry, of runs")
    return NamedSharding(mesh, PartitionSpec(axes or None))


def check_runs(count: int, home: NamedSharding | None) -> None:
    """Raises if runs cannot be divided evenly."""
    if home is not None and count % _parts(home):
        raise ValueError(
            f"`keys` must have a multiple of {_parts(home)} runs, the size of the mesh axes of the runs "
            f"({', '.join(_leading(home))}), got {count}."
        )


def given(parts: PyTree, runs: bool = False) -> NamedSharding | None:
    """Where arrays without a sharding lie, by the shardings of the others; None if there are none.

    Args:
      parts: What `init` is given.
      runs: Whether all have a leading axis of runs, which is then sharded alike; otherwise replicated.
    """
    found = [leaf.sharding for leaf in jax.tree.leaves(parts) if isinstance(leaf, jax.Array)]
    named = [one for one in found if isinstance(one, NamedSharding)]
    if runs:
        named.sort(key=lambda one: not _leading(one))  # an axis of runs that is sharded comes first
    return NamedSharding(named[0].mesh, PartitionSpec(*named[0].spec[:runs])) if named else None


def is_traced(parts: PyTree) -> bool:
    """Whether `init` is called under `jit`, where the compiler shards its results."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(parts))


def begin(init: Callable[..., PyTree], parts: tuple[PyTree, ...], home: NamedSharding) -> PyTree:
    """`init(key, params, hyper, model_state)`, whose optimizer state is sharded as the parameters.

    XLA would replicate zeros that are made under `jit`: as many bytes on each device as the parameters have
    on all of them.
    """
    key, params, hyper, model_state = parts = jax.tree.map(lambda leaf: _put(leaf, home), parts)
    of_params = dict(jax.tree_util.tree_leaves_with_path(params))

    def like(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.sharding.Sharding:
        # The paths of moments, averages and accumulated gradients end with those of the parameters.
        ends = (of_params.get(path[i:]) for i in range(len(path) + 1))
        return next((one.sharding for one in ends if one is not None and one.shape == leaf.shape), home)

    state = jax.eval_shape(init, *parts)
    opt_state = jax.tree_util.tree_map_with_path(like, state.opt_state)
    own = jax.tree.map(lambda leaf: leaf.sharding, {"key": key, "params": params, "hyper": hyper})
    own["model_state"] = jax.tree.map(lambda leaf: leaf.sharding, model_state)
    placed = state._replace(step=home, opt_state=opt_state, **own)
    return jax.jit(init, out_shardings=placed)(*parts)


def divided(steps: Callable[..., PyTree], home: NamedSharding) -> Callable[..., PyTree]:
    """The steps of all runs, each on the device of its run; all share the batch.

    A loop that ends by its values, such as a line search, then ends on each device by the runs there. The
    compiler alone would end it on all devices at once, and gather the inputs of kernels that it cannot
    divide. Runs that are left by a tuner and cannot be divided evenly are trained on every device.
    """
    axes = set(_leading(home))
    if not axes:
        return steps

    def of_states(states: PyTree, batch: PyTree) -> PyTree:
        spec = PartitionSpec() if len(states.step) % _parts(home) else home.spec
        of_parts = jax.shard_map(
            steps,
            mesh=home.mesh,
            in_specs=(spec, PartitionSpec()),
            out_specs=spec,
            axis_names=axes,
            check_vma=False,
        )
        return of_parts(states, batch)

    return of_states


def _put(leaf: PyTree, home: NamedSharding) -> jax.Array:
    """A leaf on the devices of `home`: where it is if it may stay there."""
    own = leaf.sharding if isinstance(leaf, jax.Array) else None
    named = own if isinstance(own, NamedSharding) and own.device_set == home.device_set else None
    if named is not None and _leading(home) in ((), _leading(named)):
        return leaf
    # Several processes: each gives the whole array, and `device_put` takes no keys there.
    put = jax.device_put if home.is_fully_addressable else _put_everywhere
    return put(leaf, home)


def _put_everywhere(leaf: PyTree, home: NamedSharding) -> jax.Array:
    return jax.jit(lambda x: x, out_shardings=home)(leaf)


def _parts(home: NamedSharding) -> int:
    """The number of parts of the first axis."""
    return math.prod(home.mesh.shape[axis] for axis in _leading(home))


def _leading(sharding: NamedSharding) -> _meshes.Axes:
    """The mesh axes of the first axis."""
    return _meshes.names_of(sharding.spec[0]) if len(sharding.spec) else ()
