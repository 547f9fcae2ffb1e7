"""The pages: every public name stands in one, every block runs, every link resolves."""

import importlib
import re
from pathlib import Path

import jax
import pytest

from tests.test_doors import PUBLIC
from tests.test_layout import FLOORS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted({ROOT / "README.md", *ROOT.glob("jaxdrop/**/README.md"), ROOT / "experiments" / "README.md"})
FRONT = (ROOT / "README.md", ROOT / "jaxdrop" / "README.md")
LINKED = sorted({*PAGES, *ROOT.glob("experiments/**/README.md"), *ROOT.glob("jaxdrop/**/*.md")})
LINES = 25


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown viewers make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


# The front page alone is run by default.
RUN = [page if page.parent == ROOT else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]


@pytest.mark.parametrize("page", RUN, ids=name)
def test_the_blocks_of_a_page_run(page: Path, compiled_in_haste):
    """Those of both front pages run one after another, those of a folder's page each by itself."""
    namespace: dict = {}
    for block in blocks(page):
        with jax.debug_key_reuse(True):
            exec(compile(block, str(page), "exec"), namespace if page in FRONT else {})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_are_short(page: Path):
    assert all(len(block.splitlines()) <= LINES for block in blocks(page))


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_name_stands_in_a_page(module):
    """In backticks or in a block, in the library's own pages."""
    text = "\n".join(page.read_text() for page in PAGES if "experiments" not in page.parts)
    code = "\n".join(re.findall(r"```python\n.*?```|`[^`\n]+`", text, re.DOTALL))
    missing = [public for public in module.__all__ if not re.search(rf"\b{re.escape(public)}\b", code)]
    assert not missing, f"write these names of {module.__name__} into a page: {missing}"


FOLDERS = ["drops", "linen", "mc", "nnx", "optim", "plots", "training", "uncertainty"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_page_of_a_folder_lists_its_names(folder: str):
    text = (ROOT / "jaxdrop" / folder / "README.md").read_text()
    listed = {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}
    missing = set(importlib.import_module(f"jaxdrop.{folder}").__all__) - listed
    assert not missing, f"write these names into jaxdrop/{folder}/README.md: {sorted(missing)}"
    assert blocks(ROOT / "jaxdrop" / folder / "README.md")


def test_ci_runs_the_test_command_as_it_is_written():
    commands = [line for line in README.splitlines() if line.startswith("python -m venv")]
    assert [command.rpartition(" ")[2] for command in commands] == ["experiments.regularizers", "pytest"]
    script = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"grep -E '([^']+)' \"\$root/README.md\"", script)
    assert [line for line in README.splitlines() if re.match(pattern, line)] == commands[1:]
    assert 'bash -c "$command"' in script


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_relative_links_resolve(page: Path):
    """A link to a folder shows its page; a link with an anchor, a heading of it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{name(page)}: {link}"
        shown = target / "README.md" if target.is_dir() else target
        if target.is_dir():
            assert shown.exists(), f"{name(page)}: {link} has no page"
        if anchor:
            assert anchor in anchors(shown), f"{name(page)}: {link}"


def test_every_folder_has_its_page():
    folders = [path.parent for path in (ROOT / "jaxdrop").rglob("__init__.py")]
    public = [folder for folder in folders if not any(part.startswith("_") for part in folder.parts[-2:])]
    without = [name(folder) for folder in public if not (folder / "README.md").exists()]
    # Parts of `mc` and `uncertainty`, whose pages have them.
    assert set(without) <= {"jaxdrop/mc/reducers", "jaxdrop/uncertainty/conformal"}


def test_the_page_of_experiments_lists_them_all():
    text = (ROOT / "experiments" / "README.md").read_text()
    commands = [path.parent.name for path in (ROOT / "experiments").glob("*/README.md")]
    assert commands
    assert not [command for command in commands if f"]({command})" not in text or command not in README]


def test_floors_are_those_of_the_test():
    rows = (ROOT / "jaxdrop" / "README.md").read_text().splitlines()
    for unit, floor in FLOORS.items():
        row = next((line for line in rows if re.search(rf"`{unit}(\.py|/)`", line)), "")
        assert row.startswith(f"| {floor} |"), f"write {unit} into the table of floors"
