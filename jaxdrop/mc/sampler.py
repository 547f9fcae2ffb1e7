"""Samples of a prediction.

Sample t is `predict(fold_in(key, t), x)`. So a result does not depend on the size of the chunks, the
number of devices, or a restart. Key-free parts of the prediction are computed once.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxdrop import _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _designs, _devices, _program, _samples
from jaxdrop.mc._program import Arrays, Execution, Predict, Static

__all__ = ["sample"]


def sample(
    predict: Predict,
    key: Key,
    x: PyTree,
    *,
    num_samples: int,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
    spec: PartitionSpec | None = None,
    allow_deterministic: bool = False,
    balanced: int | None = None,
) -> PyTree:
    """Draws samples of a prediction.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. It is
        compiled once for as long as it exists; its program, with the arrays it closes over as
        constants, is dropped with it. Bind weights by `jax.tree_util.Partial(f, params)`: its arrays
        are arguments of the program, so new weights do not recompile. The same holds for a predictor
        that is a pytree, as from `jaxdrop.linen.stochastic`.
      key: A PRNG key. Sample t is `predict(jax.random.fold_in(key, t), x)`. For a Threefry key, JAX's
        default, this always holds. For an `rbg` key it holds with `jaxdrop`'s draws only: JAX's draws
        under `vmap`, as in Flax's Dropout, depend on the size of the chunk. For an `unsafe_rbg` key it
        holds with chunks of one only. An `Indexed` predictor, such as an `ensemble`, gets the key itself
        and t. With `balanced` other keys are hashed to Threefry keys, and sample t has a typed key of another
        kind, made of `fold_in(key, t // balanced)` and the place t % balanced.
      x: A tree of arrays with a leading axis of examples, `[B, ...]`.
      num_samples: The number of samples T, at least 1; with `balanced` a multiple of that.
      chunk_size: The number of samples computed at once. None: as many as fit the cache of a CPU, or
        an eighth of the memory of another device.
      shared: If true, one draw serves all inputs: sample t is one function, the same for every example
        in this batch and in others. Each example is then given to `predict` as a batch of one.
      mesh: The devices that samples and examples are sharded over; the result is that of one device.
        None: one device.
      spec: The mesh axes of samples and of examples, such as `PartitionSpec("data", ("fsdp", "model"))`.
        None: the axes "samples" and "batch". Other mesh axes are left to the compiler, and weights
        stay sharded as they are.
      allow_deterministic: If true, `predict` may ignore its key, and all samples are then equal: a rate
        of 0 in a sweep.
      balanced: The number of samples in a balanced set, a power of two from 8 to 256; 32 suits most networks.
        Within a set each draw takes all parts of its distribution equally often, so that means need fewer
        samples. Each sample alone keeps its law, and sets are independent. None: all samples are.

    Returns:
      The outputs with a leading axis of samples, `[T, B, ...]`. They are not checked for NaN;
      `estimate` does that. With a mesh they are sharded by `spec`, over samples if T is a multiple of
      the devices there. Their other axes are sharded by the compiler, or whole if the mesh is explicit.

    Raises:
      TypeError: If `key` is not a PRNG key, or a count is not an integer.
      ValueError: If a count is below 1 or above the members of an ensemble, the batch is empty, the
        outputs do not have one row per example or do not depend on the key, `spec` does not fit the mesh
        or the batch, a balanced set is not whole, or `predict` is `Indexed` and `balanced` is given.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.

    Examples:
      >>> import jaxdrop
      >>> def predict(key, x):
      ...     return jaxdrop.dropout(key, x, 0.5).sum(-1)
      >>> sample(predict, jax.random.key(0), jnp.ones((2, 8)), num_samples=3).shape
      (3, 2)
    """
    most = _checks.check_count(num_samples, "num_samples")
    balanced = _designs.check_balanced(balanced, num_samples=most)
    plan = _program.plan(predict, key, x, most, chunk_size, shared, mesh, spec, allow_deterministic, balanced)
    plan.program.static.check_count(most, "num_samples")
    return plan.program.run(_sample, plan.arrays, key, x, execution=plan.execution, count=num_samples)


def _sample(
    static: Static, arrays: Arrays, key: Key, x: PyTree, *, execution: Execution, count: int
) -> PyTree:
    chunks = -(-count // execution.chunk)

    def run(arrays: Arrays, key: Key, x: PyTree) -> PyTree:
        sampler = _samples.make_sampler(static, arrays, key, x, execution)
        numbers = jnp.arange(chunks, dtype=jnp.int32)
        samples = sampler.draw(0) if chunks == 1 else jax.lax.map(sampler.draw, numbers)
        lead = 1 if chunks == 1 else 2
        return jax.tree.map(lambda y: y.reshape(-1, *y.shape[lead:])[:count], samples)

    out = PartitionSpec()
    if layout := execution.layout:
        # An explicit axis can be sharded only if its size is a multiple of the devices.
        even = count % layout.shards(layout.samples) == 0
        out = PartitionSpec(layout.samples if even else None, layout.batch)
    return _devices.on_automatic_axes(run, arrays, key, x, out=out)
