"""Streamed statistics of the samples of a prediction, in memory that does not grow with their number."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxdrop import _carries, _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _devices, _program, _trees
from jaxdrop.mc._estimates import Estimate
from jaxdrop.mc._program import Arrays, Execution, Predict, Static
from jaxdrop.mc.reducers import Reducer
from jaxdrop.mc.stopping import Until

__all__ = ["Estimate", "State", "accumulate", "estimate", "finish", "merge"]

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


class _Inputs(NamedTuple):
    """The arguments of the compiled program. Counts are arrays, so changing them does not recompile."""

    arrays: Arrays
    key: Key
    x: PyTree
    targets: PyTree
    reducers: PyTree
    state: State | None
    rule: Until | None
    first: jax.Array
    most: jax.Array


class _Pair(NamedTuple):
    """Estimates and their standard errors, in the tree of the reducers."""

    value: PyTree
    error: PyTree


def estimate(
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
) -> Estimate:
    """Estimates statistics of the samples of a prediction, with Monte-Carlo standard errors.

    The samples are streamed: memory does not grow with their number.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. It is
        compiled once for as long as it exists. Bind weights by `jax.tree_util.Partial(f, params)`, so
        that new weights do not recompile.
      key: A PRNG key. Sample t is `predict(jax.random.fold_in(key, t), x)`, the same as in `sample`,
        where the conditions on `rbg` keys are stated.
      x: A tree of arrays with a leading axis of examples, `[B, ...]`.
      num_samples: The number of samples, at least 1; or `Until`, a stopping rule.
      reducers: One of `Moments`, `Quantiles`, `Categorical`, `Bernoulli`, `CategoricalLogDensity`,
        `BernoulliLogDensity` and `GaussianLogDensity`, another `Reducer`, or any tree of reducers.
        Each gets the whole outputs; `Part` selects a part of them for one.
      targets: Labels or values that a log density is evaluated at, with the axis of examples; None
        if no reducer needs them. For `Part`, a tree with the parts of the outputs.
      chunk_size: The number of samples computed at once. None: as many as fit the cache of a CPU, or
        an eighth of the memory of another device.
      shared: If true, one draw serves all inputs: sample t is one function, the same for every example.
      mesh: The devices that samples and examples are sharded over; the result is that of one device.
        None: one device.
      spec: The mesh axes of samples and of examples, such as `PartitionSpec("data", ("fsdp", "model"))`.
        None: the axes "samples" and "batch". Other mesh axes are left to the compiler, and weights
        stay sharded as they are.
      allow_deterministic: If true, `predict` may ignore its key, and all samples are then equal: a rate
        of 0 in a sweep.

    Returns:
      An `Estimate`, with a dictionary of estimates for each reducer and one of their standard errors.
      With a mesh, arrays `[B, ...]` are sharded over the mesh axes of the examples.

    Raises:
      FloatingPointError: If an output is NaN, with the number of its sample; not under a trace.
      TypeError: If a count is not an integer, or a reducer is not one.
      ValueError: If a count is below 1, the batch is empty, the outputs do not have one row per
        example or do not depend on the key, `spec` does not fit the mesh or the batch, or a reducer
        rejects the outputs or targets.

    Examples:
      >>> import jaxdrop
      >>> from jaxdrop import mc
      >>> def predict(key, x):
      ...     return jaxdrop.dropout(key, x, 0.5).mean(-1)
      >>> found = estimate(
      ...     predict, jax.random.key(0), jnp.ones((1, 100)), num_samples=1000, reducers=mc.Moments())
      >>> value, error = found.value["mean"], found.standard_error["mean"]
      >>> bool(abs(value[0] - 1) < 3 * error[0]), bool(0.002 < error[0] < 0.005)
      (True, True)
    """
    state = accumulate(
        predict,
        key,
        x,
        num_samples=num_samples,
        reducers=reducers,
        targets=targets,
        chunk_size=chunk_size,
        shared=shared,
        mesh=mesh,
        spec=spec,
        allow_deterministic=allow_deterministic,
    )
    found, batch = finish(reducers, state), _program.check_batch(x)
    return _devices.shard_examples(found, _devices.make_layout(mesh, spec, batch), batch)


def accumulate(
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
) -> State:
    """Accumulates samples in a state that can be saved, continued, merged or finished.

    This is the first half of `estimate`; `finish` is the second.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. It is
        compiled once for as long as it exists. Bind weights by `jax.tree_util.Partial(f, params)`, so
        that new weights do not recompile.
      key: A PRNG key. States to be merged have the same key and disjoint samples, or different keys.
      x: A tree of arrays with a leading axis of examples, `[B, ...]`.
      num_samples: The total number of samples, including those of `state`; or `Until`.
      reducers: One `Reducer`, or any tree of reducers.
      targets: Labels or values that a log density is evaluated at; None if no reducer needs them. For
        `Part`, a tree with the parts of the outputs.
      chunk_size: The number of samples computed at once. None: as many as fit the cache of a CPU, or
        an eighth of the memory of another device.
      shared: If true, one draw serves all inputs: sample t is one function, the same for every example.
      mesh: The devices that samples and examples are sharded over; the result is that of one device.
        None: one device.
      spec: The mesh axes of samples and of examples, such as `PartitionSpec("data", ("fsdp", "model"))`.
        None: the axes "samples" and "batch". Other mesh axes are left to the compiler, and weights
        stay sharded as they are.
      allow_deterministic: If true, `predict` may ignore its key, and all samples are then equal: a rate
        of 0 in a sweep.
      state: A state to continue, of the same predictor, key and inputs. None: a new one.
      first: The number of the first sample of a new state. Parts of the samples can so be drawn
        separately and merged.

    Returns:
      The state with the samples from `state.next_sample` or `first` on, up to the total. With a mesh it
      is sharded by the compiler, or whole on each device if the mesh is explicit.

    Raises:
      FloatingPointError: If an output is NaN, with the number of its sample; not under a trace.
      TypeError: If a count is not an integer, or a reducer is not one.
      ValueError: If a count is out of range, the batch is empty, the outputs do not have one row per
        example or do not depend on the key, `spec` does not fit the mesh or the batch, a reducer rejects
        the outputs or targets, or `state` is of other reducers or inputs.

    Examples:
      >>> import jaxdrop
      >>> from jaxdrop import mc
      >>> draw = jaxdrop.dropout
      >>> options = {"x": jnp.ones((1, 4)), "reducers": mc.Moments()}
      >>> predict = jax.tree_util.Partial(lambda key, x: draw(key, x, 0.5))
      >>> part = accumulate(predict, jax.random.key(0), num_samples=10, **options)
      >>> whole = accumulate(predict, jax.random.key(0), num_samples=50, state=part, **options)
      >>> int(whole.count)
      50
    """
    rule = num_samples if isinstance(num_samples, Until) else None
    if isinstance(num_samples, Until):
        num_samples.check()
        most, at_once = num_samples.max_samples, num_samples.every
    else:
        most = at_once = _checks.check_count(num_samples, "num_samples")
    if _checks.check_count(first, "first", 0) + most > _NEVER:
        raise ValueError(f"`num_samples` must end before sample 2**31 - 1, got {most} from {first} on.")
    plan = _program.plan(
        predict, key, x, min(most, at_once), chunk_size, shared, mesh, spec, allow_deterministic
    )
    _trees.map_reducers(lambda one: _trees.check_reducer(one).check(plan.outputs, targets), reducers)
    if state is not None:
        empty = partial(_empty, reducers, plan.outputs, targets, plan.execution.chunk, jnp.int32(0))
        _trees.check_alike(state, jax.eval_shape(empty), "state", "these reducers and inputs")
    inputs = _Inputs(plan.arrays, key, x, targets, reducers, state, rule, jnp.int32(first), jnp.int32(most))
    found: State = plan.program.run(_accumulate, inputs, execution=plan.execution)
    _check_finite(found)
    return found


def merge(reducers: Reducer | PyTree, a: State, b: State) -> State:
    """Merges two states that have no samples in common.

    Args:
      reducers: The reducers that made both states.
      a: A state of `accumulate`.
      b: Another, of the same inputs.

    Returns:
      A state. The order of the two makes a difference to `Quantiles` only.

    Raises:
      ValueError: If the states are of other reducers or inputs.
    """
    _trees.check_alike(b, a, "b", "the reducers and inputs of `a`")
    reduced = _trees.map_reducers(lambda one, x, y: one.merge(x, y), reducers, a.reduced, b.reduced)
    return State(
        jnp.maximum(a.next_sample, b.next_sample), a.count + b.count, jnp.minimum(a.bad, b.bad), reduced
    )


def finish(reducers: Reducer | PyTree, state: State) -> Estimate:
    """Computes the estimates of a state.

    This is the second half of `estimate`; `accumulate` is the first.

    Args:
      reducers: The reducers that made the state.
      state: A state of `accumulate` or `merge`.

    Returns:
      An `Estimate`, with a dictionary of estimates for each reducer and one of their standard errors.

    Raises:
      FloatingPointError: If an output was NaN, with the number of its sample; not under a trace.
      ValueError: If a reducer rejects the samples; not under a trace.
    """
    _check_finite(state)
    found = _finish(reducers, state.reduced)
    _trees.check_values(reducers, found.value)
    return Estimate(found.value, found.error, state.count)


def _check_finite(state: State) -> None:
    if _checks.is_concrete(state.bad) and int(state.bad) != _NEVER:
        message = f"`predict` must give outputs that are not NaN, got NaN in sample {int(state.bad)}."
        raise FloatingPointError(message)


def _accumulate(static: Static, inputs: _Inputs, *, execution: Execution) -> State:
    return _devices.on_automatic_axes(partial(_run, static, execution), inputs)


def _run(static: Static, execution: Execution, inputs: _Inputs) -> State:
    arrays, key, x, targets, reducers, state, rule, first, most = inputs
    sampler = _program.make_sampler(static, arrays, key, x, execution)
    targets = _devices.shard(targets, execution.layout, _devices.BATCH)
    if state is None:
        state = _empty(reducers, sampler.outputs, targets, execution.chunk, first)
    last = state.next_sample + jnp.maximum(most - state.count, 0)

    def add(chunk: jax.Array, state: State, stop: jax.Array) -> State:
        index = chunk * execution.chunk + jnp.arange(execution.chunk, dtype=jnp.int32)
        samples = sampler.draw(index)
        index = jnp.where((index >= state.next_sample) & (index < stop), index, -1)
        reduced = _trees.map_reducers(lambda one: one.summarize(samples, index, targets), reducers)
        bad = jnp.where((index >= 0) & _trees.has_nan(samples), index, _NEVER).min()
        count = (index >= 0).sum().astype(jnp.int32)
        return merge(reducers, state, State(index.max() + 1, count, bad, reduced))

    def add_up_to(stop: jax.Array, state: State) -> State:
        chunks = state.next_sample // execution.chunk, -(-stop // execution.chunk)
        state = _carries.varying(lambda state: add(chunks[0], state, stop), state)
        return jax.lax.fori_loop(*chunks, lambda chunk, state: add(chunk, state, stop), state)

    if rule is None:
        return add_up_to(last, state)

    def more(now: State) -> State:
        return add_up_to(jnp.minimum(rule.next_look(now.next_sample), last), now)

    return jax.lax.while_loop(
        lambda now: (now.next_sample < last) & ~rule.is_sure(_finish(reducers, now.reduced).error, now.count),
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


@jax.jit
def _finish(reducers: PyTree, reduced: PyTree) -> _Pair:
    pairs = _trees.map_reducers(lambda one, state: one.finish(state), reducers, reduced)
    value, error = (_trees.map_reducers(lambda _, pair, i=i: pair[i], reducers, pairs) for i in (0, 1))
    return _Pair(value, error)
