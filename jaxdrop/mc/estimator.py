"""Streamed statistics of the samples of a prediction, in memory that does not grow with their number."""

from jax.sharding import Mesh, PartitionSpec

from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _accumulation, _sets, _trees
from jaxdrop.mc._accumulation import State
from jaxdrop.mc._estimates import Estimate
from jaxdrop.mc._program import Predict
from jaxdrop.mc.reducers import Reducer
from jaxdrop.mc.stopping import Until

__all__ = ["Estimate", "State", "accumulate", "estimate", "finish", "merge"]


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
    balanced: int | None = None,
) -> Estimate:
    """Estimates statistics of the samples of a prediction, with Monte-Carlo standard errors.

    The samples are streamed: memory does not grow with their number.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. It is
        compiled once for as long as it exists. Bind weights by `jax.tree_util.Partial(f, params)`, so
        that new weights do not recompile.
      key: A PRNG key. Sample t is `predict(jax.random.fold_in(key, t), x)`, the same as in `sample`,
        where the conditions on `rbg` keys are stated. An `Indexed` predictor, such as an `ensemble`, gets
        the key itself and t.
      x: A tree of arrays with a leading axis of examples, `[B, ...]`.
      num_samples: The number of samples, at least 1; or `Until`, a stopping rule. With `balanced` the
        number, or `max_samples` and `every`, are multiples of that.
      reducers: One of `Moments`, `Quantiles`, `Categorical`, `Bernoulli`, `CategoricalLogDensity`,
        `BernoulliLogDensity` and `GaussianLogDensity`, another `Reducer`, or any tree of reducers.
        Each gets the whole outputs; `Part` selects a part of them for one.
      targets: Labels or values that a log density is evaluated at, with the axis of examples; None
        if no reducer needs them. For `Part`, a tree with the parts of the outputs.
      chunk_size: The number of samples computed at once. None: as many as fit the cache of a CPU, or
        an eighth of the memory of another device, and at least as many bytes as the state takes.
      shared: If true, one draw serves all inputs: sample t is one function, the same for every example.
      mesh: The devices that samples and examples are sharded over; the result is that of one device.
        None: one device.
      spec: The mesh axes of samples and of examples, such as `PartitionSpec("data", ("fsdp", "model"))`.
        None: the axes "samples" and "batch". Other mesh axes are left to the compiler, and weights
        stay sharded as they are.
      allow_deterministic: If true, `predict` may ignore its key, and all samples are then equal: a rate
        of 0 in a sweep.
      balanced: The number of samples in a balanced set, a power of two from 8 to 256; 32 suits most networks.
        Within a set each draw takes all parts of its distribution equally often, so that means need fewer
        samples. Each sample alone keeps its law, and sets are independent. None: all samples are. Standard
        errors are then between sets, of which there must be several, and `Estimate.num_samples` and `Until`
        count sets.

    Returns:
      An `Estimate`, with a dictionary of estimates for each reducer and one of their standard errors.
      With a mesh, arrays `[B, ...]` are sharded over the mesh axes of the examples.

    Raises:
      FloatingPointError: If an output is NaN, with the number of its sample; not under a trace.
      TypeError: If `key` is not a PRNG key, a count is not an integer, or a reducer is not one, or has no
        groups with `balanced`.
      ValueError: If a count is below 1 or above the members of an ensemble, the batch is empty, the
        outputs do not have one row per example or do not depend on the key, `spec` does not fit the mesh or
        the batch, a reducer rejects the outputs or targets, the samples of `predict` are not independent
        and a reducer is not `Clustered`, a balanced set is not whole, or `predict` is `Indexed` and
        `balanced` is given.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxdrop
      >>> from jaxdrop import mc
      >>> def predict(key, x):
      ...     return jaxdrop.dropout(key, x, 0.5).mean(-1)
      >>> found = estimate(
      ...     predict, jax.random.key(0), jnp.ones((1, 100)), num_samples=1000, reducers=mc.Moments())
      >>> value, error = found.value["mean"], found.standard_error["mean"]
      >>> bool(abs(value[0] - 1) < 3 * error[0]), bool(0.002 < error[0] < 0.005)
      (True, True)
    """
    call = _accumulation.prepare(
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
        balanced=balanced,
    )
    return call.estimate().checked(reducers)


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
    balanced: int | None = None,
) -> State:
    """Accumulates samples in a state that can be saved, continued, merged or finished.

    This is the first half of `estimate`; `finish` is the second.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. It is
        compiled once for as long as it exists. Bind weights by `jax.tree_util.Partial(f, params)`, so
        that new weights do not recompile.
      key: A PRNG key. States to be merged have the same key and disjoint samples, or different keys.
      x: A tree of arrays with a leading axis of examples, `[B, ...]`.
      num_samples: The total number of samples, including those of `state`; or `Until`. With `balanced`
        the number, or `max_samples` and `every`, are multiples of that.
      reducers: One `Reducer`, or any tree of reducers.
      targets: Labels or values that a log density is evaluated at; None if no reducer needs them. For
        `Part`, a tree with the parts of the outputs.
      chunk_size: The number of samples computed at once. None: as many as fit the cache of a CPU, or
        an eighth of the memory of another device, and at least as many bytes as the state takes.
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
      balanced: The number of samples in a balanced set, a power of two from 8 to 256; 32 suits most networks.
        Within a set each draw takes all parts of its distribution equally often, so that means need fewer
        samples. Each sample alone keeps its law, and sets are independent. None: all samples are. Standard
        errors are then between sets, of which there must be several, and `Estimate.num_samples` and `Until`
        count sets. `first` is then a multiple of it.

    Returns:
      The state with the samples from `state.next_sample` or `first` on, up to the total. With a mesh it
      is sharded by the compiler, or whole on each device if the mesh is explicit.

    Raises:
      FloatingPointError: If an output is NaN, with the number of its sample; not under a trace.
      TypeError: If `key` is not a PRNG key, a count is not an integer, or a reducer is not one, or has no
        groups with `balanced`.
      ValueError: If a count is out of range, the batch is empty, the outputs do not have one row per
        example or do not depend on the key, `spec` does not fit the mesh or the batch, a reducer rejects
        the outputs or targets, `state` is of other reducers, inputs or sets, a balanced set is not whole, or
        `predict` is `Indexed` and `balanced` is given.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxdrop
      >>> from jaxdrop import mc
      >>> draw = jaxdrop.dropout
      >>> options = {"x": jnp.ones((1, 4)), "reducers": mc.Moments()}
      >>> predict = jax.tree_util.Partial(lambda key, x: draw(key, x, 0.5))
      >>> part = accumulate(predict, jax.random.key(0), num_samples=10, **options)
      >>> whole = accumulate(predict, jax.random.key(0), num_samples=50, state=part, **options)
      >>> int(whole.count)
      50
    """
    call = _accumulation.prepare(
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
        state=state,
        first=first,
        balanced=balanced,
    )
    found = call.accumulate()
    _accumulation.check_finite(found.bad)
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
      ValueError: If the states are of other reducers or inputs, or of balanced sets of another size.
    """
    _trees.check_alike(b, a, "b", "the reducers and inputs of `a`")
    return _accumulation.merged(_sets.of_state(reducers, a.reduced), a, b)


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
    return _accumulation.finished(_sets.of_state(reducers, state.reduced), state).checked(reducers)
