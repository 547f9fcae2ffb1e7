"""The site as it is built: links, names, search, and what a browser shows."""

import fcntl
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from experiments import catalog, cli
from experiments.site import __main__ as command
from experiments.site import api, build, pages
from tests import browser as see

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# `.ci/run` builds the pages of all modules, which takes a minute.
MODULES = ("masks",)
SEEN = ("index", "results", "experiments/ood/index", "api/masks", "jaxdrop/mc/models")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built by the first process that asks for it."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    out = folder / "site"
    with (folder / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            build.build(out, MODULES)
    return out


class Links(HTMLParser):
    """Links, pictures and anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.alts: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        found = dict(attrs)
        if found.get("id"):
            self.anchors.add(found["id"] or "")
        for name in ("href", "src"):
            if found.get(name):
                self.links.append(found[name] or "")
        if tag == "img":
            self.alts.append(found.get("alt") or "")


def test_every_link_resolves_and_nothing_comes_from_elsewhere(site: Path):
    found = {path: Links(path) for path in site.rglob("*.html")}
    dead = []
    for path, page in found.items():
        assert all(page.alts), path
        for link in page.links:
            if re.match(r"(https?|data|mailto):", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            known = target not in found or not anchor or anchor in found[target].anchors
            if not target.is_file() or not known:
                dead.append(f"{path.relative_to(site)}: {link}")
        loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?:[^\"]+)", path.read_text())
        assert not loaded, f"{path}: {loaded}"
    assert not dead


def test_every_page_experiment_and_name_is_there(site: Path):
    assert all((site / f"{name}.html").is_file() for name in pages.files().values())
    for entry in catalog.entries():
        assert "What fell short" in (site / "experiments" / entry.name / "index.html").read_text()
    text = (site / "api" / "masks.html").read_text()
    assert all(f'id="{full}"' in text for full in api.public()["masks"])
    assert "Rate" in text
    assert "numpy.bool" not in text
    index = (site / "searchindex.js").read_text()
    assert "spatial_dropout" in index


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_pages_open_in_a_browser(browser, site: Path, width: int, dark: bool):
    for name in SEEN:
        with see.opened(browser, site / f"{name}.html", width, dark=dark) as (page, problems):
            assert see.not_loaded(page) == [], name
            assert see.sideways(page) == 0, name
            assert problems == [], name
            if name != "results" or not dark:  # its many tables take axe long
                assert see.violations(page) == [], name


def test_tables_sort_and_the_search_finds_names(browser, site: Path):
    with see.opened(browser, site / "experiments" / "ood" / "index.html") as (page, problems):
        cells = see.sort(page, "error (%)")
        values = [float(cell.partition("±")[0]) for cell in cells]
        assert values == sorted(values)
        assert len(values) == 14
        page.get_by_placeholder("Search").first.fill("spatial_mask")
        page.keyboard.press("Enter")
        first = page.locator("#search-results li a").first
        first.wait_for()
        assert first.text_content() == "jaxdrop.spatial_mask"
        first.click()
        page.wait_for_url("**/api/masks.html#jaxdrop.spatial_mask")
        assert problems == []


def test_a_keyboard_reaches_everything(browser, site: Path):
    with see.opened(browser, site / "experiments" / "active" / "index.html", 390) as (page, _):
        assert see.unreached(page) == []


def test_a_wrong_folder_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    words = [sys.executable, "-m", "experiments.site", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    message = f"a new or empty folder or a site of this command, got {tmp_path}, which has notes.txt."
    assert done.stderr.strip().splitlines() == [f"Error: `out` must be {message}"]


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "experiments.site.build")
    monkeypatch.delattr(sys.modules["experiments.site"], "build")
    monkeypatch.setitem(sys.modules, "sphinx.application", None)
    with pytest.raises(cli.BadInputError, match=r'`sphinx` must be installed: pip install -e "\.\[site\]"\.'):
        command.main(tmp_path / "site")
    assert not list(tmp_path.iterdir())
