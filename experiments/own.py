"""A user's own data: an NPZ file of arrays `x` and `y`, and optionally `x_test` and `y_test`.

Nothing in the file is unpickled. All that cannot be trained on is refused before any work starts.
"""

import zipfile

import numpy as np
import sklearn.model_selection
from etils import epath

from experiments import cli, data, splits

_NAMES = ("x", "y", "x_test", "y_test")
_LEAST_ROWS = 20
# Share of the rows that are the test part, if the file has none.
_TEST_SHARE = 0.2
# Protocol of a regression without published splits: as Gal's for sets of this size.
_SPLITS, _SPLIT_SHARE = 20, 0.1
_RATES, _HIDDEN, _EPOCHS = (0.005, 0.01, 0.05, 0.1), 50, 400
# Precisions times the variance of the target, which span those of the published sets.
_TAUS = (4.0, 8.0, 16.0, 32.0, 64.0)
_QUICK_SPLITS, _QUICK_EPOCHS, _QUICK_HIDDEN = 3, 20, 16


def labeled(path: epath.Path) -> data.Dataset:
    """Loads images, or other rows of numbers, with labels.

    Args:
      path: An NPZ file. `x`: `[N, ...]`, floats as they are to be used, or uint8, which are divided by 255.
        `y`: integers 0 to K - 1, `[N]`, each of which must be there. Without `x_test` and `y_test` a fifth of
        the rows is the test part, the same in every run, with the same share of each label.

    Returns:
      The data set, with rows flattened to `[N, D]`; its name is that of the file.

    Raises:
      BadInputError: If an array is missing or unknown, or of a wrong type, shape or value.
      FileNotFoundError: If there is no such file.
    """
    arrays = _read(path)
    for name in _NAMES[: len(arrays)][::2]:
        if arrays[name].dtype != np.uint8 and arrays[name].dtype.kind != "f":
            raise _bad(path, name, "floats or uint8", str(arrays[name].dtype))
        scale = 255 if arrays[name].dtype == np.uint8 else 1
        arrays[name] = _finite(path, name, arrays[name], np.dtype(np.float32)) / np.float32(scale)
    for name in _NAMES[: len(arrays)][1::2]:
        if arrays[name].dtype.kind not in "iu":
            raise _bad(path, name, "integers", str(arrays[name].dtype))
    labels = np.unique(arrays["y"])
    if len(labels) < 2 or not np.array_equal(labels, np.arange(len(labels))):
        shown = ", ".join(map(str, labels[:6])) + (" ..." if len(labels) > 6 else "")
        raise _bad(path, "y", "labels 0 to K - 1, at least 2 and none left out", shown)
    if "y_test" in arrays and not np.isin(arrays["y_test"], labels).all():
        other = arrays["y_test"][~np.isin(arrays["y_test"], labels)][0]
        raise _bad(path, "y_test", f"labels of `y`, 0 to {len(labels) - 1}", str(other))
    x, y = arrays["x"], arrays["y"].astype(np.int32)
    if "x_test" in arrays:
        return data.Dataset(path.name, x, y, arrays["x_test"], arrays["y_test"].astype(np.int32))
    counts = np.bincount(y)
    if counts.min() < 2 or _TEST_SHARE * len(y) < len(counts):
        expected = "two rows of each label and five rows per label, or `x_test` and `y_test`"
        raise _bad(path, "y", expected, f"{counts.min()} of label {counts.argmin()} in {len(y)} rows")
    development, test = sklearn.model_selection.train_test_split(
        np.arange(len(x)), test_size=_TEST_SHARE, random_state=0, stratify=y
    )
    return data.Dataset(path.name, x[development], y[development], x[test], y[test])


