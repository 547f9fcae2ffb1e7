"""The compiled program of an estimate: chunks of samples are drawn, reduced and merged, then finished."""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxdrop import _carries, _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _designs, _devices, _program, _samples, _sets, _trees
from jaxdrop.mc._estimates import Estimate
from jaxdrop.mc._program import Arrays, Execution, Kind, Predict, Program, Static, Structure
from jaxdrop.mc.reducers import Reducer
from jaxdrop.mc.stopping import Until

_NEVER = np.int32(2**31 - 1)


class State(NamedTuple):
    """The statistics of some samples: a pytree of arrays that can be saved and merged.

    Attributes:
      next_sample: Index of the next sample, where a later call continues; int32.
      count: The number of samples summarized; int32.
      bad: The first sample with a NaN, or 2**31 - 1 for none; int32.
      reduced: The states of the reducers, in the tree of the reducers.
    """

    next_sample: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  # hides `tuple.count`
    bad: jax.Array
    reduced: PyTree


class Found(NamedTuple):
    """What the program of an estimate gives: it may still be computed.

    Attributes:
      value: The estimates, in the tree of the reducers.
      error: Their standard errors.
      count: The number of samples.
      bad: The first sample with a NaN, as in `State`.
      has_nan: Whether any estimate is NaN.
    """

    value: PyTree
    error: PyTree
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  # hides `tuple.count`
    bad: jax.Array
    has_nan: jax.Array

    def checked(self, reducers: PyTree) -> Estimate:
        """The estimates, after the wait for the device and the checks that only concrete values allow."""
        if _checks.is_concrete(self.bad):
            bad, has_nan = jax.device_get((self.bad, self.has_nan))
            check_finite(bad)
            _trees.check_values(reducers, self.value, bool(has_nan))
        return Estimate(self.value, self.error, self.count)


class Inputs(NamedTuple):
    """The arguments of the program. Counts are arrays: above one chunk, changing them does not recompile."""

    arrays: Arrays
    key: Key
    x: PyTree
    targets: PyTree
    reducers: PyTree
    state: State | None
    rule: Until | None
    first: np.int32
    most: np.int32


class Call(NamedTuple):
    """A call whose arguments are checked.

    Attributes:
      program: The program of the predictor.
      inputs: Its arguments.
      execution: How to run it.
      only: The number of samples if all are in the first chunk, whose program needs no loop. Else None.
    """

    program: Program
    inputs: Inputs
    execution: Execution
    only: int | None

    def accumulate(self) -> State:
        """Starts the first half of an estimate."""
        return self.program.run(_accumulate, self.inputs, execution=self.execution, only=self.only)

    def estimate(self) -> Found:
        """Starts an estimate."""
        return self.program.run(_estimate, self.inputs, execution=self.execution, only=self.only)


def prepare(
    predict: Predict,
    key: Key,
    x: PyTree,
    *,
    num_samples: int | Until,
    reducers: Reducer | PyTree,
    targets: PyTree = None,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
    spec: PartitionSpec | None = None,
    allow_deterministic: bool = False,
    state: State | None = None,
    first: int = 0,
    balanced: int | None = None,
) -> Call:
    """Checks the arguments of `accumulate` or `estimate` before any work."""
    rule = num_samples if isinstance(num_samples, Until) else None
    if isinstance(num_samples, Until):
        num_samples.check()
        most, at_once = num_samples.max_samples, num_samples.every
    else:
        most = at_once = _checks.check_count(num_samples, "num_samples")
    if _checks.check_count(first, "first", 0) + most > _NEVER:
        raise ValueError(f"`num_samples` must end before sample 2**31 - 1, got {most} from {first} on.")
    name = "num_samples" if rule is None else "max_samples"
    balanced = _designs.check_balanced(balanced, **{name: most, "every": at_once, "first": first})
    plan = _program.plan(
        predict, key, x, min(most, at_once), chunk_size, shared, mesh, spec, allow_deterministic, balanced
    )
    _trees.map_reducers(lambda one: _trees.check_reducer(one).check(plan.outputs, targets), reducers)
    static = plan.program.static
    if state is None:
        static.check_count(most, name, first)
    elif _checks.is_concrete(state.count):
        static.check_count(most, name, int(state.next_sample) - int(state.count))
    _trees.check_clusters(reducers, static.design and static.design.clusters)
    if balanced is not None:
        reducers = _sets.in_sets(reducers, balanced)
    execution = plan.execution
    if chunk_size is None and execution.chunk < min(most, at_once):
        passed_over = _state_bytes(reducers, plan.outputs, targets)
        execution = execution._replace(chunk=plan.sizes.chunk(passed_over))
    if state is not None:
        empty = partial(_empty, reducers, plan.outputs, targets, execution.chunk, jnp.int32(0))
        _trees.check_alike(state, jax.eval_shape(empty), "state", "these reducers and inputs")
    only = most if state is None and rule is None and not first and most <= execution.chunk else None
    inputs = Inputs(plan.arrays, key, x, targets, reducers, state, rule, np.int32(first), np.int32(most))
    return Call(plan.program, inputs, execution, only)


def merged(reducers: PyTree, a: State, b: State) -> State:
    """The state of the samples of two states."""
    reduced = _trees.map_reducers(lambda one, x, y: one.merge(x, y), reducers, a.reduced, b.reduced)
    return State(
        jnp.maximum(a.next_sample, b.next_sample), a.count + b.count, jnp.minimum(a.bad, b.bad), reduced
    )


