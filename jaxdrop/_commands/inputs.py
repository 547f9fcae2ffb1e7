"""Data that commands read: .npz, .npy and .csv files, without pickled objects."""

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdrop._commands.app import BadInputError
from jaxdrop._types import PyTree


class Table(NamedTuple):
    """Arrays of a file.

    Attributes:
      arrays: The arrays by name; "" for that of a .npy or .csv file.
      columns: The names of the columns of a .csv file, or None.
    """

    arrays: dict[str, np.ndarray]
    columns: list[str] | None = None


def read(path: Path, option: str) -> Table:
    """The arrays of a file."""
    if not path.is_file():
        raise BadInputError(f"`{option}` must be a file, got {path}.")
    if path.suffix == ".csv":
        return _of_csv(path, option)
    if path.suffix not in (".npy", ".npz"):
        raise BadInputError(f"`{option}` must be a .npz, .npy or .csv file, got {path}.")
    try:
        # An .npy file is not read before it is needed.
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Table({"": loaded})
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        raise BadInputError(
            f"`{option}` must hold arrays of numbers or texts, got pickled objects or a damaged file: {path}."
        ) from None
    if not arrays:
        raise BadInputError(f"`{option}` must hold at least one array, got none: {path}.")
    return Table(arrays)


def one(table: Table, option: str) -> np.ndarray:
    """The only array of a file."""
    if len(table.arrays) != 1:
        raise BadInputError(f"`{option}` must hold one array, got {', '.join(table.arrays)}.")
    return next(iter(table.arrays.values()))


def tree(arrays: dict[str, np.ndarray]) -> PyTree:
    """The inputs of a predictor: the array, or a dictionary of several."""
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def lines(path: Path | None, option: str) -> Sequence[str] | None:
    """The lines of a text file, or None."""
    if path is None:
        return None
    try:
        # A name may have other separators of lines, such as U+2028, within.
        text = path.read_text(encoding="utf-8-sig")
        return text.removesuffix("\n").split("\n") if text else []
    except UnicodeDecodeError:
        raise BadInputError(f"`{option}` must be a text file in UTF-8, got {path}.") from None
    except OSError:
        raise BadInputError(f"`{option}` must be a file, got {path}.") from None


def _of_csv(path: Path, option: str) -> Table:
    """A table of numbers below a line of names; of integers if all are."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *rows = [row for row in csv.reader(file) if row] or [[]]
        numbers = np.array([[float(cell) for cell in row] for row in rows])
    except (ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise BadInputError(
            f"`{option}` must hold a line of names and rows of as many numbers, got {path}: {reason}."
        ) from None
    if numbers.ndim != 2 or numbers.shape[1] != len(head):
        raise BadInputError(
            f"`{option}` must hold a line of names and rows of as many numbers, got {len(head)} names and "
            f"shape {numbers.shape}: {path}."
        )
    whole = not any(set(cell) & set(".eEnN") for row in rows for cell in row)
    numbers = numbers.astype(np.int64 if whole else np.float64)
    return Table({"": numbers[:, 0] if len(head) == 1 else numbers}, head)
