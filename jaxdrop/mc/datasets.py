"""Whole data sets: one batch after another, with progress, and what is done is not done again."""

import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jaxdrop import _checks
from jaxdrop._types import Key
from jaxdrop.mc._program import Predict
from jaxdrop.mc.estimator import Estimate, estimate
from jaxdrop.mc.stopping import Until


def estimate_dataset(
    predict: Predict,
    key: Key,
    data: Any,
    *,
    batch_size: int,
    num_samples: int | Until,
    reducers: Any,
    targets: Any = None,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
    progress: Callable[[int, int], Any] | None = None,
    folder: str | os.PathLike | None = None,
) -> Estimate:
    """`estimate` of a whole data set, a batch at a time; only a batch is ever on the device.

    Batch b has the key `fold_in(key, b)`, or with `shared` the key itself, so that sample t is the same
    function all over the data. The last batch is filled up with its last example, which leaves
    the masks of the others as they are and needs no program of its own; what was filled up is cut off.

    Args:
      predict: As for `estimate`.
      key: A PRNG key.
      data: A tree of arrays, `[N, ...]`; anything that can be sliced, such as `numpy.memmap`.
      batch_size: How many examples at a time; with a mesh, a multiple of its axis "batch".
      num_samples: As for `estimate`, for each batch.
      reducers: As for `estimate`.
      targets: Labels or values of the N examples, if a reducer asks for them.
      chunk_size: As for `estimate`.
      shared: As for `estimate`.
      mesh: As for `estimate`. If it spans processes, each calls this with all the data, and has
        all the results; the folder may be theirs together or a disk of each.
      progress: Called with how many examples are done, and N, after each batch.
      folder: Where to keep what each batch gave, in a file of its own that is whole or not there. A
        later call with the same folder takes from there what it finds, and goes on: it must be
        a call with the same arguments, for the files know nothing but shapes.

    Returns:
      An `Estimate` of NumPy arrays for all N examples, the number of samples one for each.

    Raises:
      FloatingPointError: As `estimate`.
      TypeError: As `estimate`.
      ValueError: As `estimate`, if there are no data, or if the folder holds another result.

    >>> import jaxdrop
    >>> from jaxdrop import mc
    >>> def predict(key, x):
    ...     return jaxdrop.dropout(key, x, 0.5).sum(-1)
    >>> found = estimate_dataset(predict, jax.random.key(0), np.ones((10, 8), np.float32), batch_size=4,
    ...     num_samples=100, reducers=mc.Moments())
    >>> found.value["mean"].shape
    (10,)
    """
    for leaf in jax.tree.leaves((data, targets)):
        if not np.ndim(leaf):
            raise TypeError(f"`data` and `targets` must hold arrays with an axis of examples, got {leaf!r}.")
    sizes = {len(leaf) for leaf in jax.tree.leaves((data, targets))}
    if len(sizes) != 1 or not min(sizes):
        found = ", ".join(map(str, sorted(sizes))) or "no arrays"
        raise ValueError(f"`data` and `targets` must hold one number of examples, at least 1, got {found}.")
    (count,) = sizes
    size = _checks.check_count(batch_size, "batch_size")
    # A mesh divides the batch that was asked for; without one nothing need be filled up.
    size = min(size, count) if mesh is None else size
    options: dict[str, Any] = {"num_samples": num_samples, "reducers": reducers, "chunk_size": chunk_size}
    run = partial(estimate, predict, **options, shared=shared, mesh=mesh)
    starts = range(0, count, size)
    like = jax.eval_shape(lambda x, y: run(key, x, targets=y), *_batch((data, targets), 0, size))
    parts = []
    for number, start in enumerate(starts):
        path = None if folder is None else Path(folder) / f"batch-{number:06d}-of-{len(starts):06d}.npz"
        leaves = _read(path, like)
        ready = _everywhere(mesh, leaves is not None)
        if leaves is None or not ready:
            x, y = _batch((data, targets), start, size)
            own = key if shared else jax.random.fold_in(key, number)
            leaves = [_whole(leaf) for leaf in jax.tree.leaves(run(own, x, targets=y))]
            _write(path, leaves)
        kept = min(size, count - start)
        parts.append([np.broadcast_to(leaf, leaf.shape or (size,))[:kept] for leaf in leaves])
        if progress:
            progress(start + kept, count)
    leaves = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return jax.tree.structure(like).unflatten(leaves)


def _everywhere(mesh: Mesh | None, truth: bool) -> bool:
    """Whether it is so in all processes, which must not wait for one that has nothing to do."""
    if mesh is None or len({device.process_index for device in mesh.devices.flat}) == 1:
        return truth
    return bool(np.all(multihost_utils.process_allgather(np.asarray(truth))))


def _whole(leaf: jax.Array) -> np.ndarray:
    """All of an array, also of one that other processes have parts of."""
    here = leaf.is_fully_addressable or leaf.is_fully_replicated
    return np.asarray(leaf if here else multihost_utils.process_allgather(leaf, tiled=True))


def _batch(tree: Any, start: int, size: int) -> Any:
    """So many examples from a place on, the last one as often as it takes."""

    def filled(leaf: Any) -> np.ndarray:
        rows = np.asarray(leaf[start : start + size])
        return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])

    return jax.tree.map(filled, tree)


def _read(path: Path | None, like: Any) -> list[np.ndarray] | None:
    """What a batch gave, if its file is there."""
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
    """Whole or not at all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".partial-{jax.process_index()}-{path.name}")
    named: dict[str, Any] = {f"leaf_{i:04d}": leaf for i, leaf in enumerate(leaves)}
    np.savez(partial_path, **named)
    os.replace(partial_path, path)
