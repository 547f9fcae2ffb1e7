"""A figure as SVG in the colors of the page."""

import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from jaxdrop._report.picture import clean, svg
from tests._report import sample

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def text():
    return svg(sample.drawn(), "p1", 'a "label" <b>')


def test_grays_are_of_the_page_and_colors_stay(text):
    assert set(re.findall(r"#[0-9a-f]{6}", text)) == {"#0072b2", "#d55e00"}
    assert "var(--ink)" in text
    assert "color-mix(in srgb, var(--ink) 15%, var(--paper))" in text  # the bars, of "0.85"
    figure = Figure()
    figure.text(0.5, 0.5, "pale", color="0.9")
    assert re.search(r'fill="color-mix\(in srgb, var\(--ink\) 75%[^>]*>pale<', svg(figure, "p", ""))


def test_nothing_of_the_document_of_matplotlib_is_left(text):
    root = ElementTree.fromstring(text)
    names = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert names <= {"svg", "g", "path", "text", "tspan", "use", "defs", "clipPath", "rect", "title"}
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'a "label" <b>'
    assert not root.findall(".//*[@style]")
    assert not root.findall(".//*[@font-family]")
    assert "xlink" not in text
    assert "DejaVu" not in text


def test_ids_are_those_that_are_needed_and_the_pictures_own(text):
    root = ElementTree.fromstring(text)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    assert sorted(ids) == sorted(used)
    assert all(name.startswith("p1-") for name in ids)


def test_names_are_no_formulas_and_powers_are():
    figure = Figure(layout="constrained")
    ax = figure.add_subplot()
    ax.plot([1, 1000], [1, 2], label="$a$ and $b$")
    ax.set_xscale("log")
    ax.set_yticks([1, 2], ["$\\foo$", "b\x00\ud800"])
    ax.set_title("$\\mathdefault{\\foo}$ &amp; \ud800")
    ax.legend()
    text = svg(figure, "p", "")
    for name in ("$a$ and $b$", "$\\foo$", "b\ufffd\ufffd", "$\\mathdefault{\\foo}$ &amp;amp; \ufffd"):
        assert f">{name}</text>" in text
    assert re.search(
        r">1</tspan>\s*<tspan[^>]*>0</tspan>\s*<tspan[^>]*font-size=\"7px\"[^>]*>3</tspan>", text
    )


def test_clean():
    assert clean("a\tb\nc \U0001f600 é") == "a\tb\nc \U0001f600 é"
    assert clean("\x00\x1b\x7f\x85\ud83d\uffff") == "\ufffd" * 6
