"""The list of experiments: the table of README.md, as data."""

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
_ROW = re.compile(r"^\| \[(\w+)\]\(\1\) \| (.+?) \| `([^`]+)`(.*?) \| (.+?) \|$", re.MULTILINE)


class Entry(NamedTuple):
    """An experiment.

    Attributes:
      name: The name of its folder.
      question: What it asks.
      command: The command that runs it.
      time: The time that it takes on two CPU cores.
    """

    name: str
    question: str
    command: str
    time: str


def entries() -> list[Entry]:
    """The experiments, in the order of the table."""
    rows = _ROW.findall((FOLDER / "README.md").read_text())
    return [Entry(name, question, command + rest, time) for name, question, command, rest, time in rows]
