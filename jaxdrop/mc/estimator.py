"""Statistics of samples of a prediction, streamed in memory that does not grow with their number."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdrop import _checks
from jaxdrop._types import Key
from jaxdrop.mc import _program
from jaxdrop.mc._program import Execution, Predict
from jaxdrop.mc.reducers import Reducer
from jaxdrop.mc.stopping import Until

_NEVER = np.int32(2**31 - 1)


class Estimate(NamedTuple):
    """What samples say, and how sure it is.

    Attributes:
      value: For each reducer, a dictionary of estimates.
      standard_error: Their Monte-Carlo standard errors, of the same structure.
      num_samples: How many samples went into it, an int32 scalar.
    """

    value: Any
    standard_error: Any
    num_samples: Any


class State(NamedTuple):
    """What has been summarised; a pytree of arrays that may be saved, and merged with others.

    Attributes:
      next_sample: Index of the next sample, where a later call continues; int32.
      count: How many samples are in it; int32.
      bad: The first sample that has a NaN, or 2**31 - 1; int32.
      reduced: The states of the reducers.
    """

    next_sample: Any
    count: Any
    bad: Any
    reduced: Any


def estimate(
    predict: Predict,
    key: Key,
    x: Any,
    *,
    num_samples: int | Until,
    reducers: Any,
    targets: Any = None,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
) -> Estimate:
    """Streams samples of a prediction into statistics, in memory that does not grow with their number.

    Args:
      predict: As for `sample`.
      key: As for `sample`, of which these are the same samples.
      x: As for `sample`.
      num_samples: How many, at least 1; or `Until`.
      reducers: One of `Moments`, `Categorical`, `Quantiles`, `CategoricalLogDensity` and
        `GaussianLogDensity`, or any tree of such.
      targets: What a log density is of: labels, or values; an array with the axis of examples.
      chunk_size: As for `sample`.
      shared: As for `sample`.
      mesh: As for `sample`.

    Returns:
      An `Estimate`: for each reducer a dictionary of estimates, and one of their Monte-Carlo
      standard errors.

    Raises:
      FloatingPointError: If an output is NaN, with the number of its sample; not under a trace.
      TypeError: As `sample`.
      ValueError: As `sample`, or if the outputs or the targets are not what a reducer wants.

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
    options: dict[str, Any] = {"chunk_size": chunk_size, "shared": shared, "mesh": mesh}
    options |= {"num_samples": num_samples, "reducers": reducers, "targets": targets}
    return finish(reducers, accumulate(predict, key, x, **options))


