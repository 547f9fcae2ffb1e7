"""Samples of a prediction.

Sample t is `predict(fold_in(key, t), x)`. So a result does not depend on the size of the chunks, the
number of devices, or a restart. Key-free parts of the prediction are computed once.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxdrop import _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _devices, _program
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
) -> PyTree:
    """Draws samples of a prediction.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. Its
        program is cached by the identity of the function: bind weights by
        `jax.tree_util.Partial(f, params)`, whose arrays become arguments of the program.
      key: A PRNG key. Sample t is `predict(jax.random.fold_in(key, t), x)`. For a Threefry key, JAX's
        default, this always holds. For an `rbg` key it holds with `jaxdrop`'s draws only: JAX's draws
        under `vmap`, as in Flax's Dropout, depend on the size of the chunk. For an `unsafe_rbg` key it
        holds with chunks of one only.
      x: A tree of arrays with a leading axis of examples, `[B, ...]`.
      num_samples: The number of samples T, at least 1.
      chunk_size: The number of samples computed at once. None: as many as fit the cache of a CPU, or
        an eighth of the memory of another device.
      shared: If true, one draw serves all inputs: sample t is one function, the same for every example
        in this batch and in others. Each example is then given to `predict` as a batch of one.
      mesh: A mesh with an axis "samples", an axis "batch", or both, over which samples and examples
        are sharded; the result is that of one device. None: one device.

    Returns:
      The outputs with a leading axis of samples, `[T, B, ...]`. They are not checked for NaN;
      `estimate` does that.

    Raises:
      TypeError: If a count is not an integer.
      ValueError: If a count is below 1, the batch is empty, the outputs do not have one row per
        example, or the axes of the mesh do not match.

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
    plan = _program.plan(
        predict,
        key,
        x,
        most,
        chunk_size=chunk_size,
        shared=shared,
        mesh=mesh,
        spec=spec,
        allow_deterministic=allow_deterministic,
    )
    return plan.program.run(_sample, plan.arrays, key, x, execution=plan.execution, count=num_samples)


def _sample(
    static: Static, arrays: Arrays, key: Key, x: PyTree, *, execution: Execution, count: int
) -> PyTree:
    chunks = -(-count // execution.chunk)

    def run(arrays: Arrays, key: Key, x: PyTree) -> PyTree:
        sampler = _program.make_sampler(static, arrays, key, x, execution)
        index = jnp.arange(chunks * execution.chunk).reshape(chunks, execution.chunk)
        samples = sampler.draw(index[0]) if chunks == 1 else jax.lax.map(sampler.draw, index)
        lead = 1 if chunks == 1 else 2
        return jax.tree.map(lambda y: y.reshape(-1, *y.shape[lead:])[:count], samples)

    out = PartitionSpec()
    if layout := execution.layout:
        # An explicit axis can be sharded only if its size is a multiple of the devices.
        even = count % layout.shards(layout.samples) == 0
        out = PartitionSpec(layout.samples if even else None, layout.batch)
    return _devices.on_automatic_axes(run, arrays, key, x, out=out)
