"""The guides: each runs as one program, prints what it says, and is listed."""

import re
from pathlib import Path

import jax
import pytest

from tests import guides
from tests.test_readme import LINES, blocks

ROOT = Path(__file__).parents[1]
FOUND = guides.guides(ROOT / "jaxdrop")
INDEX = (ROOT / "jaxdrop" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("page", FOUND, ids=lambda page: page.stem)
def test_a_guide_runs_and_prints_what_it_says(page: Path, compiled_in_haste):
    with jax.debug_key_reuse(True), jax.numpy_rank_promotion("allow"):
        assert not guides.run(page)


@pytest.mark.parametrize("page", FOUND, ids=lambda page: page.stem)
def test_the_form_of_a_guide(page: Path):
    text = page.read_text()
    assert page.stem.isupper()
    own = re.sub(r"^```text\n.*?^```$|^\| .*\|$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert len(text.splitlines()) >= 60
    assert len(own.splitlines()) <= 180, "without its tables and outputs"
    assert re.search(r"^\*\*Needs\*\*: `pip install .*\*\*Time\*\*: \d+ seconds", text, re.MULTILINE)
    assert blocks(page)
    assert all(len(block.splitlines()) <= LINES for block in blocks(page))
    assert f"]({page.relative_to(ROOT / 'jaxdrop')})" in INDEX, "list it under Guides in jaxdrop/README.md"


def test_guides_are_found():
    assert len(FOUND) == len(re.findall(r"^\| .*\]\([a-z_/]*[A-Z_]+\.md\) \|$", INDEX, re.MULTILINE)) > 0


def test_numbers_agree_by_their_last_digit():
    assert guides.agree("error 0.12 ± 1e-3, 7 of 9", "error 0.14 ± 2e-3, 8 of 9\n")
    assert not guides.agree("error 0.12", "error 0.15")
    assert not guides.agree("error 0.12", "errors 0.12")
    assert not guides.agree("error 0.12", "error 0.12, 0.13")
    assert not guides.agree("sets: 1", "sets: -1")


def test_a_wrong_number_is_told_and_written(tmp_path: Path):
    page = tmp_path / "GUIDE.md"
    text = "```python\nx = 2\nprint('x', x)\n```\n\n```text\nx 5\n```\n\n```python\nprint(x * 3)\n```\n"
    page.write_text(text)
    assert guides.run(page) == ["GUIDE.md, line 1, prints:\nx 2\n", "GUIDE.md, line 10, prints:\n6\n"]
    assert page.read_text() == text
    guides.run(page, write=True)
    assert not guides.run(page)
    assert "```text\n6\n```\n" in page.read_text()