def accumulate(
    predict: Predict,
    key: Key,
    x: Any,
    *,
    num_samples: int | Until,
    reducers: Any,
    targets: Any = None,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
    state: State | None = None,
    first: int = 0,
) -> State:
    """The first half of `estimate`: a state, to be saved, gone on from, merged or finished.

    Args:
      predict: As for `estimate`; so all but the following.
      key: The same for all states that are to be merged, unless their samples are to be others.
      x: Inputs.
      num_samples: How many in all, with those that `state` counts; or `Until`.
      reducers: One, or a tree.
      targets: Labels or values.
      chunk_size: How many at a time.
      shared: Whether one draw is for all inputs.
      mesh: Devices.
      state: A state to go on from, of the same predictor, key and inputs.
      first: Where there is no state, the number of the first sample: for parts of the samples that
        are drawn elsewhere and merged.

    Returns:
      The state with the samples from `state.next_sample` or `first` on, until there are so many.

    Raises:
      FloatingPointError: As `estimate`.
      TypeError: As `estimate`.
      ValueError: As `estimate`.

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
    plan = _program.plan(predict, key, x, min(most, at_once), chunk_size, shared, mesh)
    _over(lambda one: _checked(one).check(plan.outputs, targets), reducers)
    if state is not None:
        none = partial(_nothing, reducers, plan.outputs, targets, plan.execution.chunk, jnp.int32(0))
        _check_alike(state, jax.eval_shape(none), "state", "these reducers and inputs")
    # Numbers that are arguments: another number of samples is the same program.
    inputs = key, x, targets, reducers, state, rule, (jnp.int32(first), jnp.int32(most))
    now: State = _accumulated(plan.program, plan.arrays, *inputs, execution=plan.execution)
    _check_finite(now)
    return now


def merge(reducers: Any, a: State, b: State) -> State:
    """The state of the samples of two states that have none in common.

    Args:
      reducers: Those that made both.
      a: A state of `accumulate`.
      b: Another, of the same inputs.

    Returns:
      A state; the order of the two makes no difference but for `Quantiles`.

    Raises:
      ValueError: If the states are of other reducers or inputs.
    """
    _check_alike(b, a, "b", "the reducers and inputs of `a`")
    reduced = _over(lambda one, x, y: one.merge(x, y), reducers, a.reduced, b.reduced)
    return State(
        jnp.maximum(a.next_sample, b.next_sample), a.count + b.count, jnp.minimum(a.bad, b.bad), reduced
    )


def finish(reducers: Any, state: State) -> Estimate:
    """The second half of `estimate`.

    Args:
      reducers: Those that made the state.
      state: A state of `accumulate` or `merge`.

    Returns:
      As `estimate`.

    Raises:
      FloatingPointError: If an output was NaN; not under a trace.
      ValueError: If the samples are not what a reducer wants; not under a trace.
    """
    _check_finite(state)
    value, error = _finish(reducers, state.reduced)
    _check_values(reducers, value)
    return Estimate(value, error, state.count)


def _check_finite(state: State) -> None:
    if _checks.is_concrete(state.bad) and int(state.bad) != _NEVER:
        message = f"`predict` must give outputs that are not NaN, got NaN in sample {int(state.bad)}."
        raise FloatingPointError(message)


@partial(jax.jit, static_argnames=("program", "execution"))
def _accumulated(program: tuple, *inputs: Any, execution: Execution) -> State:
    return _program.on_automatic_axes(partial(_run, program, execution), *inputs)


def _run(
    program: tuple,
    execution: Execution,
    arrays: tuple,
    key: Key,
    x: Any,
    targets: Any,
    reducers: Any,
    state: State | None,
    rule: Until | None,
    numbers: tuple[jax.Array, jax.Array],
) -> State:
    draw, outputs = _program.make_sampler(program, arrays, key, x, execution)
    targets = _program.shard(targets, execution.mesh, _program.BATCH)
    first, most = numbers
    if state is None:
        state = _nothing(reducers, outputs, targets, execution.chunk, first)
    last = state.next_sample + jnp.maximum(most - state.count, 0)

    def add(chunk: jax.Array, state: State, stop: jax.Array) -> State:
        index = chunk * execution.chunk + jnp.arange(execution.chunk, dtype=jnp.int32)
        samples = draw(index)
        index = jnp.where((index >= state.next_sample) & (index < stop), index, -1)
        reduced = _over(lambda one: one.summarise(samples, index, targets), reducers)
        bad = jnp.where((index >= 0) & _has_nan(samples), index, _NEVER).min()
        count = (index >= 0).sum().astype(jnp.int32)
        return merge(reducers, state, State(index.max() + 1, count, bad, reduced))

    def upto(stop: jax.Array, state: State) -> State:
        chunks = state.next_sample // execution.chunk, -(-stop // execution.chunk)
        return jax.lax.fori_loop(*chunks, lambda chunk, state: add(chunk, state, stop), state)

    if rule is None:
        return upto(last, state)
    return jax.lax.while_loop(
        lambda now: (now.next_sample < last) & ~rule.is_sure(_finish(reducers, now.reduced)[1]),
        lambda now: upto(jnp.minimum(rule.next_look(now.next_sample), last), now),
        state,
    )


def _nothing(reducers: Any, outputs: Any, targets: Any, chunk: int, first: jax.Array) -> State:
    """The state of no samples."""
    samples = jax.tree.map(lambda y: jax.ShapeDtypeStruct((chunk, *y.shape), y.dtype), outputs)
    index = jax.ShapeDtypeStruct((chunk,), jnp.int32)

    def empty(one: Reducer) -> Any:
        shapes = jax.eval_shape(one.summarise, samples, index, targets)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    zero = jnp.zeros((), jnp.int32)
    return State(first, zero, jnp.asarray(_NEVER), _over(empty, reducers))


@jax.jit
def _finish(reducers: Any, reduced: Any) -> tuple[Any, Any]:
    pairs = _over(lambda one, state: one.finish(state), reducers, reduced)
    return _over(lambda _, pair: pair[0], reducers, pairs), _over(lambda _, pair: pair[1], reducers, pairs)


def _over(fun: Callable, reducers: Any, *states: Any) -> Any:
    """Calls a function with each reducer, and with its own part of each state."""
    return jax.tree.map(fun, reducers, *states, is_leaf=lambda one: hasattr(one, "summarise"))


def _checked(one: Any) -> Reducer:
    if isinstance(one, type) or not hasattr(one, "summarise"):
        raise TypeError(f"`reducers` must be a reducer, such as `Moments()`, or a tree of them, got {one!r}.")
    return one


def _check_alike(state: State, like: State, name: str, of: str) -> None:
    """Leaf by leaf the same places, shapes and dtypes."""
    found, expected = (
        [(p, jnp.shape(x), str(jnp.result_type(x))) for p, x in _leaves(s)] for s in (state, like)
    )
    for one, other in itertools.zip_longest(found, expected):
        if one != other:
            one, other = (
                "nothing" if part is None else f"{part[2]}{list(part[1])} at {part[0]}"
                for part in (one, other)
            )
            raise ValueError(f"`{name}` must be a state of {of}, with {other}, got {one}.")


def _leaves(state: State) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(state)]


def _has_nan(samples: Any) -> jax.Array:
    """For each sample, whether any of its outputs is NaN."""
    real = [leaf for leaf in jax.tree.leaves(samples) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    found = [jnp.isnan(leaf).reshape(leaf.shape[0], -1).any(-1) for leaf in real]
    return jnp.stack(found).any(0) if found else jnp.zeros((), bool)


def _check_values(reducers: Any, value: Any) -> None:
    if all(_checks.is_concrete(leaf) for leaf in jax.tree.leaves(value)):
        _over(lambda one, own: one.check_values(own), reducers, value)
