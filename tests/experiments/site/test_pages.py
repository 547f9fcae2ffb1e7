"""Markdown files as pages of the site."""

import re
from pathlib import Path

import pytest

from experiments.site import pages

FILES = pages.files()


def test_names_of_pages():
    assert FILES[Path("README.md")] == "index"
    assert FILES[Path("jaxdrop/mc/README.md")] == "jaxdrop/mc/index"
    assert FILES[Path("jaxdrop/mc/MODELS.md")] == "jaxdrop/mc/models"
    assert len(set(FILES.values())) == len(FILES)


def test_links_lead_to_pages():
    text, sources = pages.linked(
        "[a](../mc) [b](../mc/MODELS.md#flax-linen) [c](attention.py) [d](#top) [e](https://x.org/y)",
        Path("jaxdrop/linen/README.md"),
    )
    assert re.findall(r"\((.*?)\)", text) == [
        "/jaxdrop/mc/index.md",
        "/jaxdrop/mc/models.md#flax-linen",
        "/source/jaxdrop/linen/attention.py.rst",
        "/jaxdrop/linen/index.md#top",
        "https://x.org/y",
    ]
    assert sources == {Path("jaxdrop/linen/attention.py")}


def test_code_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    text = "# A\n\n```\n[a](b.py) ![c](d.png)\npython -m experiments.x  # all\n```\n\n![e](f.png)\n"
    (tmp_path / "README.md").write_text(text)
    converted, sources = pages.converted(Path("README.md"))
    assert "[a](b.py) ![c](d.png)" in converted
    assert not sources
    assert pages.pictures(Path("README.md")) == [pages.Picture(Path("f.png"), "e", "python -m experiments.x")]
    assert "```{figure} /f.png\n:alt: e\n\nDrawn by `python -m experiments.x`\n```" in converted


@pytest.mark.parametrize("file", FILES, ids=str)
def test_pictures_say_what_they_show_and_what_draws_them(file: Path):
    """Every picture stands alone on its line, so none is missed."""
    shown = pages.pictures(file)
    prose = [line.text for line in pages.lines(file) if not line.fenced]
    assert len(shown) == sum(re.sub(r"`[^`]*`", "", text).count("![") for text in prose)
    for picture in shown:
        assert (pages.ROOT / picture.file).exists()
        assert len(picture.alt) >= 5, picture
        assert picture.command.startswith("python -m "), picture
    assert len({picture.alt for picture in shown}) == len(shown)


def test_the_command_of_a_picture_is_of_its_experiment():
    for file in FILES:
        for picture in pages.pictures(file):
            if picture.file.parts[0] == "experiments":
                assert picture.command.startswith(f"python -m experiments.{picture.file.parts[1]}"), picture


def test_sources_are_shown():
    text = pages.source(Path("experiments/classic/models.py"))
    assert ".. literalinclude:: /source/experiments/classic/models.py\n   :language: python" in text
