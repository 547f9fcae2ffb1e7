"""The page of all results: of each experiment the question, the table, the figures and what fell short."""

import re
from pathlib import Path
from typing import NamedTuple

from experiments import catalog
from experiments.site import pages

SHORT = "What fell short"
# Stands above the table of a README that the page of all results shows.
_MARK = "<!-- headline -->"


class Summary(NamedTuple):
    """What the page of all results shows of an experiment.

    Attributes:
      file: Its README, relative to the repository.
      title: Its heading.
      run: A sentence with versions, machine, date and seeds.
      tables: The tables under the mark.
      pictures: Its pictures.
      short: What fell short, in Markdown.
    """

    file: Path
    title: str
    run: str
    tables: list[str]
    pictures: list[pages.Picture]
    short: str


def summary(name: str) -> Summary:
    """The results of an experiment, from its README."""
    file = Path("experiments") / name / "README.md"
    text = (pages.ROOT / file).read_text()
    prose = re.sub(r"^```.*?^```$|^[|#].*?$", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    paragraphs = [" ".join(paragraph.split()) for paragraph in prose.split("\n\n")]
    sentences = [part for paragraph in paragraphs for part in re.split(r"(?<=\.) (?=[A-Zj(*])", paragraph)]
    run = next((sentence for sentence in sentences if re.search(r"\b20\d\d-\d\d-\d\d\b", sentence)), "")
    tables = re.findall(rf"^{_MARK}\n+((?:\|.*\n)+)", text, re.MULTILINE)
    short = re.search(rf"^## {SHORT}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return Summary(
        file,
        pages.title(file),
        run.strip(),
        [pages.linked(table, file)[0] for table in tables],
        pages.pictures(file),
        pages.linked(short[1].strip(), file)[0] if short else "",
    )


def page() -> str:
    """The page, in Markdown."""
    glance = (catalog.FOLDER / "README.md").read_text()
    table = re.search(r"^## Won and lost\n(.*?)(?=^## |\Z)", glance, re.MULTILINE | re.DOTALL)
    parts = ["# Results", "## Won and lost"]
    parts += [pages.linked(table[1].strip(), Path("experiments/README.md"))[0] if table else ""]
    for entry in catalog.entries():
        shown = summary(entry.name)
        parts += [
            f"## {shown.title}",
            f"{entry.question} [Method and all results](/experiments/{entry.name}/index.md)",
            f"```\n{entry.command}\n```",
            f"Time on 2 CPU cores: {entry.time}. Run: {shown.run}",
            *shown.tables,
            *(picture.figure() for picture in shown.pictures),
            f"````{{admonition}} {SHORT}\n:class: warning\n\n{shown.short}\n````",
        ]
    return "\n\n".join(parts) + "\n"
