"""Data sets: labeled images with a development and a test part, letters, texts, and a series."""

import gzip
import math
import os
import struct
import zlib
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import sklearn.datasets
import sklearn.model_selection
from etils import epath

from experiments import cli

Large = Literal["mnist", "fashion-mnist"]
Name = Literal["digits", "mnist", "fashion-mnist"]
NAMES: tuple[Name, ...] = get_args(Name)
LETTERS = "notmnist"
TEXTS = ("descriptions", "tinyshakespeare")
_SOURCES = {
    "mnist": "the four files of LeCun's MNIST (Hugging Face: ylecun/mnist; or torchvision.datasets.MNIST)",
    "fashion-mnist": "the four files of github.com/zalandoresearch/fashion-mnist, data/fashion",
    "notmnist": "the two files of github.com/davidflanagan/notMNIST-to-MNIST, t10k-*",
    "co2": "mauna_loa.csv holds the series of github.com/yaringal/DropoutUncertaintyCaffeModels",
    "text": "tinyshakespeare.txt is input.txt of github.com/karpathy/char-rnn, data/tinyshakespeare",
}
_IDX_BYTES = 0x08
# Several times the size of the largest set.
_MOST_BYTES = 1 << 28
# Deflate packs at most so many bytes into one.
_DEFLATE = 1032
_SIDE, _CLASSES = 28, 10
_IDX_FILES = [
    f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]


class Dataset(NamedTuple):
    """Images as rows of float32 in [0, 1], labels as int32.

    Attributes:
      name: One of `NAMES`.
      x: Development images, `[N, D]`.
      y: Development labels, `[N]`.
      x_test: Test images.
      y_test: Test labels.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


class Text(NamedTuple):
    """Text as indices into its alphabet.

    Attributes:
      name: One of `TEXTS`.
      codes: The text, int32, `[N]`.
      alphabet: Its distinct characters, sorted.
    """

    name: str
    codes: np.ndarray
    alphabet: str


def load(name: str, data_dir: epath.Path | None = None) -> Dataset:
    """Loads a data set.

    Args:
      name: "digits" (scikit-learn's, 1797 images of 8 x 8), "mnist" or "fashion-mnist" (70,000 of
        28 x 28, with their own test parts).
      data_dir: The folder that holds a folder of that name; defaults to `$JAXDROP_DATA`.

    Returns:
      The data set.

    Raises:
      BadInputError: If the name is unknown, or a file is invalid.
      FileNotFoundError: If a file is missing; the message names the paths that were tried.
    """
    _check_choice("dataset", name, NAMES)
    if name == "digits":
        return _digits()
    folder = _folder(name, data_dir, _IDX_FILES)
    return Dataset(name, *_read_part(folder, "train"), *_read_part(folder, "t10k"))


def load_letters(data_dir: epath.Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Loads the test part of notMNIST: 10,000 letters A to J in many fonts, 28 x 28.

    Args:
      data_dir: The folder that holds `notmnist/`; defaults to `$JAXDROP_DATA`.

    Returns:
      Images and labels, in the form of `Dataset.x_test` and `y_test`.

    Raises:
      BadInputError: If a file is invalid.
      FileNotFoundError: If a file is missing; the message names the paths that were tried.
    """
    return _read_part(_folder(LETTERS, data_dir, _IDX_FILES[2:]), "t10k")


