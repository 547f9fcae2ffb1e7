"""The results of a data set in a folder: one file per batch, opened as arrays that read when indexed."""

import hashlib
import io
import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxdrop.mc._digests import Facts

_MANIFEST = "manifest.json"
# The entries of a batch's file beside the leaves: digests of the call and of the batch's data.
_CALL, _DATA = "call", "data"


class LeafType(NamedTuple):
    """The dtype of a leaf of the results, and its shape for one example."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Store:
    """A folder of results, on a disk or in a store such as `gs://`.

    Every file is written whole and then renamed, so many processes may share a folder.

    Args:
      folder: The folder; it is made with the first result.
      facts: What the results depend on; a folder with other facts is refused.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: Facts):
        self._folder = _path(folder)
        self._facts, text = facts, json.dumps(facts, indent=1)
        self._text, self._call = text.encode(), hashlib.sha256(text.encode()).hexdigest()
        self._is_open = self._manifest.exists()
        if self._is_open:
            self._check_facts()
        else:
            check_writable(self._folder, "folder")

    @property
    def kept(self) -> epath.Path | None:
        """The folder, if it holds results."""
        return self._folder if self._manifest.exists() else None

    def holds(self, number: int, data: str) -> bool:
        """Whether the result of a batch is there; `data` is the digest of the batch."""
        path = self._path(number)
        if not path.exists():
            return False
        (found,) = self._read(number, [_DATA])
        if str(found) != data:
            raise ValueError(
                "`folder` must be new or hold results of this same call, "
                f"got results of other data or targets in batch {number}: {path}."
            )
        return True

    def write(self, number: int, data: str, leaves: Sequence[np.ndarray]) -> None:
        """Writes the result of a batch."""
        if not self._is_open:
            if not self._manifest.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                self._put(_MANIFEST, self._text)
            self._check_facts()  # another call may have come first
            self._is_open = True
        # Untyped, since a type checker also matches the values to `allow_pickle`.
        named: dict[str, Any] = {_CALL: self._call, _DATA: data}
        named |= {_leaf(i): leaf for i, leaf in enumerate(leaves)}
        content = io.BytesIO()
        np.savez(content, **named)
        self._put(self._path(number).name, content.getvalue())

    def leaf(self, number: int, place: int) -> np.ndarray:
        """One leaf of the result of a batch."""
        path = self._path(number)
        if not path.exists():
            raise FileNotFoundError(
                f"`folder` must hold every batch, batch {number} is missing: run the other parts, or call "
                f"again without `part`: {self._folder}."
            )
        return self._read(number, [_leaf(place)])[0]

    @property
    def _manifest(self) -> epath.Path:
        return self._folder / _MANIFEST

    def _check_facts(self) -> None:
        """Compares the facts with those of the folder."""
        try:
            found = dict(json.loads(self._manifest.read_text()))
        except (ValueError, TypeError) as error:
            raise _damaged(self._manifest) from error
        names = {**self._facts, **found}
        differ = [name for name in names if self._facts.get(name) != found.get(name)]
        if differ:
            raise ValueError(
                "`folder` must be new or hold results of this same call, "
                f"got results that differ in {', '.join(differ)}: {self._folder}."
            )

    def _path(self, number: int) -> epath.Path:
        return self._folder / f"batch-{number:06d}.npz"

    def _put(self, name: str, content: bytes) -> None:
        """Writes a file atomically."""
        partial = self._folder / f".partial-{uuid.uuid4().hex}-{name}"
        partial.write_bytes(content)
        partial.replace(self._folder / name)

    def _read(self, number: int, names: list[str]) -> list[np.ndarray]:
        """Entries of the file of a batch, which this same call must have written."""
        path = self._path(number)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as entries:
                call, *found = (entries[name] for name in (_CALL, *names))
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(path) from error
        if str(call) != self._call:
            raise ValueError(
                f"`folder` must be new or hold results of this same call, got another's: {path}."
            )
        return found


class StoredArray:
    """An array `[N, ...]` in the files of a store, one per batch, read as it is indexed.

    It has `shape`, `dtype`, `ndim` and a length, and is indexed along its first axis by an integer, a slice,
    or an array of integers or booleans, which gives a NumPy array. `numpy.asarray` reads all of it.
    """

    def __init__(self, store: Store, place: int, kind: LeafType, starts: np.ndarray):
        self._store, self._place, self._starts = store, place, starts
        self.shape = (int(starts[-1]), *kind.shape)
        self.dtype = kind.dtype
        # The last batch that was read, for those who take one row after another.
        self._last: tuple[int, np.ndarray] | None = None

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"StoredArray(shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("`copy` must not be False for an array in files, got False.")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        rows = self._rows(index)
        found = np.empty((rows.size, *self.shape[1:]), self.dtype)
        numbers = np.searchsorted(self._starts, rows.reshape(-1), side="right") - 1
        order = np.argsort(numbers, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            if len(places):
                number = int(numbers[places[0]])
                found[places] = self._batch(number)[rows.reshape(-1)[places] - self._starts[number]]
        return found.reshape((*rows.shape, *self.shape[1:]))[()]

    def _rows(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """The numbers of the rows, not negative."""
        count = len(self)
        if isinstance(index, slice):
            return np.arange(*index.indices(count))
        rows = np.asarray(index)
        if isinstance(index, tuple) or rows.dtype.kind not in "iub":
            raise IndexError(
                "a stored array is indexed by an integer, a slice, or an array of integers or booleans."
            )
        if rows.dtype == bool:
            if rows.shape != (count,):
                raise IndexError(f"a mask of a stored array must have shape ({count},), got {rows.shape}.")
            return np.flatnonzero(rows)
        if ((rows < -count) | (rows >= count)).any():
            raise IndexError(f"an index of a stored array must lie in [-{count}, {count}), got {index}.")
        return np.where(rows < 0, rows + count, rows)

    def _batch(self, number: int) -> np.ndarray:
        if self._last is None or self._last[0] != number:
            # A dtype that NumPy does not know itself, such as bfloat16, is read as bytes.
            self._last = number, self._store.leaf(number, self._place).view(self.dtype)
        return self._last[1]


def opened(store: Store, kinds: Sequence[LeafType], sizes: Sequence[int]) -> list[StoredArray]:
    """The leaves of the results of all batches, of these sizes."""
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return [StoredArray(store, place, kind, starts) for place, kind in enumerate(kinds)]


def _path(folder: str | os.PathLike[str]) -> epath.Path:
    try:
        return epath.Path(folder)
    except KeyError:
        raise ValueError(
            f"`folder` must be a local path or a URL of gs, s3, az or hf, got {os.fspath(folder)}."
        ) from None


def check_writable(folder: Path | epath.Path, name: str) -> None:
    """Checks before any work that a local folder can be made or written to."""
    if "://" in os.fspath(folder):
        return
    # A link to nothing is there too, and no folder can be made in its place.
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"`{name}` must be a folder that can be written to, got {folder}.")


def _leaf(place: int) -> str:
    return f"leaf_{place:04d}"


def _damaged(path: epath.Path) -> ValueError:
    return ValueError(f"`folder` must hold whole files, got a damaged one, to be removed: {path}.")
