"""The command that tunes: its table, its files, and input that is refused in one line."""

import csv
import json
import runpy
import sys

import matplotlib.image
import pytest

from jaxdrop._commands import tune
from jaxdrop._commands.app import BadInputError

GRID = ["--grid", "rate=0,0.1,0.3,1e9", "--grid", "decay=0,0.1", "--steps", "40"]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command on a problem of `problems`; the exit code, the outputs and the folder."""

    def run(problem, *options):
        out = tmp_path / "out"
        name = f"tests._commands.problems:{problem}"
        monkeypatch.setattr(sys, "argv", ["jaxdrop", "tune", name, *options, "--out", str(out)])
        with pytest.raises(SystemExit) as error:
            runpy.run_module("jaxdrop", run_name="__main__")
        return error.value.code, *capsys.readouterr(), out

    return run


@pytest.mark.slow
def test_a_table_a_plot_and_files(command):
    """Three rungs: the runs of the largest rate fail and are stopped first."""
    options = ["--rungs", "3", "--simpler", "decay", "--simpler", "rate", "--seeds", "2", "--seed", "1"]
    code, out, _, folder = command("line", *GRID, *options)
    assert code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["table.csv", "table.json", "tuning_curve.png"]
    found = json.loads((folder / "table.json").read_text())
    rows = found["table"]
    assert [(row["rate"], row["decay"]) for row in rows] == [
        (rate, decay) for rate in (0, 0.1, 0.3, 1e9) for decay in (0, 0.1)
    ]
    assert (found["chosen"]["rate"], found["chosen"]["decay"]) == (0.3, 0.0)
    assert [row for row in rows if row["chosen"]] == [found["chosen"]]
    assert [(row["steps"], row["rung"]) for row in rows if row["rate"] == 1e9] == [(10, 0)] * 2
    assert [row["mean"] for row in rows if row["rate"] == 1e9] == [None] * 2
    assert all(len(row["scores"]) == 2 for row in rows)
    assert rows[0]["mean"] == pytest.approx(sum(rows[0]["scores"]) / 2)
    with (folder / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["rate"]) for line in lines] == [row["rate"] for row in rows]
    assert [line["chosen"] for line in lines].count("True") == 1
    assert matplotlib.image.imread(folder / "tuning_curve.png").std() > 0.05
    assert [line.split()[:2] for line in out.splitlines() if line.endswith("*  ")] == [["0", "0.3"]]
    assert "nan" in out


@pytest.mark.parametrize(
    ("problem", "options", "words"),
    [
        ("nothing", GRID, "`problem` must name a function of tests._commands.problems, got 'nothing'."),
        ("number", GRID, "number must return a dictionary of step, states, train, valid, score_fn, got int."),
        ("part", GRID, "got one without states, train, valid, score_fn and with the unknown data."),
        ("of_another_score", GRID, "`score_fn` must return a scalar score, got shape (8,)."),
        ("line", [*GRID, "--grid", "rate=1"], "`grid` must be NAME=VALUE,... of a new name other than seed"),
        ("line", [*GRID, "--simpler", "depth"], "`simpler` must be one of"),
        ("line", [*GRID, "--simpler", "rate", "--seeds", "1"], "must hold two or more runs of each setting"),
        ("line", [*GRID, "--seeds", "0"], "`seeds` must be at least 1 and `seed` at least 0, got 0 and 0."),
    ],
)
def test_input_that_is_refused_in_one_line(command, problem, options, words):
    code, _, error, folder = command(problem, *options)
    assert code == 2
    assert error.startswith("Error: ")
    assert words in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_an_error_of_the_users_code_is_shown_as_it_is(command):
    with pytest.raises(ValueError, match="a mistake of the user"):
        command("broken", *GRID)


def test_a_grid_in_words():
    assert tune.parse_grid(["rate=0,.5", "decay=1e-4"]) == {"rate": [0.0, 0.5], "decay": [1e-4]}
    for text in ("rate", "=1", "seed=1", "a b=1", "rate=", "rate=x", "rate=nan", "rate=inf"):
        with pytest.raises(BadInputError, match=r"^`grid` must .*, got "):
            tune.parse_grid([text])
    for values in ("0.1,0.10", "0.1,0.1000000001", "1e39"):
        with pytest.raises(BadInputError, match=r"^`grid` must hold finite float32 numbers, each once, got "):
            tune.parse_grid([f"rate={values}"])


def test_the_steps_of_the_rungs():
    assert tune.rung_steps(40, 3, 2) == [10, 10, 20]
    assert tune.rung_steps(90, 3, 3) == [10, 20, 60]
    assert tune.rung_steps(7, 1, 2) == [7]
    for arguments in ((0, 1, 2), (2, 4, 2), (9, 0, 2), (9, 2, 1)):
        with pytest.raises(BadInputError):
            tune.rung_steps(*arguments)
