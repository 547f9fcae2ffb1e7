"""The data sets: shapes, the split, and every way in which a file may be wrong."""

import gzip
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from experiments import data


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def write_set(folder: Path, count: int = 7) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(rng.integers(0, 256, (count, 28, 28))))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(rng.integers(0, 10, count)))


def test_digits():
    digits = data.load("digits")
    assert digits.x.shape == (1000, 64)
    assert digits.x_test.shape == (797, 64)
    assert digits.x.dtype == np.float32
    assert digits.x.min() == 0
    assert digits.x.max() == 1
    rows = {row.tobytes() for row in digits.x}
    assert not any(row.tobytes() in rows for row in digits.x_test)
    np.testing.assert_array_equal(data.load("digits").y_test, digits.y_test)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_sets(name, tmp_path, monkeypatch):
    write_set(tmp_path / name)
    found = data.load(name, tmp_path)
    assert found.x.shape == (7, 784)
    assert found.y_test.shape == (7,)
    assert 0 <= found.x.min() < found.x.max() <= 1
    monkeypatch.setenv("JAXDROP_DATA", str(tmp_path))
    np.testing.assert_array_equal(data.load(name).x, found.x)


def test_an_unknown_set():
    message = "`dataset` must be one of digits, mnist, fashion-mnist, got cifar."
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load("cifar")


def test_no_folder(monkeypatch):
    monkeypatch.delenv("JAXDROP_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="`--data-dir` or \\$JAXDROP_DATA must name the folder"):
        data.load("mnist")


def test_a_missing_file_is_named_with_where_it_was_looked_for(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=re.escape(f"looked for {tmp_path}/mnist/train-images")
    ) as error:
        data.load("mnist", tmp_path)
    assert "To get it" in str(error.value)
    write_set(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"looked for {tmp_path}/mnist/t10k-labels")):
        data.load("mnist", tmp_path)


IMAGES = idx(np.zeros((7, 28, 28)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IMAGES[: len(IMAGES) // 2], "must be a valid gzip file"),
        (b"not gzip at all", "must be a valid gzip file"),
        (
            gzip.compress(gzip.decompress(IMAGES)[:-10]),
            "must hold 5488 bytes for shape (7, 28, 28), got 5478.",
        ),
        (gzip.compress(b"\0\0\x0d\x01\0\0\0\0"), "must be an IDX file of unsigned bytes"),
        (gzip.compress(b"\0\0"), "must be an IDX file of unsigned bytes"),
        (
            gzip.compress(gzip.decompress(IMAGES) + b"\0"),
            "must hold 5488 bytes for shape (7, 28, 28), got more.",
        ),
        (gzip.compress(b"\0\0\x08\x03\0\0"), "must be an IDX file of unsigned bytes"),
        (idx(np.zeros((8, 28, 28))), "must have a label for each image, got 8 and 7."),
        (idx(np.zeros((7, 14, 14))), "must hold images of 28 x 28, got shape (7, 14, 14)."),
        (idx(np.zeros((7, 0, 0))), "must hold images of 28 x 28, got shape (7, 0, 0)."),
        (idx(np.zeros((0, 28, 28))), "must hold images of 28 x 28, got shape (0, 28, 28)."),
        (idx(np.zeros((7, 784))), "must hold images of 28 x 28, got shape (7, 784)."),
    ],
    ids=[
        *("truncated", "not gzip", "too short", "floats", "no header", "too long", "half a header"),
        *("too few labels", "small", "no pixels", "none", "rows"),
    ],
)
def test_a_broken_file(content, message, tmp_path):
    write_set(tmp_path / "mnist")
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(7, 200), "t10k-labels-idx1-ubyte.gz` must hold labels in [0, 9], got 200 in row 0."),
        (np.array([0, 9, 9, 10, 1, 2, 3]), "must hold labels in [0, 9], got 10 in row 3."),
        (np.zeros((7, 1)), "must hold one label per image, got shape (7, 1)."),
        (np.zeros(6), "must have a label for each image, got 7 and 6."),
    ],
)
@pytest.mark.parametrize("load", [lambda root: data.load("mnist", root), data.load_letters])
def test_broken_labels(labels, message, load, tmp_path):
    for name in ("mnist", "notmnist"):
        write_set(tmp_path / name)
        (tmp_path / name / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path)


