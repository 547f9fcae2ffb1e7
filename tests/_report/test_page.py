"""The page stands alone, is well formed, and shows every text as it is."""

import base64
import dataclasses
import hashlib
import io
import itertools
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxdrop._report import blocks
from jaxdrop._report.page import render
from tests._report import sample

HOSTILE = (
    "{}</title></script></style><script>alert(1)</script><img src=x onerror=alert(1)>",
    '{}" onload="alert(1)" \' -->]]> &amp; &#60; {{{{ 7 * 7 }}}} {{% raw %}}',
    "{}\u202e$x$ $\\foo$ \U0001f600 مرحبا",
)
EMPTY = {"meta", "link", "img"}


class Parsed(HTMLParser):
    """The elements and the texts of a page; fails where tags do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        self.texts += [value for _, value in attrs if value]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def text():
    return render(sample.page())


@pytest.fixture(scope="module")
def parsed(text):
    return Parsed(text)


def test_the_same_page_is_the_same_text(text):
    assert render(sample.page()) == text


def test_nothing_is_loaded_and_only_its_scripts_run(text, parsed):
    assert set(re.findall(r"https?://[^\s\"'<)]*", text)) == {"http://www.w3.org/2000/svg"}
    for _, attributes in parsed.elements:
        assert not {"style", "srcset", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    (policy,) = [meta["content"] for meta in parsed.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        assert len(parsed.all(tag)) == 1
        inside = text.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_its_outline(parsed):
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in parsed.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for tag in ("main", "header", "nav"):
        assert len(parsed.all(tag)) == 1
    assert parsed.all("html") == [{"lang": "en"}]
    tables = parsed.all("table")
    assert len(parsed.all("caption")) == len(tables) == 4
    assert all(th["scope"] in ("col", "row") for th in parsed.all("th"))
    assert all(image["alt"] for image in parsed.all("img"))
    assert [svg["aria-label"] for svg in parsed.all("svg")] == [
        "Reliability. Accuracy follows confidence.",
        "Again. The same.",
    ]


def test_every_text_is_shown_as_it_is():
    """Each field of each part holds a text that would be code if it were not escaped."""
    sent = []

    def hostile(text="x"):
        sent.append(HOSTILE[len(sent) % len(HOSTILE)].format(f"<{len(sent)}>"))
        return sent[-1]

    figure = Figure(figsize=(40, 30), layout="constrained")
    ax = figure.add_subplot()
    drawn = [hostile() for _ in range(8)]
    ax.bar([0, 1], [1, 2], label=drawn[0])
    ax.plot([0, 1], [1, 1], label=drawn[1])
    ax.set_xticks([0, 1], drawn[2:4])
    ax.set_xlabel(drawn[4])
    ax.set_ylabel(drawn[5])
    ax.set_title(drawn[6])
    ax.text(0.5, 0.5, drawn[7])
    ax.legend()
    table = blocks.Table(hostile(), [hostile()] * 2, [[hostile(), hostile()]], [[hostile(), hostile()]])
    folded = dataclasses.replace(table, caption=hostile(), folded=True)
    card = blocks.Card(hostile(), None, hostile(), {hostile(): hostile()}, [hostile()])
    long = blocks.Card(hostile(), np.zeros((2, 2)), hostile() + 300 * " x", alt=hostile())
    page = blocks.Page(
        hostile(),
        [hostile()],
        [
            blocks.Section(
                hostile(),
                [
                    blocks.Text(hostile()),
                    blocks.Text(hostile(), "note"),
                    blocks.Code(hostile()),
                    table,
                    folded,
                    blocks.Picture(hostile(), figure, hostile(), folded),
                    blocks.Cards(hostile(), [card, long]),
                ],
            )
        ],
    )
    parsed = Parsed(render(page))
    every = "\n".join(parsed.texts)
    missing = [text for text in sent if text not in every]
    assert not missing
    assert len(parsed.all("script")) == 1
    assert len(parsed.all("img")) == 1
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]


def test_what_html_cannot_hold_is_replaced():
    shown = render(blocks.Page("a\x00b\ud800c\x1b[0m\nd", [], []))
    assert "<title>a\ufffdb\ufffdc\ufffd[0m\nd</title>" in shown
    shown.encode()


def test_numbers_stand_right_and_names_head_their_rows(text):
    assert '<td class="n" data-key="0.95" dir="auto">0.9500 ± 0.0100</td>' in text
    assert '<th scope="row" dir="auto">Dropout_2</th><td class="n" dir="auto">0.5</td>' in text
    assert '<td class="n" dir="auto">0.125</td>' in text  # a number heads no row


def test_an_error_stays_with_its_value(text):
    assert "Accuracy is 0.95\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.01." in text


def test_keys_of_missing_values_are_empty():
    table = blocks.Table("t", ["a"], [["none"], ["3 ± 1"]], [[float("nan")], [3.0]])
    shown = render(page_of(table))
    assert 'data-key="" dir="auto">none<' in shown
    assert 'data-key="3.0" dir="auto">3 ± 1<' in shown


def page_of(*parts):
    return blocks.Page("p", [], [blocks.Section("s", parts)])


def image(pixels, **card):
    """The image that a card shows."""
    page = page_of(blocks.Cards("c", [blocks.Card("t", pixels, **card)]))
    found = Parsed(render(page)).all("img")[0]
    shown = Image.open(io.BytesIO(base64.b64decode(found["src"].split(",")[1])))
    assert (int(found["width"]), int(found["height"])) == shown.size
    return np.asarray(shown), found


def test_images_keep_their_pixels():
    ramp = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    shown, found = image(ramp)
    np.testing.assert_array_equal(shown, ramp)
    assert found["alt"] == "t"
    assert found["class"] == "pixels"
    np.testing.assert_array_equal(image(ramp[..., None] / np.float32(255))[0], ramp)
    colors = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    np.testing.assert_array_equal(image(colors, alt="four")[0], colors)
    np.testing.assert_array_equal(image(colors[..., :3])[0], colors[..., :3])
    shown, found = image(np.full((1, 2000, 3), 7, np.uint8))
    assert shown.shape == (1, 512, 3)
    assert "class" not in found


@pytest.mark.parametrize(
    ("pixels", "error", "match"),
    [
        (np.zeros((2, 2, 2)), ValueError, r"must have shape .* got \(2, 2, 2\)"),
        (np.zeros((0, 2)), ValueError, r"must have shape"),
        (np.zeros((2, 2), int), TypeError, "must hold floats or uint8, got int64"),
        (np.full((2, 2), 1.5), ValueError, r"must lie in \[0, 1\], got 1.5 to 1.5"),
        (np.full((2, 2), np.nan), ValueError, "must lie in"),
    ],
)
def test_other_images_are_refused(pixels, error, match):
    with pytest.raises(error, match=match):
        image(pixels)


def test_other_parts_and_rows_of_other_lengths_are_refused():
    for table in (
        blocks.Table("t", ["a", "b"], [[1]]),
        blocks.Table("t", ["a"], [[1]], [[1], [2]]),
        blocks.Table("t", ["a"], [[1]], [[1, 2]]),
    ):
        with pytest.raises(ValueError, match=r"`body` and `keys` must have rows of . cells: 't'"):
            render(page_of(table))
    with pytest.raises(TypeError, match="`blocks` must hold parts of a page, got str"):
        render(page_of("text"))


def test_an_empty_page_and_an_empty_table():
    table = blocks.Table("none", ["a", "b"], [])
    parsed = Parsed(render(blocks.Page("p", [], [blocks.Section("s", [table]), blocks.Section("t")])))
    assert len(parsed.all("th")) == 2


def test_a_missing_jinja2_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=re.escape('run `pip install "jaxdrop[report]"`')):
        render(blocks.Page("p", [], []))
