"""What took long is computed once, and half a file is no file."""

import numpy as np
import pytest

from experiments import parts


def test_arrays_are_kept(tmp_path):
    calls = []

    def compute() -> dict:
        calls.append(1)
        return {"a/b": np.arange(3, dtype=np.float32), "c": np.array(2)}

    first, second = (parts.kept(tmp_path / "new", "one", compute) for _ in range(2))
    assert len(calls) == 1
    for found in (first, second):
        assert list(found) == ["a/b", "c"]
        np.testing.assert_array_equal(found["a/b"], [0, 1, 2])
        assert found["a/b"].dtype == np.float32
    parts.kept(tmp_path / "new", "two", compute)
    assert len(calls) == 2


@pytest.mark.parametrize("content", [b"", b"PK", bytes(64)], ids=["emptied", "no archive", "zeros"])
def test_a_file_that_is_no_archive_is_named_and_computed_again(content, tmp_path, capsys):
    parts.kept(tmp_path, "one", lambda: {"a": 1.5})
    (tmp_path / "one.npz").write_bytes(content)
    assert parts.kept(tmp_path, "one", lambda: {"a": 1.5}) == {"a": 1.5}
    shown = capsys.readouterr().out.replace("\n", "")
    assert f"`{tmp_path}/one.npz` is damaged; computing it again." in shown


def test_a_flipped_byte_changes_no_result(tmp_path):
    def compute() -> dict:
        return {"a/b": np.arange(5, dtype=np.float32), "c": np.array(2)}

    expected = parts.kept(tmp_path, "one", compute)
    path = tmp_path / "one.npz"
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        found = parts.kept(tmp_path, "one", compute)
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)


def test_arrays_that_are_lost_or_changed_in_a_whole_archive_are_computed_again(tmp_path):
    def compute() -> dict:
        return {"a": np.arange(3), "b": np.array(2)}

    parts.kept(tmp_path, "one", compute)
    with np.load(tmp_path / "one.npz") as file:
        written = dict(file)
    for changed in (
        {"a": written["a"]},
        {name: value for name, value in written.items() if name != "b"},
        written | {"b": np.array(3)},
        written | {"b": np.array([2])},
    ):
        np.savez(tmp_path / "one.npz", **changed)
        assert parts.kept(tmp_path, "one", compute).keys() == {"a", "b"}
        assert parts.kept(tmp_path, "one", compute)["b"] == np.array(2)


def test_all_hosts_read_or_all_compute(tmp_path, monkeypatch):
    parts.kept(tmp_path, "one", lambda: {"a": 1})
    # The first host has no file: the others do not read theirs.
    monkeypatch.setattr(parts.hosts, "agreed", lambda choice: False)
    assert parts.kept(tmp_path, "one", lambda: {"a": 2}) == {"a": 2}
    monkeypatch.setattr(parts.hosts, "agreed", lambda choice: True)
    with pytest.raises(OSError, match=r"two.npz` must be on a disk that all hosts share"):
        parts.kept(tmp_path, "two", lambda: {"a": 2})
    monkeypatch.setattr(parts.hosts, "agreed", lambda choice: choice)
    monkeypatch.setattr(parts.hosts, "is_first", lambda: False)
    parts.kept(tmp_path, "three", lambda: {"a": 3})
    assert not (tmp_path / "three.npz").exists()


def test_what_fails_leaves_nothing(tmp_path):
    def fail() -> dict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.kept(tmp_path, "one", fail)
    assert not list(tmp_path.iterdir())