def bomb(shape: tuple[int, ...], size: int = 0) -> bytes:
    """A small file of many bytes under any header."""
    header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    return gzip.compress(header + bytes(size), 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bomb((7, 28, 28), 1 << 25), "must hold 5488 bytes for shape (7, 28, 28), got more."),
        (bomb((2**31, 28, 28), 1 << 25), "bytes, got 1683627180032 for shape (2147483648, 28, 28)."),
        (bomb((2**31, 2**31, 2**31), 1 << 28), "must hold at most 268435456 bytes, got"),
        (bomb((200_000, 28, 28)), "bytes, got 156800000 for shape (200000, 28, 28)."),
    ],
    ids=["bomb", "rows", "overflow", "announced only"],
)
def test_no_memory_is_taken_for_a_file_that_is_refused(content, message, tmp_path):
    (path := tmp_path / "a.gz").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=re.escape(message)):
        data.read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_descriptions():
    text = data.load_text("descriptions")
    assert text.codes.dtype == np.int32
    assert 10_000 < len(text.codes) < 100_000
    assert (text.codes.min(), text.codes.max()) == (0, len(text.alphabet) - 1)
    assert "Iris plants dataset" in "".join(text.alphabet[code] for code in text.codes[:100])


def test_a_text(tmp_path, monkeypatch):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "tinyshakespeare.txt").write_bytes("to be é\r\n".encode())
    text = data.load_text("tinyshakespeare", tmp_path)
    assert text.alphabet == "\n\r beoté"
    assert "".join(text.alphabet[code] for code in text.codes) == "to be é\r\n"
    monkeypatch.setenv("JAXDROP_DATA", str(tmp_path))
    np.testing.assert_array_equal(data.load_text("tinyshakespeare").codes, text.codes)


def test_an_unknown_text():
    message = "`text` must be one of descriptions, tinyshakespeare, got bible."
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load_text("bible")


def test_a_missing_text(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXDROP_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="must name the folder that holds text/, got neither"):
        data.load_text("tinyshakespeare")
    with pytest.raises(FileNotFoundError, match=re.escape(f"looked for {tmp_path}/text/tinysh")) as error:
        data.load_text("tinyshakespeare", tmp_path)
    assert "To get it" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9", "must be UTF-8, got one that fails with"),
        (b"", "must have at least 2 different characters, got 0."),
        (b"aaaa", "must have at least 2 different characters, got 1."),
    ],
)
def test_a_broken_text(content, message, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "tinyshakespeare.txt").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load_text("tinyshakespeare", tmp_path)


def test_letters_need_their_test_part_only(tmp_path):
    write_set(tmp_path / "notmnist")
    for path in (tmp_path / "notmnist").glob("train-*"):
        path.unlink()
    x, y = data.load_letters(tmp_path)
    assert (x.shape, x.dtype) == ((7, 784), np.float32)
    assert (y.shape, y.dtype) == ((7,), np.int32)
    assert 0 <= x.min() < x.max() <= 1
    (tmp_path / "notmnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"looked for .*t10k-labels"):
        data.load_letters(tmp_path)


def write_co2(folder: Path, content: str) -> None:
    (folder / "co2").mkdir()
    (folder / "co2" / "mauna_loa.csv").write_text(content)


def test_co2(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"looked for .*mauna_loa"):
        data.load_co2(tmp_path)
    write_co2(tmp_path, "# time,co2\n-1,0.5\n0.25,1e-1\n")
    time, co2 = data.load_co2(tmp_path)
    assert time.dtype == np.float32
    np.testing.assert_allclose(time, [-1, 0.25])
    np.testing.assert_allclose(co2, [0.5, 0.1])
    monkeypatch.setenv("JAXDROP_DATA", str(tmp_path))
    np.testing.assert_array_equal(data.load_co2()[1], co2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "must be a table of numbers, got"),
        ("1,2,3\n", "must hold two columns of finite numbers, got shape (1, 3)."),
        ("1,2\n2,nan\n", "must hold two columns of finite numbers, got one that is not finite."),
        ("1,2\n2,3\n2,3\n", "must have ascending times, got 2 in row 2."),
    ],
)
def test_a_broken_series(content, message, tmp_path):
    write_co2(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load_co2(tmp_path)