def regression(path: epath.Path, quick: bool = False) -> splits.Problem:
    """Loads a regression.

    Args:
      path: An NPZ file. `x`: `[N, ...]`, numbers, standardized by column. `y`: numbers, `[N]`. Without
        `x_test` and `y_test` there are 20 random splits with a tenth of the rows to test on; with them, one.
      quick: Whether to take few splits, a small grid and few epochs.

    Returns:
      The problem, with the grid of rates of the published sets, and precisions by the variance of `y`; its
      name is that of the file.

    Raises:
      BadInputError: If an array is missing or unknown, or of a wrong type, shape or value.
      FileNotFoundError: If there is no such file.
    """
    arrays = {name: _finite(path, name, array, np.dtype(float)) for name, array in _read(path).items()}
    for name, array in arrays.items():
        if np.abs(array).max() > splits.LARGEST:
            raise _bad(path, name, f"numbers of at most {splits.LARGEST:g}", f"{np.abs(array).max():g}")
    x, y, count = arrays["x"], arrays["y"], len(arrays["x"])
    if "x_test" in arrays:
        train, test = [np.arange(count)], [count + np.arange(len(arrays["x_test"]))]
        x, y = np.concatenate([x, arrays["x_test"]]), np.concatenate([y, arrays["y_test"]])
    else:
        orders = [
            np.random.default_rng(i).permutation(count) for i in range(_QUICK_SPLITS if quick else _SPLITS)
        ]
        held = int(count * _SPLIT_SHARE)
        train, test = [order[held:] for order in orders], [order[:held] for order in orders]
    splits.check_target(path, y, train)
    taus = tuple(float(tau / y[train[0]].var()) for tau in _TAUS)
    if quick:
        return splits.Problem(
            path.name, x, y, train, test, _RATES[1::2], taus[1:3], _QUICK_HIDDEN, _QUICK_EPOCHS, {}
        )
    return splits.Problem(path.name, x, y, train, test, _RATES, taus, _HIDDEN, _EPOCHS, {})


def _read(path: epath.Path) -> dict[str, np.ndarray]:
    """Arrays of a file in the order of `_NAMES`, inputs flattened to rows; shapes and names are checked."""
    cli.check_name("data", path.name)
    if not path.exists():
        raise FileNotFoundError(f"`data` must name an NPZ file, looked for {path}.")
    try:
        with path.open("rb") as content:
            if not zipfile.is_zipfile(content):  # NumPy would speak of pickles
                raise ValueError("not a ZIP archive")
            content.seek(0)
            with np.load(content, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        for name, array in found.items():
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{name} is not an array")
    except Exception as error:  # A damaged file fails with an error of many types.
        message = " ".join(str(error).split()).rstrip(".")
        raise cli.BadInputError(
            f"`{path}` must be an NPZ file of arrays of numbers, got one that fails with: {message}."
        ) from None
    if set(found) not in (set(_NAMES[:2]), set(_NAMES)):
        names = ", ".join(sorted(found)) or "none"
        raise cli.BadInputError(
            f"`{path}` must hold the arrays x and y, and x_test and y_test or neither, got {names}."
        )
    arrays = {name: found[name] for name in _NAMES if name in found}
    for inputs, outputs in (_NAMES[:2], _NAMES[2:])[: len(arrays) // 2]:
        x, y = arrays[inputs], arrays[outputs]
        if x.ndim < 2 or not x[:1].size or x.shape[1:] != found["x"].shape[1:]:
            like = "" if inputs == "x" else f" that of `x`, {found['x'].shape}"
            raise _bad(
                path, inputs, f"rows of numbers of one shape,{like or ' [N, ...]'}", f"shape {x.shape}"
            )
        if x.dtype != found["x"].dtype:
            raise _bad(path, inputs, f"the type of `x`, {found['x'].dtype}", str(x.dtype))
        if y.shape != (len(x),):
            raise _bad(path, outputs, f"one value per row, shape ({len(x)},)", f"shape {y.shape}")
        arrays[inputs] = x.reshape(len(x), -1)
    if len(arrays["x"]) < _LEAST_ROWS:
        raise _bad(path, "x", f"at least {_LEAST_ROWS} rows", str(len(arrays["x"])))
    return arrays


def _finite(path: epath.Path, name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Array in another type, in which all numbers must be finite."""
    if array.dtype.kind not in "iuf":
        raise _bad(path, name, "real numbers", str(array.dtype))
    with np.errstate(over="ignore"):
        found = array.astype(dtype)
    if not np.isfinite(found).all():
        place = tuple(np.argwhere(~np.isfinite(found))[0])
        raise _bad(path, name, f"numbers that are finite in {dtype}", f"{array[place]:g} in row {place[0]}")
    return found


def _bad(path: epath.Path, name: str, expected: str, got: str) -> cli.BadInputError:
    return cli.BadInputError(f"`{name}` of `{path}` must hold {expected}, got {got}.")
