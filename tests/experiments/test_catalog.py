"""The list of experiments: one table, which folders and docstrings agree with."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import catalog

ROOT = Path(__file__).parents[2]
ENTRIES = catalog.entries()
README = (catalog.FOLDER / "README.md").read_text()


def test_every_experiment_is_listed():
    folders = {path.parent.name for path in catalog.FOLDER.glob("*/README.md")}
    assert folders == {entry.name for entry in ENTRIES}
    assert all(entry.question.endswith("?") for entry in ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_docstring_has_command_and_time(entry: catalog.Entry):
    source = (catalog.FOLDER / entry.name / "__main__.py").read_text()
    text = ast.get_docstring(ast.parse(source)) or ""
    assert entry.command in text
    assert entry.time.lower() in " ".join(text.split()).lower()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_what_is_won_and_lost_stands_in_the_results(entry: catalog.Entry):
    won = README[README.index("## Won and lost") :]
    (row,) = re.findall(rf"^\| \[{entry.name}\]\({entry.name}\) \| (.+) \| (.+) \|$", won, re.MULTILINE)
    results = (catalog.FOLDER / entry.name / "README.md").read_text().replace(",", "")
    numbers = re.findall(r"[\d.]+±[\d.]*\d|\d+\.\d+", " ".join(row))
    assert numbers or entry.name in ("quality",)
    assert not [number for number in numbers if number not in results]


@pytest.mark.slow
def test_the_command_prints_the_list():
    command = [sys.executable, "-m", "experiments"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    flat = " ".join(text.split())
    for entry in ENTRIES:
        assert f"{entry.time} {entry.command}" in flat
        assert all(word in flat for word in entry.question.split())
