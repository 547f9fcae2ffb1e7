"""A user's own data: what is loaded, and what is refused."""

import re
import zipfile

import numpy as np
import pytest
from etils import epath

from experiments import own, splits

RNG = np.random.default_rng(0)
X, Y = RNG.random((30, 4, 4)), np.arange(30) % 3
TARGET = RNG.normal(size=30)


def saved(folder, **arrays) -> epath.Path:
    np.savez(folder / "mine.npz", **arrays)
    return epath.Path(folder / "mine.npz")


def test_images_are_rows_and_their_test_part_is_drawn_once(tmp_path):
    found = own.labeled(saved(tmp_path, x=X, y=Y))
    assert found.name == "mine.npz"
    assert (found.x.shape, found.x_test.shape) == ((24, 16), (6, 16))
    assert found.x.dtype == np.float32
    assert found.y.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(found.y_test), (2, 2, 2))
    rows = np.concatenate([found.x, found.x_test])
    np.testing.assert_array_equal(np.sort(rows[:, 0]), np.sort(X[:, 0, 0].astype(np.float32)))
    np.testing.assert_array_equal(found.x, own.labeled(saved(tmp_path, x=X, y=Y)).x)


def test_bytes_are_scaled_and_a_test_part_is_taken(tmp_path, bucket):
    x = np.full((30, 5), 255, np.uint8)
    local = saved(tmp_path, x=x, y=Y, x_test=0 * x[:1], y_test=[2])
    (bucket / "mine.npz").write_bytes(local.read_bytes())
    for path in (local, bucket / "mine.npz"):
        found = own.labeled(path)
        assert (found.x == 1).all()
        np.testing.assert_array_equal(found.y, Y)
        np.testing.assert_array_equal(found.y_test, [2])


BOTH = [
    ({"x": X}, "must hold the arrays x and y, and x_test and y_test or neither, got x."),
    ({"x": X, "y": Y, "z": Y}, "or neither, got x, y, z."),
    ({"x": X, "y": Y, "x_test": X}, "or neither, got x, x_test, y."),
    ({"x": X[:, 0, 0], "y": Y}, "must hold rows of numbers of one shape, [N, ...], got shape (30,)."),
    ({"x": X[:, :0], "y": Y}, "must hold rows of numbers of one shape, [N, ...], got shape (30, 0, 4)."),
    ({"x": X, "y": Y[:29]}, "`y` of `{}` must hold one value per row, shape (30,), got shape (29,)."),
    ({"x": X, "y": Y[:, None]}, "must hold one value per row, shape (30,), got shape (30, 1)."),
    ({"x": X[:19], "y": Y[:19]}, "`x` of `{}` must hold at least 20 rows, got 19."),
    ({"x": X, "y": Y, "x_test": X[:, :3], "y_test": Y}, "of one shape, that of `x`, (30, 4, 4), got"),
    ({"x": X, "y": Y, "x_test": X[:0], "y_test": Y[:0]}, "`x_test` of `{}` must hold rows of numbers"),
    ({"x": np.where(X[3, 1, 1] == X, np.nan, X), "y": Y}, "that are finite in float"),
    ({"x": X.astype(complex), "y": Y}, "`x` of `{}` must hold"),
    ({"x": X.astype(object), "y": Y}, "must be an NPZ file of arrays of numbers, got one that fails with"),
]
BOTH += [
    ({"x": X, "y": Y, "x_test": X > 0, "y_test": Y}, "must hold the type of `x`, float64, got bool."),
]
LABELED = [
    *BOTH,
    ({"x": X.astype(int), "y": Y}, "`x` of `{}` must hold floats or uint8, got int64."),
    (
        {"x": X + 1e39, "y": Y},
        "`x` of `{}` must hold numbers that are finite in float32, got 1e+39 in row 0.",
    ),
    ({"x": X, "y": Y.astype(float)}, "`y` of `{}` must hold integers, got float64."),
    ({"x": X, "y": Y + 1}, "labels 0 to K - 1, at least 2 and none left out, got 1, 2, 3."),
    ({"x": X, "y": 2 * Y}, "labels 0 to K - 1, at least 2 and none left out, got 0, 2, 4."),
    ({"x": X, "y": 0 * Y}, "labels 0 to K - 1, at least 2 and none left out, got 0."),
    (
        {"x": X, "y": np.arange(30)},
        "two rows of each label and five rows per label, or",
    ),
    ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "must hold labels of `y`, 0 to 2, got 3."),
]
REGRESSION = [
    *BOTH,
    ({"x": X, "y": np.where(Y == 2, np.inf, TARGET)}, "`y` of `{}` must hold numbers that are finite in"),
    ({"x": X * 1e12, "y": TARGET}, "`x` of `{}` must hold numbers of at most 1e+10, got"),
    ({"x": X, "y": 0 * TARGET}, "have a target whose standard deviation in training is at least"),
]


def damaged(path: epath.Path) -> list[bytes]:
    """Archives that fail within: bits flipped in a compressed array, an encrypted one, a text for one."""
    np.savez_compressed(path, x=X, y=Y)
    flipped = bytearray(path.read_bytes())
    flipped[100:300] = bytes(255 - byte for byte in flipped[100:300])
    np.savez(path, x=X, y=Y)
    encrypted = bytearray(path.read_bytes())
    encrypted[encrypted.find(b"PK\1\2") + 8] |= 1
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "1 2 3")
        file.writestr("y", "1")
    return [bytes(flipped), bytes(encrypted), path.read_bytes()]


@pytest.mark.parametrize(("load", "cases"), [(own.labeled, LABELED), (own.regression, REGRESSION)])
def test_what_cannot_be_trained_on_is_refused(load, cases, tmp_path):
    for arrays, message in cases:
        path = saved(tmp_path, **arrays)
        with pytest.raises(ValueError, match=re.escape(message.format(path))):
            load(path)
    for content in (b"", b"PK\3\4", path.read_bytes()[:-30], b"\x93NUMPY", b"x,y", *damaged(path)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be an NPZ file of arrays of numbers, got one") as error:
            load(path)
        assert "pickle" not in str(error.value)
    np.save(tmp_path / "rows.npy", X)
    with pytest.raises(ValueError, match="must be an NPZ file"):
        load(epath.Path(tmp_path / "rows.npy"))
    with pytest.raises(FileNotFoundError, match="`data` must name an NPZ file, looked for"):
        load(epath.Path(tmp_path / "none.npz"))


def test_a_regression_has_random_splits_and_a_grid_by_its_variance(tmp_path):
    problem = own.regression(saved(tmp_path, x=X, y=100 * TARGET))
    assert (problem.name, len(problem.train), len(problem.test[0])) == ("mine.npz", 20, 3)
    for train, test in zip(problem.train, problem.test, strict=True):
        assert sorted([*train, *test]) == list(range(30))
    tau = np.array(problem.taus) * (100 * TARGET)[problem.train[0]].var()
    np.testing.assert_allclose(tau, (4, 8, 16, 32, 64))
    part = splits.part(own.regression(saved(tmp_path, x=X, y=TARGET), quick=True), grid=True)
    assert part.x.shape == (3, 21, 16)


def test_a_test_part_is_the_only_split(tmp_path):
    problem = own.regression(saved(tmp_path, x=X, y=TARGET, x_test=X[:2], y_test=TARGET[:2]))
    assert [rows.tolist() for rows in problem.test] == [[30, 31]]
    np.testing.assert_array_equal(problem.y[30:], TARGET[:2])
