"""Loading a folder of splits, what it refuses, and the parts of the two phases."""

import re

import numpy as np
import pytest

from experiments import cli, splits

ROWS, COUNT = 40, 2


@pytest.fixture
def folder(tmp_path):
    """A small set: three features, one of them constant, and two splits of 35 and 36 rows."""
    path = tmp_path / "small"
    path.mkdir()
    rng = np.random.default_rng(0)
    table = rng.normal(3.0, 2.0, (ROWS, 4))
    table[:, 1] = 7.0
    np.savetxt(path / "data.txt", table)
    for i in range(COUNT):
        order = rng.permutation(ROWS)
        np.savetxt(path / f"index_train_{i}.txt", order[: 35 + i])
        np.savetxt(path / f"index_test_{i}.txt", order[35 + i :])
    for name, text in (
        ("index_features", "0\n1\n2\n"),
        ("index_target", "3\n"),
        ("n_splits", "2\n"),
        ("n_hidden", "5\n"),
        ("n_epochs", "4\n"),
        ("dropout_rates", "0.005\n0.1"),
        ("tau_values", "0.1 0.2"),
    ):
        (path / f"{name}.txt").write_text(text)
    return path


def test_loads_what_is_there(folder):
    problem = splits.load("small", folder.parent)
    assert problem.x.shape == (ROWS, 3)
    assert problem.y.shape == (ROWS,)
    assert [len(rows) for rows in problem.train] == [35, 36]
    assert problem.rates == (0.005, 0.1)
    assert problem.taus == (0.1, 0.2)
    assert (problem.hidden, problem.epochs, problem.reference) == (5, 400, {})


def test_the_environment_names_a_folder_above(folder, monkeypatch):
    (folder.parent / "all").mkdir()
    folder.parent.rename(above := folder.parent.with_name("uci"))
    monkeypatch.setenv("JAXDROP_DATA", str(above.parent))
    assert splits.load("small").name == "small"
    assert splits.load("small", above.parent).name == splits.load("small", above).name == "small"
    monkeypatch.delenv("JAXDROP_DATA")
    with pytest.raises(FileNotFoundError, match="got neither"):
        splits.load("small")


def test_two_layers_have_their_own_epochs_and_reference(folder):
    (folder / "reference-2-layers").mkdir()
    for name in ("test_ll", "test_MC_rmse"):
        (folder / "reference-2-layers" / f"{name}.txt").write_text("1.5\n2.5\n")
    one, two = (splits.load("small", folder.parent, layers) for layers in (1, 2))
    assert (one.epochs, two.epochs) == (400, 2000)
    assert (set(one.reference), set(two.reference)) == (set(), {"test_ll", "test_rmse"})


def test_a_reference_is_read(folder):
    (folder / "reference").mkdir()
    for name in splits.REFERENCE.values():
        (folder / "reference" / f"{name}.txt").write_text("1.5\n2.5\n")
    reference = splits.load("small", folder.parent).reference
    assert set(reference) == {"test_ll", "test_rmse", "tau"}
    np.testing.assert_array_equal(reference["test_ll"], [1.5, 2.5])
    (folder / "reference" / "test_ll.txt").write_text("1.5\n")
    with pytest.raises(cli.BadInputError, match=r"reference/test_ll.txt` must hold 2 numbers, got 1\."):
        splits.load("small", folder.parent)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("data", "1 2 nan 3\n" * ROWS, "must hold finite numbers, got nan in line 1."),
        ("data", "1 2 three 4\n", "must hold numbers, got a file that fails with:"),
        ("data", "", "must hold numbers, got none."),
        ("index_features", "0 1 4", "must hold integers in [0, 3], got 4."),
        ("index_features", "0 1 1", "must name each index once, got 1 twice."),
        ("index_target", "2", "must name one column that is no feature, got [2]."),
        ("index_train_1", f"{ROWS}\n", f"must hold integers in [0, {ROWS - 1}], got {ROWS}."),
        ("index_train_0", "-1\n", f"must hold integers in [0, {ROWS - 1}], got -1."),
        ("index_train_0", "0.5\n", f"must hold integers in [0, {ROWS - 1}], got 0.5."),
        ("data", "1 2 1e308 3\n" * ROWS, "must hold numbers in [-1e+10, 1e+10], got 1e+308 in line 1."),
        ("n_hidden", "0", "must hold one integer in [1, 10000], got 0."),
        ("n_hidden", "1e12", "must hold one integer in [1, 10000], got 1e+12."),
        ("n_epochs", "1.5", "must hold one integer in [1, 10000], got 1.5."),
        ("n_epochs", "1e12", "must hold one integer in [1, 10000], got 1e+12."),
        ("n_splits", "1 2", "must hold one integer in [1, 1000], got 1, 2."),
        ("n_splits", "1e12", "must hold one integer in [1, 1000], got 1e+12."),
        ("dropout_rates", "0.1 " * 101, "must hold at most 100 values, got 101."),
        ("dropout_rates", "0.1 1", "must hold values in [0, 1), got 1."),
        ("tau_values", "0", "must hold values in [1e-10, 1e+10], got 0."),
        ("tau_values", "1e308", "must hold values in [1e-10, 1e+10], got 1e+308."),
    ],
)
def test_bad_files_are_named(folder, file, text, message):
    (folder / f"{file}.txt").write_text(text)
    with pytest.raises(cli.BadInputError, match=re.escape(message)) as error:
        splits.load("small", folder.parent)
    assert str(folder / f"{file}.txt") in str(error.value)