def load_co2(data_dir: epath.Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Loads the carbon dioxide series of Mauna Loa: 272 months, detrended, both columns standardized.

    Args:
      data_dir: The folder that holds `co2/mauna_loa.csv`; defaults to `$JAXDROP_DATA`.

    Returns:
      Time, ascending, and concentration, float32, `[N]` each.

    Raises:
      BadInputError: If the file is not two columns of finite numbers, the first ascending.
      FileNotFoundError: If the file is missing; the message names the path that was tried.
    """
    path = _folder("co2", data_dir, ["mauna_loa.csv"]) / "mauna_loa.csv"
    try:
        with path.open() as file:
            table = np.loadtxt(file, np.float32, delimiter=",", ndmin=2)
    except ValueError as error:
        raise cli.BadInputError(f"`{path}` must be a table of numbers, got: {error}.") from None
    if table.shape[1] != 2 or not len(table) or not np.isfinite(table).all():
        found = f"shape {table.shape}" if np.isfinite(table).all() else "one that is not finite"
        raise cli.BadInputError(f"`{path}` must hold two columns of finite numbers, got {found}.")
    if (np.diff(table[:, 0]) <= 0).any():
        row = int(np.argmax(np.diff(table[:, 0]) <= 0)) + 1
        raise cli.BadInputError(f"`{path}` must have ascending times, got {table[row, 0]:g} in row {row}.")
    return table[:, 0], table[:, 1]


def load_text(name: str, data_dir: epath.Path | None = None) -> Text:
    """Loads a text.

    Args:
      name: "descriptions" (those of scikit-learn's own data sets, 15,000 characters) or
        "tinyshakespeare" (1.1 million).
      data_dir: The folder that holds `text/NAME.txt`; defaults to `$JAXDROP_DATA`.

    Returns:
      The text.

    Raises:
      BadInputError: If the name is unknown, or the file is not UTF-8 or has fewer than two
        distinct characters.
      FileNotFoundError: If the file is missing; the message names the path that was tried.
    """
    _check_choice("text", name, TEXTS)
    content = _descriptions() if name == "descriptions" else _read_text(name, data_dir)
    points = np.frombuffer(content.encode("utf-32-le"), np.uint32)
    alphabet, codes = np.unique(points, return_inverse=True)
    return Text(name, codes.astype(np.int32), "".join(map(chr, alphabet)))


def read_idx(path: epath.Path) -> np.ndarray:
    """Reads a gzipped IDX file of unsigned bytes and checks its length.

    Raises:
      BadInputError: If the file is not gzip, not IDX of bytes, larger than 256 MiB, or not of the length in
        its header. No more is decompressed than the header announces.
    """
    path = epath.Path(path)
    try:
        with path.open("rb") as content, gzip.open(content) as file:
            header = file.read(4)
            rank = header[3] if len(header) == 4 else 0
            sizes = file.read(4 * rank)
            if header[:3] != bytes((0, 0, _IDX_BYTES)) or len(header) < 4 or len(sizes) < 4 * rank:
                raise cli.BadInputError(
                    f"`{path}` must be an IDX file of unsigned bytes, got the header {header!r}."
                )
            shape = struct.unpack(f">{rank}I", sizes)
            count = math.prod(shape)
            most = min(_MOST_BYTES, _DEFLATE * path.stat().length)
            if count > most:
                raise cli.BadInputError(
                    f"`{path}` must hold at most {most} bytes, got {count} for shape {shape}."
                )
            # One byte more than expected tells a longer file, whatever its length.
            found = file.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise cli.BadInputError(
            f"`{path}` must be a valid gzip file, got one that fails with: {error}."
        ) from None
    if len(found) != count:
        got = "more" if len(found) > count else len(found)
        raise cli.BadInputError(f"`{path}` must hold {count} bytes for shape {shape}, got {got}.")
    return np.frombuffer(found, np.uint8).reshape(shape)


def root(wanted: str, source: str, data_dir: epath.Path | None) -> epath.Path:
    """Folder of the data sets: `data_dir`, or `$JAXDROP_DATA`."""
    if data_dir:
        return epath.Path(data_dir)
    if "JAXDROP_DATA" in os.environ:
        return cli.folder(os.environ["JAXDROP_DATA"])
    raise FileNotFoundError(
        f"`--data-dir` or $JAXDROP_DATA must name the folder that holds {wanted}, got neither. "
        f"To get it: {source}."
    )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise cli.BadInputError(f"`{name}` must be one of {', '.join(choices)}, got {value}.")


def _read_part(folder: epath.Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    paths = [folder / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    images, labels = map(read_idx, paths)
    if images.ndim != 3 or images.shape[1:] != (_SIDE, _SIDE) or not len(images):
        raise cli.BadInputError(
            f"`{paths[0]}` must hold images of {_SIDE} x {_SIDE}, got shape {images.shape}."
        )
    if labels.ndim != 1:
        raise cli.BadInputError(f"`{paths[1]}` must hold one label per image, got shape {labels.shape}.")
    if len(images) != len(labels):
        raise cli.BadInputError(
            f"`{folder}` must have a label for each image, got {len(images)} and {len(labels)}."
        )
    if labels.max() >= _CLASSES:
        row = int(np.argmax(labels >= _CLASSES))
        raise cli.BadInputError(
            f"`{paths[1]}` must hold labels in [0, {_CLASSES - 1}], got {labels[row]} in row {row}."
        )
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels.astype(np.int32)


def _digits() -> Dataset:
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    rows: Any = sklearn.model_selection.train_test_split(
        np.arange(len(x)), test_size=797, random_state=0, stratify=y
    )
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)
    return Dataset("digits", x[rows[0]], y[rows[0]], x[rows[1]], y[rows[1]])


def _descriptions() -> str:
    names = ("iris", "wine", "digits", "diabetes", "linnerud", "breast_cancer")
    return "\n".join(getattr(sklearn.datasets, f"load_{name}")().DESCR for name in names)


def _read_text(name: str, data_dir: epath.Path | None) -> str:
    path = _folder("text", data_dir, [f"{name}.txt"]) / f"{name}.txt"
    try:
        content = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise cli.BadInputError(f"`{path}` must be UTF-8, got one that fails with: {error}.") from None
    if len(set(content)) < 2:
        raise cli.BadInputError(
            f"`{path}` must have at least 2 different characters, got {len(set(content))}."
        )
    return content


def _folder(name: str, data_dir: epath.Path | None, files: list[str]) -> epath.Path:
    folder = root(f"{name}/", _SOURCES[name], data_dir) / name
    missing = [str(folder / file) for file in files if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"`--data-dir` must hold {name}/, looked for {', '.join(missing)}. To get it: {_SOURCES[name]}."
        )
    return folder
