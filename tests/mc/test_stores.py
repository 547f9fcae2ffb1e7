"""Results in a folder: a disk or a store in memory, arrays that read when indexed, refusals."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from etils.epath import backend, gpath
from fsspec.implementations.memory import MemoryFileSystem

from jaxdrop.mc import _stores
from jaxdrop.mc._stores import LeafType, Store, StoredArray

FACTS = {"key": "threefry 0", "num_samples": 20, "weights": "abc"}
KINDS = [LeafType((2,), np.dtype(np.float32)), LeafType((), np.dtype(jnp.bfloat16))]
SIZES = [4, 1, 4, 2]
WHOLE = [np.arange(22, dtype=np.float32).reshape(11, 2), np.arange(11).astype(jnp.bfloat16)]
STARTS = [0, 4, 5, 9, 11]


class Bucket(MemoryFileSystem):
    """A store in memory under the name of a remote one."""

    protocol = ("gs", "gcs")
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("gs://").strip("/")


@pytest.fixture(params=["local", "gs"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> epath.Path:
    """A folder that does not exist yet, on the disk or in a store."""
    if request.param == "local":
        return epath.Path(tmp_path / "some" / "where")
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    monkeypatch.setattr(backend._FileSystemSpecBackend, "_get_filesystem", lambda self, name: Bucket())
    monkeypatch.chdir(tmp_path)
    return epath.Path("gs://bucket/some/where")


def write(folder, numbers=range(4), facts=None) -> Store:
    store = Store(folder, FACTS | (facts or {}))
    for number in numbers:
        rows = slice(STARTS[number], STARTS[number + 1])
        store.write(number, f"data {number}", [leaf[rows] for leaf in WHOLE])
    return store


def test_the_files_of_a_folder(folder, tmp_path: Path):
    store = write(folder)
    names = [f"batch-{number:06d}.npz" for number in range(4)]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "manifest.json"]
    assert json.loads((folder / "manifest.json").read_text()) == FACTS
    assert store.holds(3, "data 3")
    assert not store.holds(4, "data 4")
    if str(folder).startswith("gs:"):
        assert not list(tmp_path.iterdir())


def test_arrays_read_when_indexed(folder):
    first, second = _stores.opened(write(folder), KINDS, SIZES)
    for found, whole in zip((first, second), WHOLE, strict=True):
        assert (found.shape, found.dtype, found.ndim, len(found)) == (
            whole.shape,
            whole.dtype,
            whole.ndim,
            11,
        )
        np.testing.assert_array_equal(np.asarray(found), whole)
        mask = np.arange(11) % 3 == 0
        for index in (
            0,
            -1,
            np.int64(4),
            slice(None),
            slice(3, 6),
            slice(9, 2, -3),
            slice(5, 5),
            [10, 0, 0],
            mask,
        ):
            np.testing.assert_array_equal(found[index], whole[index])
            assert np.shape(found[index]) == whole[index].shape
        table = np.array([[0, 5], [-1, 4]])
        np.testing.assert_array_equal(found[table], whole[table])
        np.testing.assert_array_equal(np.stack(list(found)), whole)
    assert np.asarray(first, np.float64).dtype == np.float64
    np.testing.assert_array_equal(jnp.asarray(first), WHOLE[0])
    assert repr(first) == "StoredArray(shape=(11, 2), dtype=float32)"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (11, r"must lie in \[-11, 11\), got 11"),
        ([0, -12], r"must lie in \[-11, 11\), got \[0, -12\]"),
        (np.ones(3, bool), r"a mask of a stored array must have shape \(11,\), got \(3,\)"),
        ((0, 1), r"indexed by an integer, a slice, or an array of integers or booleans"),
        (1.0, r"indexed by an integer, a slice, or an array of integers or booleans"),
    ],
)
def test_an_index_that_is_refused(index, message: str, tmp_path: Path):
    first, _ = _stores.opened(write(tmp_path), KINDS, SIZES)
    with pytest.raises(IndexError, match=message):
        first[index]


def test_a_batch_is_read_once_for_one_row_after_another(tmp_path: Path, monkeypatch):
    first, _ = _stores.opened(write(tmp_path), KINDS, SIZES)
    read = []
    monkeypatch.setattr(
        Store, "leaf", lambda self, number, _: read.append(number) or np.ones((4, 2), np.float32)
    )
    assert isinstance(first, StoredArray)
    for i in (0, 1, 3, 5, 6):
        first[i]
    assert read == [0, 2]


def test_a_batch_that_is_missing(folder):
    first, _ = _stores.opened(write(folder, [0, 1, 3]), KINDS, SIZES)
    assert first[:5].shape == (5, 2)
    with pytest.raises(
        FileNotFoundError, match=r"`folder` must hold every batch, batch 2 is missing: run the"
    ):
        np.asarray(first)


def test_other_facts_are_named(folder):
    write(folder)
    write(folder, [])
    with pytest.raises(ValueError, match=r"got results that differ in key, weights: .*some/where\.$"):
        write(folder, [], {"key": "threefry 1", "weights": "abd"})
    with pytest.raises(ValueError, match=r"got results that differ in shared: "):
        write(folder, [], {"shared": True})


def test_a_folder_is_made_with_the_first_result(folder):
    store, other = Store(folder, FACTS), Store(folder, FACTS | {"key": "threefry 1"})
    assert not folder.exists()
    assert store.kept is None
    store.write(0, "data 0", [leaf[:4] for leaf in WHOLE])
    assert store.kept == folder
    # Another call, which began before the first result was there.
    with pytest.raises(ValueError, match="got results that differ in key"):
        other.write(1, "data 1", [leaf[4:5] for leaf in WHOLE])


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nothing")
    for path in ("file", "file/below", "link", "link/below"):
        with pytest.raises(ValueError, match="`folder` must be a folder that can be written to, got"):
            Store(tmp_path / path, FACTS)
    _stores.check_writable(tmp_path / "new" / "below", "out")


def test_other_data_are_named(folder):
    with pytest.raises(
        ValueError, match=r"results of other data or targets in batch 1: .*batch-000001\.npz\.$"
    ):
        write(folder).holds(1, "other")


def test_a_file_of_another_call_under_the_same_manifest(tmp_path: Path):
    """Two calls that start in one new folder at the same time."""
    store = write(tmp_path / "a")
    other = write(tmp_path / "b", facts={"key": "threefry 1"})
    (tmp_path / "b" / "batch-000000.npz").replace(tmp_path / "a" / "batch-000000.npz")
    for read in (lambda: store.holds(0, "data 0"), lambda: store.leaf(0, 0)):
        with pytest.raises(
            ValueError, match=r"hold results of this same call, got another's: .*batch-000000"
        ):
            read()
    assert other.holds(1, "data 1")


def test_a_damaged_file(tmp_path: Path):
    store = write(tmp_path)
    path = tmp_path / "batch-000002.npz"
    whole = path.read_bytes()
    place = whole.index(WHOLE[0][5:9].tobytes())
    changed = whole[:place] + b"\xff" + whole[place + 1 :]
    for content in (b"", whole[:100], whole[:-30], changed):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"whole files, got a damaged one, to be removed: .*batch-000002"
        ):
            store.leaf(2, 0)
    for content in ("", "[1]", "{"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ValueError, match=r"got a damaged one, to be removed: .*manifest\.json"):
            write(tmp_path, [])


def test_a_url_that_is_not_known(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"must be a local path or a URL of gs, s3, az or hf, got ftp://host/a\.$"
    ):
        Store("ftp://host/a", FACTS)
    assert not list(tmp_path.iterdir())
