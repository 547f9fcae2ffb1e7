"""How bad input looks at the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments import cli

ROOT = Path(__file__).parents[2]


def test_checks():
    assert cli.check_count("seeds", 1) == 1
    with pytest.raises(ValueError, match=r"`seeds` must be at least 1, got 0\."):
        cli.check_count("seeds", 0)
    with pytest.raises(ValueError, match=r"`dataset` must be one of a, b, got c\."):
        cli.check_choice("dataset", "c", ("a", "b"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "`seeds` must be at least 1, got 0."),
        (["--dataset", "[b]x"], "`dataset` must be one of digits, mnist, fashion-mnist, got [b]x."),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(arguments, message, tmp_path):
    command = [sys.executable, "-m", "experiments.regularizers", "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == f"Error: {message}"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_explains_every_option():
    command = [sys.executable, "-m", "experiments.regularizers", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for option in ("--dataset", "--data-dir", "--out", "--seed", "--seeds", "--steps", "--quick"):
        assert option in text
    assert "chooses strengths and rates on validation parts" in " ".join(text.split())
