"""Arrays that took long to compute, kept in a file of their own until the results are written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import report


def kept(folder: Path, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Computes named arrays, or reads them if that has been done; the file is whole or not there."""
    path = folder / f"{name}.npz"
    if not path.exists():
        arrays: dict[str, Any] = {key: np.asarray(value) for key, value in compute().items()}
        with report.whole(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
    with np.load(path) as arrays:
        return dict(arrays)
