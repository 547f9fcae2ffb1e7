"""Cache of intermediate arrays, one file each, kept until the results are written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import report


def kept(folder: Path, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Reads named arrays from `folder/name.npz`, or computes them and writes that file."""
    path = folder / f"{name}.npz"
    if not path.exists():
        arrays: dict[str, Any] = {key: np.asarray(value) for key, value in compute().items()}
        with report.whole(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
    with np.load(path) as arrays:
        return dict(arrays)
