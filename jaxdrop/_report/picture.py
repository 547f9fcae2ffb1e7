"""A figure of matplotlib as SVG within a page: colors of the page, text as text, values at the points."""

import io
import re
import warnings
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from jaxdrop._report.points import points

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
# Text keeps this contrast to the page, whatever gray it has.
_LEAST_INK = 75
# The numbers of a logarithmic axis, the only formulas.
_DIGITS = "[-\N{MINUS SIGN}\\d.^{}]*"
_POWER = re.compile(rf"\$\\mathdefault\{{{_DIGITS}(\\times{_DIGITS})?\}}\$")
# Not characters of HTML or XML: controls, and halves of pairs of UTF-16.
_NO_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """The text with the replacement character for what HTML and UTF-8 cannot hold."""
    return _NO_CHARACTERS.sub("\ufffd", text)


def svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an element `<svg>`.

    Grays become mixtures of the colors `--ink` and `--paper` of the page, so that it reads in the dark. No
    element has a `style`, which a strict Content-Security-Policy forbids.

    Args:
      figure: The figure.
      name: What its ids begin with; unique on the page.
      label: What it shows, for readers who do not see it.

    Returns:
      The same characters for the same figure.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxdrop"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the browser has more fonts
        _take_as_written(figure)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(clean(file.getvalue()))
    width, height = (float(number) for number in root.attrib["viewBox"].split()[2:])
    for part in list(root):  # metadata, and a style that would be that of the whole page
        if part.tag.endswith("}metadata") or part.find(f"{{{_SVG}}}style") is not None:
            root.remove(part)
    for element in root.iter():
        _restyle(element)
    _rename(root, name)
    root.attrib.pop("version")
    root.attrib |= {"width": f"{width:g}", "height": f"{height:g}", "role": "img", "aria-label": clean(label)}
    group = ElementTree.SubElement(root, f"{{{_SVG}}}g", {"class": "points"})
    for point in points(figure):
        left, top, right, bottom = point.box
        box = {"x": left * width, "y": top * height}
        box |= {"width": (right - left) * width, "height": (bottom - top) * height}
        hit = ElementTree.SubElement(
            group, f"{{{_SVG}}}rect", {key: f"{value:.2f}" for key, value in box.items()}
        )
        ElementTree.SubElement(hit, f"{{{_SVG}}}title").text = clean(point.text)
    return ElementTree.tostring(root, encoding="unicode")


def _take_as_written(figure: Figure) -> None:
    """Shows every text as it is, so that a name with dollars is no formula."""
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        formatter = axis.get_major_formatter()
        if isinstance(formatter, FuncFormatter):  # the names that `set_ticks` was given
            formatter.func = _cleaned(formatter.func)
        axis.get_ticklabels()  # sets their texts
    # Once before the layout, which fails on a wrong formula, and once for the ticks that come with it.
    for part in (figure.draw_without_rendering, lambda: None):
        for text in figure.findobj(Text):
            if not _POWER.fullmatch(text.get_text()):
                text.set_parse_math(False)
                text.set_text(clean(text.get_text()))
        part()


def _cleaned(function: Callable[[float, int | None], str]) -> Callable[[float, int | None], str]:
    return lambda value, place=None: clean(function(value, place))


def _restyle(element: ElementTree.Element) -> None:
    """Makes each style an attribute, and each gray a color of the page."""
    style = element.attrib.pop("style", "")
    pairs = [part.split(":", 1) for part in style.split(";") if ":" in part]
    for key, value in ((key.strip(), value.strip()) for key, value in pairs):
        if key == "font":  # "bold 10px 'DejaVu Sans'"
            size = re.search(r"([\d.]+)px", value)
            element.attrib |= {"font-size": size.group(1)} if size else {}
            element.attrib |= {"font-weight": "bold"} if re.search(r"\b(bold|[6-9]00)\b", value) else {}
        elif key != "font-family":  # the page's
            element.set(key, value)
    is_text = element.tag in (f"{{{_SVG}}}text", f"{{{_SVG}}}tspan")
    if is_text and "fill" not in element.attrib and element.tag.endswith("}text"):
        element.set("fill", "#000000")
    for key in ("fill", "stroke", "stop-color", "color"):
        if key in element.attrib:
            element.set(key, _of_page(element.attrib[key], _LEAST_INK if is_text else 0))
    if _LINK in element.attrib:
        element.set("href", element.attrib.pop(_LINK))


def _of_page(color: str, least: int) -> str:
    """A gray as a mixture of the page's colors; other colors as they are."""
    match = re.fullmatch(r"#([0-9a-f]{2})\1\1", color)
    if not match:
        return color
    ink = max(round(100 - int(match.group(1), 16) / 2.55), least)
    if ink in (0, 100):
        return "var(--ink)" if ink else "var(--paper)"
    return f"color-mix(in srgb, var(--ink) {ink}%, var(--paper))"


def _rename(root: ElementTree.Element, name: str) -> None:
    """Keeps the ids that are referred to, with the picture's name before them."""
    kept = {}
    for element in root.iter():
        for key, value in element.attrib.items():
            match = re.fullmatch(r"#(.+)" if key == "href" else r"url\(#(.+)\)", value)
            if match:
                old = match.group(1)
                new = kept.setdefault(old, f"{name}-{len(kept)}")
                element.set(key, value.replace(f"#{old}", f"#{new}"))
    for element in root.iter():
        old = element.attrib.pop("id", None)
        if old in kept:
            element.set("id", kept[old])
