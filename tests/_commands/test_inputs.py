"""Data of files, without pickled objects."""

import numpy as np
import pytest

from jaxdrop._commands import inputs
from jaxdrop._commands.app import BadInputError


def read(tmp_path, text, name="data.csv"):
    (tmp_path / name).write_text(text, "utf-8")
    return inputs.read(tmp_path / name, "data")


def test_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "b.npz", a=np.arange(2), b=np.ones(2))
    (only,) = inputs.read(tmp_path / "a.npy", "data").arrays.values()
    assert isinstance(only, np.memmap)
    assert inputs.tree({"": only}) is only
    two = inputs.read(tmp_path / "b.npz", "data").arrays
    assert inputs.tree(two).keys() == {"a", "b"}
    with pytest.raises(BadInputError, match="`targets` must hold one array, got a, b"):
        inputs.one(inputs.Table(two), "targets")


def test_tables_of_text(tmp_path):
    found = read(tmp_path, "age,mass\n1,2.5\n3,4\n")
    assert found.columns == ["age", "mass"]
    assert inputs.one(found, "data").tolist() == [[1, 2.5], [3, 4]]
    labels = inputs.one(read(tmp_path, "label\n1\n0\n\n"), "data")
    assert (labels.dtype.kind, labels.tolist()) == ("i", [1, 0])
    assert inputs.one(read(tmp_path, "y\n1.0\n2\n"), "data").dtype.kind == "f"
    for text in ("", "a,b\n", "a,b\n1\n", "a\nx\n", "a,b\n1,2\n3\n"):
        with pytest.raises(BadInputError, match="`data` must hold a line of names and rows of"):
            read(tmp_path, text)


def test_lines(tmp_path):
    (tmp_path / "names").write_bytes(b"a\nb\n")
    assert inputs.lines(tmp_path / "names", "names") == ["a", "b"]
    assert inputs.lines(None, "names") is None
    (tmp_path / "names").write_bytes("\ufeffa\u2028b\r\nc\n".encode())  # as Windows writes it
    assert inputs.lines(tmp_path / "names", "names") == ["a\u2028b", "c"]
    (tmp_path / "names").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadInputError, match="`names` must be a text file in UTF-8"):
        inputs.lines(tmp_path / "names", "names")
