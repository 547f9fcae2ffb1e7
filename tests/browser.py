"""Pages in a real browser: what fails to load, what a keyboard does not reach, what axe finds.

The fixture `browser` of `conftest.py` is Chromium without a window. Tests that ask for it are skipped where
there is none, and fail if `JAXDROP_BROWSER=1` says that there must be one.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# What a keyboard must reach, if it is shown.
_INTERACTIVE = "a[href], button, summary, input, select, textarea, [tabindex='0']"


class Opened(NamedTuple):
    """A page in the browser.

    Attributes:
      page: The page of playwright.
      problems: Messages of the console, errors of scripts, and requests that failed or left the machine; it
        grows while the page is used.
    """

    page: Page
    problems: list[str]


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """The browser, for the tests of one file: while it runs, no other event loop can."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        (pytest.fail if os.environ.get("JAXDROP_BROWSER") == "1" else pytest.skip)("needs chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, path: Path, width: int = 1280, *, dark: bool = False) -> Iterator[Opened]:
    """Opens a file without a network, on a screen of some width."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    problems: list[str] = []

    def asked(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            problems.append(f"asked for {request.url}")

    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"not loaded: {request.url[:200]}"))
    page.on("request", asked)
    try:
        page.goto(path.absolute().as_uri())
        yield Opened(page, problems)
    finally:
        context.close()


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2, levels A and AA: the rule and the elements."""
    options = {"runOnly": {"type": "tag", "values": _RULES}, "resultTypes": ["violations"]}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


def not_loaded(page: Page) -> list[str]:
    """Images that show nothing."""
    page.eval_on_selector_all("img", "all => all.forEach(image => { image.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    broken = "all => all.filter(image => !image.naturalWidth).map(image => image.src.slice(0, 200))"
    return page.eval_on_selector_all("img", broken)


def unreached(page: Page, scope: str = "body") -> list[str]:
    """What the Tab key does not reach, of all that can be used within a selector."""
    mark = """([scope, wanted]) => {
      const shown = (part) => part.checkVisibility({visibilityProperty: true}) && !part.disabled;
      const parts = [...document.querySelectorAll(`${scope} :is(${wanted})`)];
      window.left = new Set(parts.filter((part) => shown(part) && part.tabIndex >= 0));
      document.addEventListener("focusin", (event) => window.left.delete(event.target));
      document.activeElement.blur();
      return window.left.size;
    }"""
    for _ in range(page.evaluate(mark, [scope, _INTERACTIVE]) + 8):
        page.keyboard.press("Tab")
    return page.evaluate("[...window.left].map((part) => part.outerHTML.slice(0, 200))")


def sort(page: Page, column: str, table: str = "table.sortable") -> list[str]:
    """Sorts by a column as a keyboard does, and returns its cells from top to bottom.

    Args:
      page: The page.
      column: The text of the heading.
      table: A selector of the table; the first that fits.
    """
    button = page.locator(table).first.get_by_role("button", name=column, exact=True)
    button.focus()
    page.keyboard.press("Enter")
    cells = """button => {
      const heading = button.closest("th");
      const rows = [...button.closest("table").tBodies[0].rows];
      return rows.map((row) => row.cells[heading.cellIndex].textContent.trim());
    }"""
    return button.evaluate(cells)


def sideways(page: Page) -> int:
    """By how many pixels the whole page scrolls sideways."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
