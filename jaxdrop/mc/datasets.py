"""Estimates for whole data sets, batch by batch, with progress and restarts."""

import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from jaxdrop import _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc._program import Predict
from jaxdrop.mc.estimator import Estimate, estimate
from jaxdrop.mc.reducers import Reducer
from jaxdrop.mc.stopping import Until

__all__ = ["estimate_dataset"]


class _Examples(NamedTuple):
    """Inputs and targets, with a leading axis of examples."""

    x: PyTree
    targets: PyTree


def estimate_dataset(
    predict: Predict,
    key: Key,
    data: PyTree,
    *,
    batch_size: int,
    num_samples: int | Until,
    reducers: Reducer | PyTree,
    targets: PyTree = None,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
    spec: PartitionSpec | None = None,
    allow_deterministic: bool = False,
    progress: Callable[[int, int], object] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Estimate:
    """Runs `estimate` on a whole data set, batch by batch; only one batch is on the device at a time.

    Batch b has the key `fold_in(key, b)`. With `shared` it has the key itself, so that sample t is the
    same function for all the data. The last batch is padded with copies of its last example; other
    masks are unchanged and nothing is recompiled. The padding is removed from the result.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. It is
        compiled once for as long as it exists. Bind weights by `jax.tree_util.Partial(f, params)`, so
        that new weights do not recompile.
      key: A PRNG key.
      data: A tree of arrays, `[N, ...]`; anything that can be sliced, such as `numpy.memmap`.
      batch_size: The number of examples per batch; with a mesh, a multiple of the size of
        its axes of examples.
      num_samples: The number of samples for each batch, at least 1; or `Until`, a stopping rule.
      reducers: One of `Moments`, `Categorical`, `Quantiles`, `CategoricalLogDensity` and
        `GaussianLogDensity`, another `Reducer`, or any tree of reducers.
      targets: Labels or values of the N examples that a log density is evaluated at; None if no
        reducer needs them.
      chunk_size: The number of samples computed at once. None: as many as fit the cache of a CPU, or
        an eighth of the memory of another device.
      shared: If true, one draw serves all inputs: sample t is one function, the same for every example.
      mesh: The devices that samples and examples are sharded over; the result is that of one device.
        None: one device. If it spans processes, each process calls this with all the data and gets all the
        results; the folder may be common or local to each process.
      spec: The mesh axes of samples and of examples, such as `PartitionSpec("data", ("fsdp", "model"))`.
        None: the axes "samples" and "batch". Other mesh axes are left to the compiler, and weights
        stay sharded as they are.
      allow_deterministic: If true, `predict` may ignore its key, and all samples are then equal: a rate
        of 0 in a sweep.
      progress: Called after each batch with the number of examples done, and N.
      folder: Folder for the results, one file per batch, written atomically. None: nothing is saved. A
        later call with the same folder reads the files that exist and computes the rest. It must have
        the same arguments, as only shapes and dtypes are compared.

    Returns:
      An `Estimate` of NumPy arrays for all N examples, with a number of samples for each.

    Raises:
      FloatingPointError: If an output is NaN, with the number of its sample.
      TypeError: If a count is not an integer, a reducer is not one, or the data have no axis of examples.
      ValueError: If a count is below 1, there are no data, the outputs do not have one row per
        example or do not depend on the key, `spec` does not fit the mesh or the batch, a reducer rejects
        the outputs or targets, or the folder holds another result.

    Examples:
      >>> import jaxdrop
      >>> from jaxdrop import mc
      >>> def predict(key, x):
      ...     return jaxdrop.dropout(key, x, 0.5).sum(-1)
      >>> found = estimate_dataset(predict, jax.random.key(0), np.ones((10, 8), np.float32), batch_size=4,
      ...     num_samples=100, reducers=mc.Moments())
      >>> found.value["mean"].shape
      (10,)
    """
    examples = _Examples(data, targets)
    count = _check_examples(examples)
    size = _checks.check_count(batch_size, "batch_size")
    # A mesh needs the batch size that was given; without one a small data set needs no padding.
    size = min(size, count) if mesh is None else size
    run = partial(
        estimate,
        predict,
        num_samples=num_samples,
        reducers=reducers,
        chunk_size=chunk_size,
        shared=shared,
        mesh=mesh,
        spec=spec,
        allow_deterministic=allow_deterministic,
    )
    starts = range(0, count, size)
    like = jax.eval_shape(lambda x, y: run(key, x, targets=y), *_batch(examples, 0, size))
    parts = []
    for number, start in enumerate(starts):
        path = None if folder is None else Path(folder) / f"batch-{number:06d}-of-{len(starts):06d}.npz"
        leaves = _read(path, like)
        in_all = _is_true_everywhere(mesh, leaves is not None)
        if leaves is None or not in_all:
            batch = _batch(examples, start, size)
            batch_key = key if shared else jax.random.fold_in(key, number)
            leaves = [
                _whole(leaf) for leaf in jax.tree.leaves(run(batch_key, batch.x, targets=batch.targets))
            ]
            _write(path, leaves)
        kept = min(size, count - start)
        parts.append([np.broadcast_to(leaf, leaf.shape or (size,))[:kept] for leaf in leaves])
        if progress:
            progress(start + kept, count)
    leaves = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return jax.tree.structure(like).unflatten(leaves)


def _check_examples(examples: _Examples) -> int:
    """The number of examples."""
    leaves = jax.tree.leaves(examples)
    for leaf in leaves:
        if not np.ndim(leaf):
            raise TypeError(f"`data` and `targets` must hold arrays with an axis of examples, got {leaf!r}.")
    sizes = {len(leaf) for leaf in leaves}
    if len(sizes) != 1 or not min(sizes):
        found = ", ".join(map(str, sorted(sizes))) or "no arrays"
        raise ValueError(f"`data` and `targets` must share one number of examples, at least 1, got {found}.")
    (count,) = sizes
    return count


def _is_true_everywhere(mesh: Mesh | None, truth: bool) -> bool:
    """Whether it is true in all processes: a batch is computed by all of them or by none."""
    if mesh is None or len({device.process_index for device in mesh.devices.flat}) == 1:
        return truth
    return bool(np.all(multihost_utils.process_allgather(np.asarray(truth))))


def _whole(leaf: jax.Array) -> np.ndarray:
    """The whole array, gathered if other processes hold parts of it."""
    here = leaf.is_fully_addressable or leaf.is_fully_replicated
    return np.asarray(leaf if here else multihost_utils.process_allgather(leaf, tiled=True))


def _batch(examples: _Examples, start: int, size: int) -> _Examples:
    """A batch, padded with copies of its last example."""

    def padded(leaf: np.ndarray) -> np.ndarray:
        rows = np.asarray(leaf[start : start + size])
        return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])

    return jax.tree.map(padded, examples)


def _read(path: Path | None, like: Estimate) -> list[np.ndarray] | None:
    """The result of a batch, if its file exists."""
    if path is None or not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            leaves = [file[name] for name in sorted(file.files)]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"`folder` must hold whole files, got a damaged one, to be removed: {path}."
        ) from error
    expected = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(like)]
    if [(leaf.shape, leaf.dtype) for leaf in leaves] != expected:
        raise ValueError(f"`folder` must be new or hold results of this same call, got another in {path}.")
    return leaves


def _write(path: Path | None, leaves: list[np.ndarray]) -> None:
    """Writes the result of a batch atomically."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".partial-{jax.process_index()}-{path.name}")
    # Untyped, since a type checker also matches the values to `allow_pickle`.
    named: dict[str, Any] = {f"leaf_{i:04d}": leaf for i, leaf in enumerate(leaves)}
    np.savez(partial_path, **named)
    os.replace(partial_path, path)
