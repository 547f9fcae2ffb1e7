"""The page of a report in a real browser: on a phone, in the dark, by keyboard, printed."""

import pytest

from jaxdrop._report.page import render
from tests import browser as see
from tests._report import sample

pytestmark = pytest.mark.slow

SITES = "table:has-text('Sites')"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(sample.page()), "utf-8")
    return path


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True), (320, False)])
def test_it_opens_offline_and_fits_the_screen(browser, path, width, dark):
    with see.opened(browser, path, width, dark=dark) as (page, problems):
        assert see.not_loaded(page) == []
        assert see.sideways(page) == 0
        # Unfolded, so that all of it is looked at.
        page.eval_on_selector_all("details", "all => all.forEach(fold => { fold.open = true; })")
        assert see.violations(page) == []
        assert see.sideways(page) == 0
        shades = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (shades == "rgb(255, 255, 255)") != dark
        assert problems == []


def test_a_keyboard_reaches_everything(browser, path):
    with see.opened(browser, path, 390) as (page, problems):
        page.keyboard.press("Tab")
        skip = page.evaluate("document.activeElement.getBoundingClientRect().left")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert skip >= 0  # it shows itself
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page.locator("summary").first.press("Enter")
        assert page.locator("details").first.evaluate("fold => fold.open")
        assert see.unreached(page) == []
        assert problems == []


def test_tables_sort_by_value(browser, path):
    with see.opened(browser, path) as (page, problems):
        assert see.sort(page, "rate", SITES) == ["1e-05", "0.5", "0.5", "-"]
        assert see.sort(page, "site", SITES) == ["Block_0", "Dropout_1", "Dropout_2", "Dropout_10"]
        # Ties keep their order, and what is missing is last both ways.
        assert see.sort(page, "rate", SITES) == ["1e-05", "0.5", "0.5", "-"]
        rate = page.locator(SITES).locator("th", has_text="rate")
        assert rate.get_attribute("aria-sort") == "ascending"
        assert see.sort(page, "rate", SITES) == ["0.5", "0.5", "1e-05", "-"]
        assert rate.get_attribute("aria-sort") == "descending"
        assert page.locator(SITES).locator("tbody th").all_text_contents()[:2] == ["Dropout_1", "Dropout_2"]
        assert see.sort(page, "time", SITES) == ["250 ms", "1.5 s", "2 min", ""]
        assert rate.get_attribute("aria-sort") is None
        assert see.sort(page, "count", SITES) == ["-4", "30", "900", "1,200"]
        assert see.sort(page, "value") == ["0.1500 ± 0.0200", "0.9500 ± 0.0100"]
        assert problems == []


CELLS = {
    "12 %|5 %|100 %|n/a": "5 %|12 %|100 %|n/a",
    "0.2 ± 0.1|-0.5 ± 0.2|\N{MINUS SIGN}1 ± 3|nan": "\N{MINUS SIGN}1 ± 3|-0.5 ± 0.2|0.2 ± 0.1|nan",
    "2024-10-01|2024-09-30|2023-12-31": "2023-12-31|2024-09-30|2024-10-01",
    "inf|3|-inf|1e3": "-inf|3|1e3|inf",
    "10 MiB|2 kB|1.5 GB": "2 kB|10 MiB|1.5 GB",
    "0.12 ± 0.01 s|110 ± 5 ms": "110 ± 5 ms|0.12 ± 0.01 s",
    "<0.001|0.5|.25": "<0.001|.25|0.5",
    "1.10.0|1.9.2": "1.9.2|1.10.0",
    "0.65-0.945|0.596-0.93|1.07-1.71": "0.596-0.93|0.65-0.945|1.07-1.71",
    "10-12|5-7|2024-10": "5-7|10-12|2024-10",
    "3x5|3x3|12x1": "3x3|3x5|12x1",
    "b|a 10|a 9": "a 9|a 10|b",
}


def test_the_values_that_columns_of_text_are_sorted_by(browser, path, tmp_path):
    """Any table of the class, such as those that other tools write."""
    parts = []
    for i, given in enumerate(CELLS):
        rows = "".join(f"<tr><td>{cell.replace('<', '&lt;')}</td></tr>" for cell in given.split("|"))
        head = f"<thead><tr><th>column {i}</th></tr></thead>"
        parts.append(f'<table class="sortable" id="t{i}">{head}<tbody>{rows}</tbody></table>')
    script = path.read_text("utf-8").split("<script>")[1].split("</script>")[0]
    other = tmp_path / "other.html"
    other.write_text(
        f'<!DOCTYPE html><meta charset="utf-8">{"".join(parts)}<script>{script}</script>', "utf-8"
    )
    with see.opened(browser, other) as (page, problems):
        for i, wanted in enumerate(CELLS.values()):
            assert "|".join(see.sort(page, f"column {i}", f"#t{i}")) == wanted
        assert problems == []


def test_values_under_the_pointer_the_finger_and_the_arrows(browser, path):
    with see.opened(browser, path, 390) as (page, problems):
        tip = page.locator(".tip")
        plot = page.locator(".plot").first
        point = plot.locator(".points rect[data-values^='accuracy']").first
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        assert tip.is_hidden()
        # A few pixels beside the point, as a finger would.
        page.mouse.move(box["x"] + box["width"] + 5, box["y"] + box["height"] / 2)
        assert tip.inner_text() == "accuracy\nconfidence: 0.25\naccuracy: 0.2 ± 0.05"
        shown = tip.bounding_box()
        assert shown["x"] >= 0
        assert shown["x"] + shown["width"] <= 390
        page.mouse.move(5, 5)
        assert tip.is_hidden()
        page.touchscreen.tap(box["x"] - 5, box["y"])
        assert tip.inner_text() == "accuracy\nconfidence: 0.25\naccuracy: 0.2 ± 0.05"
        page.touchscreen.tap(5, 5)
        assert tip.is_hidden()
        plot.focus()
        page.keyboard.press("ArrowRight")
        first = tip.inner_text()
        page.keyboard.press("ArrowRight")
        assert tip.inner_text() != first
        page.keyboard.press("Escape")
        assert tip.is_hidden()
        assert problems == []


def test_without_scripts_all_is_there(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("th button").count() == 0
    assert page.locator(".points title").count() > 10
    context.close()


def test_paper_shows_all(browser, path, tmp_path):
    with see.opened(browser, path, 718) as (page, problems):  # A4 without its margins, in pixels
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        hidden = "all => all.filter(part => !part.checkVisibility()).map(part => part.outerHTML)"
        assert page.eval_on_selector_all("main :is(td, th, dd, svg, img, .text:not(.start))", hidden) == []
        # On paper nothing scrolls; wide tables have wide paper.
        cut = "all => all.filter(part => part.scrollWidth > part.clientWidth + 1).map(part => part.innerText)"
        assert page.eval_on_selector_all(".scroll:not(:has(.wide)), pre, .card", cut) == []
        page.set_viewport_size({"width": 1010, "height": 700})
        assert page.eval_on_selector_all(".scroll", cut) == []
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details[open]").count() == 0
        document = page.pdf(prefer_css_page_size=True)
        assert document.startswith(b"%PDF")
        assert problems == []
