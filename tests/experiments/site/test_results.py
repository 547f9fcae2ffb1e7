"""The page of all results."""

import re

import pytest

from experiments import catalog
from experiments.site import results

NAMES = [entry.name for entry in catalog.entries()]


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_what_was_run_and_what_fell_short(name: str):
    shown = results.summary(name)
    assert re.search(r"20\d\d-\d\d-\d\d", shown.run), 'write "jax ...; machine; date; seeds"'
    assert len(shown.run) < 300
    assert re.search(r"CPU cores|cores of|H200", shown.run), shown.run
    assert shown.tables, "write <!-- headline --> above the table of the main result"
    assert shown.short.startswith("- "), "write a section: What fell short"
    assert not re.search(r"^#+ Limit", (catalog.FOLDER / name / "README.md").read_text(), re.MULTILINE)


def test_the_page_has_all():
    text = results.page()
    for entry in catalog.entries():
        shown = results.summary(entry.name)
        for part in (entry.question, entry.command, entry.time, shown.run, shown.short, *shown.tables):
            assert part in text
        for picture in shown.pictures:
            assert picture.figure() in text
    assert text.count("What fell short") >= len(NAMES)
    assert text.index("Won and lost") < text.index("python -m experiments")
