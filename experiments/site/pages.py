"""Pages of the site: the Markdown files of the repository, as Sphinx reads them.

A page is copied, not written: relative links lead to pages of the site, pictures become figures with the
command that draws them, and `README.md` becomes the index of its folder.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^\s*(```+|~~~+)")
_COMMAND = re.compile(r"python -m (?:experiments|jaxdrop)\b.*")
# A line that is a picture, with the command that draws it as its title where another one was given last.
_PICTURE = re.compile(r'^!\[(?P<alt>[^\]]*)\]\((?P<file>[^)\s]+)(?: "(?P<command>[^"]*)")?\)$')
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


class Picture(NamedTuple):
    """A picture of a page.

    Attributes:
      file: The file, relative to the repository.
      alt: What it shows.
      command: The command that draws it; empty if the page names none.
    """

    file: Path
    alt: str
    command: str

    def figure(self) -> str:
        """The directive of the figure, with the command below it."""
        below = f"\nDrawn by `{self.command}`\n" if self.command else ""
        return f"```{{figure}} /{self.file}\n:alt: {self.alt}\n{below}```"


class Line(NamedTuple):
    """A line of a page.

    Attributes:
      text: The text.
      fenced: Whether it stands in a block of code.
      picture: The picture, if the line is one.
    """

    text: str
    fenced: bool
    picture: Picture | None


def files() -> dict[Path, str]:
    """The Markdown files, relative to the repository, and the name of the page of each."""
    found = [ROOT / "README.md", *ROOT.glob("jaxdrop/**/*.md"), *ROOT.glob("experiments/**/*.md")]
    relative = [file.relative_to(ROOT) for file in found]
    names = {file: "index" if file.stem == "README" else file.stem.lower() for file in relative}
    ordered = sorted(relative, key=lambda file: (file.parent.parts, names[file] != "index", file.name))
    return {file: str(file.with_name(names[file])) for file in ordered}


def lines(file: Path) -> Iterator[Line]:
    """The lines of a Markdown file, given relative to the repository."""
    fence, command, fresh = "", "", False
    for text in (ROOT / file).read_text().splitlines():
        mark = _FENCE.match(text)
        if mark and (not fence or mark[1].startswith(fence)):
            fence, fresh = ("", False) if fence else (mark[1], True)
            yield Line(text, True, None)
            continue
        named = _COMMAND.search(text) if fence else None
        if named and fresh:  # of a block, the first command
            command, fresh = named[0].partition("  #")[0].strip(), False
        shown = None if fence else _PICTURE.match(text)
        picture = None
        if shown:
            path = Path(os.path.normpath(file.parent / shown["file"]))
            picture = Picture(path, shown["alt"], shown["command"] or command)
        yield Line(text, bool(fence), picture)


def pictures(file: Path) -> list[Picture]:
    """The pictures of a Markdown file."""
    return [line.picture for line in lines(file) if line.picture]


def title(file: Path) -> str:
    """The heading of a Markdown file."""
    return next(line.text for line in lines(file) if line.text.startswith("# ")).removeprefix("# ")


def linked(text: str, file: Path) -> tuple[str, set[Path]]:
    """Text of a file with links to pages of the site, and the source files among them."""
    pages, sources = files(), set()

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        path, _, anchor = target.partition("#")
        if "://" in target:
            return match[0]
        shown = Path(os.path.normpath(file.parent / path)) if path else file
        shown = shown / "README.md" if (ROOT / shown).is_dir() else shown
        if shown in pages:
            return f"](/{pages[shown]}.md{'#' + anchor if anchor else ''})"
        sources.add(shown)
        return f"](/source/{shown}.rst)"

    return _LINK.sub(replaced, text), sources


def converted(file: Path) -> tuple[str, set[Path]]:
    """A Markdown file as a page of the site, and the source files that it links to."""
    sources: set[Path] = set()
    written = []
    for line in lines(file):
        text = line.picture.figure() if line.picture else line.text
        if not line.fenced and not line.picture:
            text, more = linked(text, file)
            sources |= more
        written.append(text)
    return "\n".join(written) + "\n", sources


def source(file: Path) -> str:
    """The page of a source file."""
    language = {".py": "python", ".toml": "toml", ".js": "javascript"}.get(file.suffix, "text")
    return f""":orphan:

{file}
{"=" * len(str(file))}

.. literalinclude:: /source/{file}
   :language: {language}
   :linenos:
"""
