"""Samples of a prediction.

Sample t is `predict(fold_in(key, t), x)`, so that a result does not depend on the size of the chunks,
the number of devices, or a restart. What does not depend on the key is computed once.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdrop import _checks
from jaxdrop._types import Key
from jaxdrop.mc import _program
from jaxdrop.mc._program import Execution, Predict


def sample(
    predict: Predict,
    key: Key,
    x: Any,
    *,
    num_samples: int,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
) -> Any:
    """Draws samples of a prediction.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. Its
        program is kept while the function is the same object: bind weights by
        `jax.tree_util.Partial(f, params)`, whose arrays are arguments of the program.
      key: A PRNG key. Sample t is `predict(jax.random.fold_in(key, t), x)`: of a Threefry key,
        JAX's default, always; of an `rbg` key with `jaxdrop`'s own draws, for what JAX draws from
        it under `vmap`, as Flax's Dropout does, depends on the size of the chunk; of an
        `unsafe_rbg` key with chunks of one alone.
      x: A tree of arrays with a leading axis of examples, `[B, ...]`.
      num_samples: How many, T, at least 1.
      chunk_size: How many samples are computed at a time; by default as many as fit the cache of
        a CPU, or an eighth of the memory of another device.
      shared: One draw for all inputs: sample t is one function, the same for every example in
        this batch and in others. Each example is then given to `predict` in a batch of its own.
      mesh: A mesh with an axis "samples", an axis "batch", or both, over which samples and
        examples are divided; the result is that of one device.

    Returns:
      The outputs with a leading axis of samples, `[T, B, ...]`, as they are: only `estimate` looks
      for NaN.

    Raises:
      TypeError: If a count is not an integer.
      ValueError: If a count is below 1, the batch is empty, the outputs do not have one row for
        each example, or the mesh does not fit.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.

    >>> import jaxdrop
    >>> def predict(key, x):
    ...     return jaxdrop.dropout(key, x, 0.5).sum(-1)
    >>> sample(predict, jax.random.key(0), jnp.ones((2, 8)), num_samples=3).shape
    (3, 2)
    """
    plan = _program.plan(
        predict, key, x, _checks.check_count(num_samples, "num_samples"), chunk_size, shared, mesh
    )
    return _sample(plan.program, plan.arrays, key, x, execution=plan.execution, count=num_samples)


@partial(jax.jit, static_argnames=("program", "execution", "count"))
def _sample(program: tuple, arrays: tuple, key: Key, x: Any, *, execution: Execution, count: int) -> Any:
    chunks = -(-count // execution.chunk)

    def run(arrays: tuple, key: Key, x: Any) -> Any:
        draw, _ = _program.make_sampler(program, arrays, key, x, execution)
        index = jnp.arange(chunks * execution.chunk).reshape(chunks, execution.chunk)
        samples = draw(index[0]) if chunks == 1 else jax.lax.map(draw, index)
        lead = 1 if chunks == 1 else 2
        return jax.tree.map(lambda y: y.reshape(-1, *y.shape[lead:])[:count], samples)

    # An explicit axis divides evenly or not at all.
    even = execution.mesh is not None and count % execution.mesh.shape.get(_program.SAMPLES, 1) == 0
    out = _program.places(execution.mesh, _program.SAMPLES if even else "", _program.BATCH)
    return _program.on_automatic_axes(run, arrays, key, x, out=out)
