"""Cache of intermediate arrays, one file each, kept until the results are written.

A damaged file is named and computed again.
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from etils import epath

from experiments import cli, hosts, report

_DIGEST = "digest"


def kept(folder: epath.Path, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Reads named arrays from `folder/name.npz`, or computes them and writes that file.

    On several hosts the first one says whether the file is there, so that all compute or none.
    """
    path = epath.Path(folder) / f"{name}.npz"
    found = _read(path) if path.exists() else None
    if hosts.agreed(found is not None):
        if found is None:
            raise OSError(f"`{path}` must be on a disk that all hosts share, got a file that one host lacks.")
        return found
    if found is None and path.exists():
        cli.say(f"`{path}` is damaged; computing it again.")
    arrays = {key: np.array(value) for key, value in compute().items()}
    content = io.BytesIO()
    np.savez(content, **cast(dict[str, Any], arrays | {_DIGEST: _digest(arrays)}))
    if hosts.is_first():
        report.write_bytes(path, content.getvalue())
    hosts.wait(f"{name} is written")
    return arrays


def _read(path: epath.Path) -> dict[str, np.ndarray] | None:
    """Reads the arrays of a file; None if it is damaged."""
    try:
        with path.open("rb") as content, np.load(content) as file:
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
