"""Estimates for whole data sets, batch by batch, with progress and restarts."""

import itertools
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from jaxdrop import _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _accumulation, _batches, _devices, _digests, _stores
from jaxdrop.mc._accumulation import Found
from jaxdrop.mc._batches import Batch, Examples
from jaxdrop.mc._estimates import Estimate
from jaxdrop.mc._program import Predict
from jaxdrop.mc._stores import LeafType, Store
from jaxdrop.mc.reducers import Reducer
from jaxdrop.mc.stopping import Until

__all__ = ["estimate_dataset"]


class _Work(NamedTuple):
    """A batch that was read.

    Attributes:
      rows: The number of examples, without padding.
      examples: The examples, padded; None for a batch of another part.
      digest: The digest of the data, if there is a folder.
      stored: Whether the folder has the result.
    """

    rows: int
    examples: Examples | None
    digest: str
    stored: bool


class _Started(NamedTuple):
    """A batch whose results are being computed; none if they are stored, or are of another part."""

    number: int
    work: _Work
    found: Found | None


def estimate_dataset(
    predict: Predict,
    key: Key,
    data: PyTree | Iterable[PyTree],
    *,
    num_samples: int | Until,
    reducers: Reducer | PyTree,
    batch_size: int | None = None,
    targets: PyTree = None,
    chunk_size: int | None = None,
    shared: bool = False,
    mesh: Mesh | None = None,
    spec: PartitionSpec | None = None,
    allow_deterministic: bool = False,
    progress: Callable[[int, int | None], object] | None = None,
    folder: str | os.PathLike[str] | None = None,
    part: tuple[int, int] = (0, 1),
    balanced: int | None = None,
) -> Estimate:
    """Runs `estimate` on a whole data set, batch by batch; at most two are on the device at a time.

    Batch b has the key `fold_in(key, b)`. With `shared` it has the key itself, so that sample t is the
    same function for all the data. A batch that is smaller than the first is padded with copies of its
    last example; other masks are unchanged and nothing is recompiled. The padding is removed from the
    result. While a batch is computed, the next is sent to the device, and one more is read by a thread.

    With a folder the results stay in its files, so memory does not grow with N, and a call that was
    stopped continues where it was. The calls of an array job share one folder, each with its `part` of the
    batches. They need not talk to each other, and each returns the results of all.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to a tree of arrays `[B, ...]`. It is
        compiled once for as long as it exists. Bind weights by `jax.tree_util.Partial(f, params)`, so
        that new weights do not recompile.
      key: A PRNG key.
      data: A tree of arrays, `[N, ...]`; anything that can be sliced, such as `numpy.memmap`. Or an
        iterable of batches, such as a generator, a `grain` or `torch` loader or a `tf.data` set: each is
        a pair `(x, targets)`, as a tuple or a list, or x alone, as an array, a dictionary or a named
        tuple. It must give the same batches in the same order in each call. No batch is larger than the
        first.
      num_samples: The number of samples for each batch, at least 1; or `Until`, a stopping rule. With
        `balanced` the number, or `max_samples` and `every`, are multiples of that.
      reducers: One of `Moments`, `Quantiles`, `Categorical`, `Bernoulli`, `CategoricalLogDensity`,
        `BernoulliLogDensity` and `GaussianLogDensity`, another `Reducer`, or any tree of reducers.
        Each gets the whole outputs; `Part` selects a part of them for one.
      batch_size: The number of examples per batch, of arrays only; an iterable has its own. With a mesh,
        a multiple of the size of its axes of examples.
      targets: Labels or values of the N examples that a log density is evaluated at; None if no
        reducer needs them, or if `data` is an iterable. For `Part`, a tree with the parts of the outputs.
      chunk_size: The number of samples computed at once. None: as many as fit the cache of a CPU, or
        an eighth of the memory of another device, and at least as many bytes as the state takes.
      shared: If true, one draw serves all inputs: sample t is one function, the same for every example.
      mesh: The devices that samples and examples are sharded over; the result is that of one device.
        None: one device. If it spans processes, each process calls this with all the data and gets all the
        results; the folder may be common or local to each process.
      spec: The mesh axes of samples and of examples, such as `PartitionSpec("data", ("fsdp", "model"))`.
        None: the axes "samples" and "batch". Other mesh axes are left to the compiler, and weights
        stay sharded as they are.
      allow_deterministic: If true, `predict` may ignore its key, and all samples are then equal: a rate
        of 0 in a sweep.
      progress: Called after each batch with the number of examples done, and their number in all, both of
        this part. The second is None for an iterable.
      folder: Folder for the results, a local path or a URL of gs, s3, az or hf, such as
        "gs://bucket/name", for which `gcsfs` or TensorFlow must be installed. It holds one file per batch,
        written atomically, and a manifest of what the results depend on. A later call with the same
        arguments reads the files that exist and computes the rest. Chunks, mesh and part may change, and
        data may be added behind the last whole batch. The data of each file are compared as they pass.
        None: nothing is saved.
      part: `(i, n)`: compute batches i, i + n, i + 2 n, ... only, in an array job. The data of these and of
        the first batch are compared, those of others are not, and of arrays they are not read. A call
        without `part` compares all. Needs a folder.
      balanced: The number of samples in a balanced set, a power of two from 8 to 256; 32 suits most networks.
        Within a set each draw takes all parts of its distribution equally often, so that means need fewer
        samples. Each sample alone keeps its law, and sets are independent. None: all samples are. Standard
        errors are then between sets, of which there must be several, and `Estimate.num_samples` and `Until`
        count sets.

    Returns:
      An `Estimate` for all N examples, with a number of samples for each: NumPy arrays, or with a folder
      arrays that read the files as they are indexed along the first axis. They have `shape`, `dtype` and a
      length; `numpy.asarray` reads all of one. An index or `numpy.asarray` raises FileNotFoundError while
      another part has yet to compute such a batch.

    Raises:
      FloatingPointError: If an output is NaN, with the numbers of its sample, batch and examples. With a
        folder, the results of other batches stay there, for a call with the data mended.
      TypeError: If `key` is not a PRNG key, a count is not an integer, a reducer is not one, the data are
        a list, which could be rows, batches or arrays, they have no axis of examples, or a reducer has no
        groups with `balanced`.
      ValueError: If a count is below 1, there are no data, the outputs do not have one row per
        example or do not depend on the key, `spec` does not fit the mesh or the batch, a reducer rejects
        the outputs or targets, batches differ in structure, shape or dtype, the folder holds results
        of another key, program, weights, data or other arguments, which the message names, a balanced set is
        not whole, the folder cannot be made, or `predict` is `Indexed` and `balanced` is given.

    Examples:
      >>> import jaxdrop
      >>> from jaxdrop import mc
      >>> def predict(key, x):
      ...     return jaxdrop.dropout(key, x, 0.5).sum(-1)
      >>> options = {"num_samples": 100, "reducers": mc.Moments()}
      >>> found = estimate_dataset(predict, jax.random.key(0), np.ones((10, 8)), batch_size=4, **options)
      >>> found.value["mean"].shape
      (10,)
      >>> batches = (np.ones((4, 8)) for _ in range(3))
      >>> estimate_dataset(predict, jax.random.key(0), batches, **options).value["mean"].shape
      (12,)
    """
    index, parts = _check_part(part, folder)
    source = _batches.source(data, targets, batch_size, exact=mesh is not None)
    prepare = partial(
        _accumulation.prepare,
        predict,
        num_samples=num_samples,
        reducers=reducers,
        chunk_size=chunk_size,
        shared=shared,
        mesh=mesh,
        spec=spec,
        allow_deterministic=allow_deterministic,
        balanced=balanced,
    )
    first = _batches.padded(source.first, source.size)
    layout = _devices.make_layout(mesh, spec, source.size)
    like = jax.eval_shape(lambda x, y: prepare(key, x, targets=y).estimate().checked(reducers), *first)
    store = None
    if folder is not None:
        options = {"num_samples": num_samples, "reducers": reducers, "shared": shared, "balanced": balanced}
        store = Store(folder, _digests.facts(predict, key, source.first, first, like, **options))

    def read(number: int, batch: Batch) -> _Work:
        if number % parts != index:
            return _Work(batch.rows, None, "", False)
        examples = batch.load()
        digest = _digests.of_arrays(examples) if store else ""
        stored = store is not None and store.holds(number, digest)
        return _Work(batch.rows, _batches.padded(examples, source.size), digest, stored)

    def start(number: int, work: _Work) -> _Started:
        if work.examples is None or _is_true_everywhere(mesh, work.stored):
            return _Started(number, work, None)
        batch_key = key if shared else jax.random.fold_in(key, number)
        x, own = _devices.put(work.examples, layout)
        return _Started(number, work, prepare(batch_key, x, targets=own).estimate())

    sizes, results, done = [], [], 0
    total = source.rows_of(index, parts)
    with closing(_batches.ahead(itertools.starmap(read, enumerate(source.batches)))) as works:
        for number, work, found in _batches.one_late(itertools.starmap(start, enumerate(works))):
            sizes.append(work.rows)
            if work.examples is None:
                continue
            if found is not None:
                try:
                    estimate = found.checked(reducers)
                except (FloatingPointError, ValueError) as error:
                    kind = FloatingPointError if isinstance(error, FloatingPointError) else ValueError
                    raise kind(f"{error} {_place(number, work.rows, sizes, store)}") from error
                leaves = [_rows(leaf, source.size)[: work.rows] for leaf in jax.tree.leaves(estimate)]
                if store:
                    store.write(number, work.digest, leaves)
                else:
                    results.append(leaves)
            done += work.rows
            if progress:
                progress(done, total)
    if store:
        kinds = [LeafType(leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves(like)]
        leaves = _stores.opened(store, kinds, sizes)
    else:
        leaves = [np.concatenate(column) for column in zip(*results, strict=True)]
    return jax.tree.structure(like).unflatten(leaves)


def _check_part(part: tuple[int, int], folder: str | os.PathLike[str] | None) -> tuple[int, int]:
    if not isinstance(part, tuple) or len(part) != 2:
        raise TypeError(f"`part` must be a pair (index, number of parts), got {part!r}.")
    index, parts = _checks.check_count(part[0], "part[0]", 0), _checks.check_count(part[1], "part[1]")
    if index >= parts:
        raise ValueError(f"`part` must have an index below the number of parts, {parts}, got {index}.")
    if folder is None and parts > 1:
        raise ValueError(f"`folder` must be given with `part`, in which the parts meet, got {part}.")
    return index, parts


def _is_true_everywhere(mesh: Mesh | None, truth: bool) -> bool:
    """Whether it is true in all processes: a batch is computed by all of them or by none."""
    if not _devices.is_of_many_processes(mesh):
        return truth
    return bool(np.all(multihost_utils.process_allgather(np.asarray(truth))))


def _place(number: int, rows: int, sizes: list[int], store: Store | None) -> str:
    """Where an error is, and what can be done with the results so far; for its message."""
    first = sum(sizes) - rows
    told = f"This is in batch {number}, examples {first} to {first + rows - 1}."
    # Of other data in the first batch, the results are those of another call.
    if store is None or store.kept is None or not number:
        return told
    return (
        f"{told} The results of other batches stay in {store.kept}: the same call continues there once the "
        "data of this batch are mended; a call with another predictor needs a new folder."
    )


def _rows(leaf: jax.Array, size: int) -> np.ndarray:
    """The result on the host; what is one number for the batch becomes one for each example."""
    array = _batches.whole(leaf)
    return np.broadcast_to(array, array.shape or (size,))
