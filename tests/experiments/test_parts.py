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


def test_what_fails_leaves_nothing(tmp_path):
    def fail() -> dict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.kept(tmp_path, "one", fail)
    assert not list(tmp_path.iterdir())
