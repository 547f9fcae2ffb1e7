"""The command that reports: its page, and input that is refused in one line."""

import json
import runpy
import sys

import numpy as np
import pytest

from jaxdrop._commands import report
from jaxdrop._commands.app import BadInputError

HERE = "tests._commands.predictors:"
X = np.float32(np.random.default_rng(0).normal(size=(60, 4)))
Y = np.where(np.arange(60) % 3, X.argmax(-1), 0)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder of files; the exit code, the outputs and the folder that it writes."""
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x=X)
    np.savez("y.npz", Y)
    np.save("y.npy", Y)
    np.savez("both.npz", x=X, shift=np.zeros(60), texts=np.array(["<script>"] * 60))
    np.savez("objects.npz", x=np.array([{}, None], object), allow_pickle=True)
    np.save("empty.npy", X[:0])
    np.save("short.npy", Y[:50])
    np.save("large.npy", Y + 1)
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    (tmp_path / "names.txt").write_text("a\nb\nc\n\N{SNOWMAN}\n", "utf-8")

    def run(*options):
        arguments = {"--data": "x.npz", "--targets": "y.npz", "--predict": f"{HERE}predict", "--out": "out"}
        arguments |= dict(zip(options[::2], options[1::2], strict=True))
        words = [word for pair in arguments.items() if pair[1] for word in pair]
        monkeypatch.setattr(sys, "argv", ["jaxdrop", "report", *words, "--samples-max", "32"])
        with pytest.raises(SystemExit) as error:
            runpy.run_module("jaxdrop", run_name="__main__")
        return error.value.code, *capsys.readouterr(), tmp_path / "out"

    return run


@pytest.mark.slow
def test_a_page_and_its_numbers(command):
    """Of several arrays, one of which is shown."""
    options = ("--data", "both.npz", "--show", "texts", "--predict", f"{HERE}of_two", "--names", "names.txt")
    code, out, error, folder = command(*options, "--seed", "3")
    assert (code, error) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "samples"]
    assert "Written to out/report.html" in out
    assert "samples are enough" in out or "ended the sampling" in out
    page = (folder / "report.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page.replace(page[page.rindex("<script>") :], "")
    assert "\N{SNOWMAN}" in page
    numbers = json.loads((folder / "report.json").read_text())
    assert numbers["command"].startswith("python -m jaxdrop report --data both.npz")
    assert numbers["facts"]["key"] == "threefry2x32 0 3"
    assert numbers["title"] == f"Report of {HERE}of_two"
    # A second command with another predictor does not mix with what is there.
    code, _, error, _ = command(*options[:4], "--predict", f"{HERE}of_two", "--seed", "4")
    assert code == 2
    assert error.startswith("Error: `out` must be new or hold results of this same call")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "no.npz"], "`data` must be a file, got no.npz."),
        (["--data", "names.txt"], "`data` must be a .npz, .npy or .csv file, got names.txt."),
        (["--data", "objects.npz"], "`data` must hold arrays of numbers or texts, got pickled"),
        (
            ["--data", "broken.npz"],
            "`data` must hold arrays of numbers or texts, got pickled",
        ),
        (["--data", "empty.npy"], "`data` must have one number of examples, at least 1, got 0."),
        (["--targets", "both.npz"], "`targets` must hold one array, got x, shift, texts."),
        (["--targets", "short.npy"], "`targets` must have the 60 examples of the data, got shape (50,)."),
        (["--targets", "large.npy"], "`targets` must be labels in [0, 4), got 4."),
        (
            ["--predict", f"{HERE}nothing"],
            "`predict` must name a function of tests",
        ),
        (["--predict", "predictors"], "`predict` must be MODULE:FUNCTION, got 'predictors'."),
        (
            ["--predict", f"{HERE}wide"],
            "`predict` must accept a key and a batch of the data, float32[60, 4]",
        ),
        (["--predict", f"{HERE}constant"], "key"),
        (["--predict", f"{HERE}infinite"], "NaN"),
        (["--predict", ""], "`predict` or `model` must be given, and not both."),
        (["--argument", "train=true"], "`variables` and `argument` must be given with `model`"),
        (["--predict", "", "--model", f"{HERE}linen"], "`variables` must be given with `model`, got none."),
        (["--show", "x"], "`show` must name one of several arrays of `data`, x, got 'x'."),
        (["--names", "no.txt"], "`names` must be a file, got no.txt."),
        (["--out", "names.txt"], "`out` must be a folder that can be written to, got names.txt."),
        (["--predict", "./predictors.py:predict"], "`predict` must be MODULE:FUNCTION, got"),
        (["--predict", "math:hypot"], "`predict` must accept a key and a batch of the data"),
        (["--seed", "-1"], "`seed` must be at least 0 and below 2**63, got -1."),
        (["--seed", str(2**63)], "`seed` must be at least 0 and below 2**63, got"),
        (["--holdout", "1"], "`holdout` must be in [0, 1), got 1."),
    ],
)
def test_input_that_is_refused_in_one_line(command, options, words):
    code, _, error, folder = command(*options)
    assert code == 2
    assert error.startswith("Error: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (folder / "report.html").exists()
    assert not (folder / "report.json").exists()


def test_an_error_of_the_users_code_is_shown_as_it_is(command):
    with pytest.raises(RuntimeError, match="a mistake of the user"):
        command("--predict", f"{HERE}mistaken")


def test_arguments_in_words():
    found = report.parse_arguments(["train=true", "depth=3", "rate=.5", "scale=1e-1", "mode=a=b"])
    assert found == {"train": True, "depth": 3, "rate": ".5", "scale": 0.1, "mode": "a=b"}
    for text in ("train", "=1", "a b=1"):
        with pytest.raises(BadInputError, match="`argument` must be NAME=VALUE of a new name, got"):
            report.parse_arguments([text])


def test_a_predictor_or_a_function_that_makes_one():
    assert report._predictor(f"{HERE}made", None, None, [], X) is report._predictor(
        f"{HERE}predict", None, None, [], X
    )
