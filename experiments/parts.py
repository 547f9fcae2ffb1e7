"""Cache of intermediate arrays, one file each, kept until the results are written.

A damaged file is named and computed again.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from experiments import cli, report

_DIGEST = "digest"


def kept(folder: Path, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Reads named arrays from `folder/name.npz`, or computes them and writes that file."""
    path = folder / f"{name}.npz"
    if path.exists():
        found = _read(path)
        if found is not None:
            return found
        cli.say(f"`{path}` is damaged; computing it again.")
    arrays = {key: np.array(value) for key, value in compute().items()}
    with report.whole(path) as partial, partial.open("wb") as file:
        np.savez(file, **cast(dict[str, Any], arrays | {_DIGEST: _digest(arrays)}))
    return arrays


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """Reads the arrays of a file; None if it is damaged."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
        return arrays if np.array_equal(arrays.pop(_DIGEST), _digest(arrays)) else None
    except Exception:  # Damage to an archive raises errors of many types.
        return None


def _digest(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    # An archive's own checksums miss a member that is lost.
    digest = hashlib.blake2b()
    for name, array in arrays.items():
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