@pytest.mark.parametrize(
    ("target", "got"),
    [
        (np.full(ROWS, 0.1), "of 0.1 in split 0."),
        (1e9 + np.arange(ROWS), "of 1e+09 in split 0."),
        (1e-12 * np.arange(ROWS), "of 3.9e-11 in split 0."),
    ],
    ids=["constant", "lost in float32", "too small"],
)
def test_a_target_that_float32_does_not_tell_apart_is_refused(folder, target, got):
    table = np.loadtxt(folder / "data.txt")
    table[:, 3] = target
    np.savetxt(folder / "data.txt", table)
    message = (
        "must have a target whose standard deviation in training is at least 0.0001 of its largest value"
    )
    with pytest.raises(cli.BadInputError, match=re.escape(message)) as error:
        splits.load("small", folder.parent)
    assert str(error.value).endswith(got)


def test_a_target_that_varies_on_the_tail_of_a_split_only_is_refused(folder):
    rows = np.loadtxt(folder / "index_train_1.txt").astype(int)
    table = np.loadtxt(folder / "data.txt")
    table[rows[: int(0.8 * len(rows))], 3] = 2.5
    np.savetxt(folder / "data.txt", table)
    with pytest.raises(cli.BadInputError, match=r"got 0 of .* in split 1\."):
        splits.load("small", folder.parent)


def test_no_row_is_trained_on_and_tested(folder):
    train = np.loadtxt(folder / "index_train_0.txt")
    np.savetxt(folder / "index_test_0.txt", train[:1])
    with pytest.raises(cli.BadInputError, match=r"index_test_0.txt` must name no row that is trained on"):
        splits.load("small", folder.parent)


def test_sizes_differ_by_one_at_most(folder):
    np.savetxt(folder / "index_train_0.txt", np.loadtxt(folder / "index_train_0.txt")[:-1])
    with pytest.raises(cli.BadInputError, match=r"sizes differ by one at most, got 34 to 36\."):
        splits.load("small", folder.parent)


def test_missing_files_are_listed(folder):
    (folder / "tau_values.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"looked for .*small/tau_values.txt\. To get it"):
        splits.load("small", folder.parent)
    (folder / "tau_values.txt").write_text("1")
    (folder / "n_splits.txt").write_text("9")
    with pytest.raises(FileNotFoundError, match=r"index_train_2.txt.* and 10 more"):
        splits.load("small", folder.parent)


def test_the_head_trains_and_the_tail_validates(folder):
    problem = splits.load("small", folder.parent)
    part = splits.part(problem, grid=True)
    np.testing.assert_array_equal(part.size, [28, 28])
    np.testing.assert_array_equal(part.held_size, [7, 8])
    head, tail = problem.train[0][:28], problem.train[0][28:]
    np.testing.assert_allclose(part.y[0] * part.scale[0] + part.shift[0], problem.y[head], rtol=1e-5)
    np.testing.assert_allclose(part.y_held[0], [*problem.y[tail], 0], rtol=1e-6)
    np.testing.assert_allclose(part.x[:, :, [0, 2]].mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(part.x[:, :, [0, 2]].std(1), 1, rtol=1e-5)
    # A constant column is centerd, not divided by zero.
    np.testing.assert_array_equal(part.x[:, :, 1], 0)


def test_a_column_whose_spread_is_rounding_is_constant():
    """The mean of 10,000 equal values may differ from them; divided by that spread they would be 1."""
    x = np.stack([np.arange(10_000.0), np.full(10_000, 0.998)], 1)
    assert x[:-9].std(0)[1] > 0
    rows = np.arange(10_000)
    problem = splits.Problem("naval", x, x[:, 0], [rows[:-9]], [rows[-9:]], (0.1,), (1.0,), 8, 1, {})
    part = splits.part(problem, grid=False)
    np.testing.assert_allclose(part.x[0, :, 1], 0, atol=1e-9)
    np.testing.assert_allclose(part.x_held[0, :, 1], 0, atol=1e-9)
    np.testing.assert_allclose(part.x[0, :, 0].std(), 1, rtol=1e-5)


def test_the_chosen_train_on_all_and_are_tested(folder):
    problem = splits.load("small", folder.parent)
    part = splits.part(problem, grid=False)
    assert part.x.shape == (2, 36, 3)
    np.testing.assert_array_equal(part.size, [35, 36])
    np.testing.assert_array_equal(part.x[0, 35], 0)
    rows = problem.train[1]
    held = (problem.x[problem.test[1], 0] - problem.x[rows, 0].mean()) / problem.x[rows, 0].std()
    np.testing.assert_allclose(part.x_held[1, : len(held), 0], held, rtol=1e-5)


def test_quick_needs_no_files():
    problem = splits.quick(0)
    assert all(not np.intersect1d(a, b).size for a, b in zip(problem.train, problem.test, strict=True))
    assert not np.array_equal(problem.train[0], splits.quick(1).train[0])
