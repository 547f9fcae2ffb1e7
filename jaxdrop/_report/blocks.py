"""The parts of a page: what is shown, without how it looks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

Cell = str | int | float


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
      text: Plain text.
      kind: "note", "warning" or "" for body text.
    """

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width font, such as a command.

    Attributes:
      text: Plain text.
    """

    text: str


@dataclass(frozen=True)
class Table:
    """A table that readers can sort.

    Attributes:
      caption: What the table shows.
      head: Headings of the columns.
      body: The rows. A number is sorted by its value; a string may be a number with its error.
      keys: Values to sort by, of the shape of `body`, where cells are strings of numbers; None: the cells.
      folded: Whether it is shown only when asked for.
    """

    caption: str
    head: Sequence[str]
    body: Sequence[Sequence[Cell]]
    keys: Sequence[Sequence[Cell]] | None = None
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A plot, with its values as text.

    Attributes:
      title: The heading.
      figure: The plot; each of its points shows its values under the pointer.
      text: What the plot says, for readers who do not see it.
      values: The values of the plot; a folded table below it.
    """

    title: str
    figure: Figure
    text: str
    values: Table | None = None


@dataclass(frozen=True)
class Card:
    """An example of the data.

    Attributes:
      title: A line above the content.
      image: An image, `[H, W]` or `[H, W, C]` of 1, 3 or 4 channels, of floats in [0, 1] or uint8; or None.
      text: A text, or None.
      row: Values by name, or None.
      lines: Lines below the content, such as the prediction.
      alt: What the image shows, for readers who do not see it.
    """

    title: str
    image: np.ndarray | None = None
    text: str | None = None
    row: dict[str, Cell] | None = None
    lines: Sequence[str] = ()
    alt: str = ""


@dataclass(frozen=True)
class Cards:
    """Examples side by side.

    Attributes:
      title: The heading.
      cards: The examples.
    """

    title: str
    cards: Sequence[Card]


Block = Text | Code | Table | Picture | Cards


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
      title: The heading.
      blocks: The content.
    """

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
      title: The title.
      summary: A few sentences below the title.
      sections: The sections, listed in a table of contents.
    """

    title: str
    summary: Sequence[str]
    sections: Sequence[Section]