@jax.jit
def finished(reducers: PyTree, state: State) -> Found:
    """The estimates of a state."""
    return _finish(reducers, state)


def check_finite(bad: jax.Array | np.ndarray) -> None:
    """Raises an error if a sample was NaN, and that is known."""
    if _checks.is_concrete(bad) and int(bad) != _NEVER:
        raise FloatingPointError(
            f"`predict` must give outputs that are not NaN, got NaN in sample {int(bad)}."
        )


def _estimate(static: Static, inputs: Inputs, *, execution: Execution, only: int | None) -> Found:
    found = _finish(inputs.reducers, _accumulate(static, inputs, execution=execution, only=only))
    return _devices.shard_examples(found, execution.layout, _program.check_batch(inputs.x))


def _accumulate(static: Static, inputs: Inputs, *, execution: Execution, only: int | None) -> State:
    return _devices.on_automatic_axes(partial(_run, static, execution, only), inputs)


def _run(static: Static, execution: Execution, only: int | None, inputs: Inputs) -> State:
    arrays, key, x, targets, reducers, state, rule, first, most = inputs
    sampler = _samples.make_sampler(static, arrays, key, x, execution)
    targets = _devices.shard(targets, execution.layout, _devices.BATCH)
    places = np.arange(execution.chunk, dtype=np.int32)

    def summarize(chunk: int | jax.Array, index: jax.Array) -> State:
        samples = sampler.draw(chunk)
        reduced = _trees.map_reducers(lambda one: one.summarize(samples, index, targets), reducers)
        bad = jnp.where((index >= 0) & _trees.has_nan(samples), index, _NEVER).min()
        return State(index.max() + 1, (index >= 0).sum().astype(jnp.int32), bad, reduced)

    if only is not None:
        with jax.ensure_compile_time_eval():  # reducers can see the numbers, and compute nothing from them
            index = jnp.asarray(np.where(places < only, places, np.int32(-1)))
        return summarize(0, index)
    if state is None:
        state = _empty(reducers, sampler.outputs, targets, execution.chunk, jnp.asarray(first))
    last = state.next_sample + jnp.maximum(most - state.count, 0)
    if static.design and static.design.max_samples is not None:  # of a traced state the sum is not known
        last = jnp.minimum(last, static.design.max_samples)

    def add(chunk: jax.Array, state: State, stop: jax.Array) -> State:
        place = chunk * execution.chunk + places
        index = jnp.where((place >= state.next_sample) & (place < stop), place, -1)
        return merged(reducers, state, summarize(chunk, index))

    def add_up_to(stop: jax.Array, state: State) -> State:
        chunks = state.next_sample // execution.chunk, -(-stop // execution.chunk)
        state = _carries.varying(lambda state: add(chunks[0], state, stop), state)
        return jax.lax.fori_loop(*chunks, lambda chunk, state: add(chunk, state, stop), state)

    if rule is None:
        return add_up_to(last, state)

    def is_sure(found: Found) -> jax.Array:
        return rule.is_sure(found.error, found.count)

    def more(now: State) -> State:
        return add_up_to(jnp.minimum(rule.next_look(now.next_sample), last), now)

    return jax.lax.while_loop(
        lambda now: (now.next_sample < last) & ~is_sure(finished(reducers, now)),
        more,
        _carries.varying(more, state),
    )


def _empty(reducers: PyTree, outputs: PyTree, targets: PyTree, chunk: int, first: jax.Array) -> State:
    """The state of no samples."""
    samples = jax.tree.map(lambda y: jax.ShapeDtypeStruct((chunk, *y.shape), y.dtype), outputs)
    index = jax.ShapeDtypeStruct((chunk,), jnp.int32)

    def zeros(one: Reducer) -> PyTree:
        shapes = jax.eval_shape(one.summarize, samples, index, targets)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    zero = jnp.zeros((), jnp.int32)
    return State(first, zero, jnp.asarray(_NEVER), _trees.map_reducers(zeros, reducers))


def _state_bytes(reducers: PyTree, outputs: PyTree, targets: PyTree) -> int:
    """The size of the state, which each chunk passes over."""
    leaves, structure = jax.tree.flatten((reducers, outputs, targets))
    return _bytes_of_kinds(structure, tuple(map(_program.kind, leaves)), bool(jax.config.jax_enable_x64))


@lru_cache(maxsize=256)
def _bytes_of_kinds(structure: Structure, kinds: tuple[Kind, ...], wide: bool) -> int:
    parts = structure.unflatten([jax.ShapeDtypeStruct(*kind) for kind in kinds])
    state = jax.eval_shape(lambda *parts: _empty(*parts, chunk=1, first=jnp.int32(0)), *parts)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _finish(reducers: PyTree, state: State) -> Found:
    pairs = _trees.map_reducers(lambda one, reduced: one.finish(reduced), reducers, state.reduced)
    value, error = (_trees.map_reducers(lambda _, pair, i=i: pair[i], reducers, pairs) for i in (0, 1))
    # Samples of one cluster count once.
    clusters = _trees.clusters(reducers)
    count = state.count if clusters is None else jnp.minimum(state.count, clusters)
    count = count // (_sets.size_of(reducers) or 1)
    return Found(value, error, count, state.bad, _trees.any_nan(value))
