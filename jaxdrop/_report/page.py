"""A page as HTML that stands alone."""

import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from jaxdrop._report.blocks import Block, Cell, Page, Table
from jaxdrop._report.picture import clean, svg

_FOLDER = Path(__file__).parent
# Longer texts of cards are folded.
_LONG = 280
# Larger images of cards are made smaller: a page shows many.
_SIDE = 512
# Shorter values that begin with a digit stay on a line.
_LONG_NUMBER = 24
# Cells without a value.
_MISSING = {"", "-", "\N{EN DASH}", "\N{EM DASH}", "nan"}
_NUMBER = re.compile("[-+\N{MINUS SIGN}±<>≤≥~]?\\s*(\\d|\\.\\d|inf\\b)")


def render(page: Page) -> str:
    """The page as one HTML document without any other file.

    It opens offline, loads nothing, and its Content-Security-Policy forbids scripts other than its own. Texts
    are escaped; characters that HTML cannot hold become U+FFFD.

    Args:
      page: What to show.

    Returns:
      The document, the same characters for the same page.

    Raises:
      ImportError: If jinja2 is missing.
      TypeError: If a block or the values of an image have another type than `blocks` says.
      ValueError: If an image, or the rows of a table, have another shape or range.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError('A report needs jinja2; run `pip install "jaxdrop[report]"`.') from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style = (_FOLDER / "page.css").read_text("utf-8")
    script = (_FOLDER / "sort.js").read_text("utf-8") + (_FOLDER / "page.js").read_text("utf-8")
    return environment.get_template("page.html.jinja").render(
        page=page,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        kind=_kind,
        rows=_rows,
        numeric=_numeric,
        number=lambda cell: _NUMBER.match(str(cell)) and len(str(cell)) < _LONG_NUMBER,
        svg=svg,
        png=_png,
        cut=_cut,
        tied=lambda text: text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"),
    )


def _clean(value: object) -> object:
    """What a template shows: strings without characters that HTML cannot hold."""
    return clean(value) if type(value) is str else value


def _hash(text: str) -> str:
    """How a Content-Security-Policy names a script or a style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _kind(block: Block) -> str:
    """The name of a block's class."""
    if not isinstance(block, Block):
        raise TypeError(f"`blocks` must hold parts of a page, got {type(block).__name__}.")
    return type(block).__name__


def _numeric(table: Table) -> list[bool]:
    """Which columns hold numbers, with or without errors or units."""
    columns: list[list[Cell]] = [list(column) for column in zip(*table.body, strict=True)]
    texts = [[str(cell).strip() for cell in column] for column in columns]
    told = [[text for text in column if text not in _MISSING] for column in texts]
    return [bool(column) and all(map(_NUMBER.match, column)) for column in told] or [False] * len(table.head)


def _rows(table: Table) -> list[list[tuple[str, str | None]]]:
    """The cells as text, each with the value to sort by where it is another."""
    keys = table.body if table.keys is None else table.keys
    shape = [len(table.head)] * len(table.body)
    if [len(row) for row in table.body] != shape or [len(row) for row in keys] != shape:
        raise ValueError(f"`body` and `keys` must have rows of {len(table.head)} cells: {table.caption!r}.")
    pairs = [zip(row, own, strict=True) for row, own in zip(table.body, keys, strict=True)]
    return [[(str(cell), None if key is cell else _key(key)) for cell, key in row] for row in pairs]


def _key(key: Cell) -> str:
    """A value to sort by, as text; empty for none."""
    return "" if str(key) in _MISSING else str(key)


def _png(image: np.ndarray) -> tuple[str, int, int]:
    """An image as the address of its data, and its width and height."""
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if not pixels.size or (pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[-1] not in (3, 4))):
        raise ValueError(f"`image` must have shape [H, W] or [H, W, 1, 3 or 4], got {np.shape(image)}.")
    if pixels.dtype != np.uint8:
        if not np.issubdtype(pixels.dtype, np.floating):
            raise TypeError(f"`image` must hold floats or uint8, got {pixels.dtype}.")
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise ValueError(f"`image` must lie in [0, 1], got {pixels.min()} to {pixels.max()}.")
        pixels = np.round(pixels * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode(), *picture.size


def _cut(text: str) -> str | None:
    """The beginning of a long text, None of a short one."""
    if len(text) <= _LONG:
        return None
    return text[:_LONG].rsplit(None, 1)[0] + " …"
