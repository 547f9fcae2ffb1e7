"""The most and the least certain examples, as images, texts or rows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import matplotlib.colors
import numpy as np

from jaxdrop import plots
from jaxdrop._report.blocks import Card, Cards, Cell
from jaxdrop._report.kinds import is_number
from jaxdrop._types import ArrayLike, PyTree

# Examples in a group, and values of a row, at most.
_MOST, _COLUMNS = 6, 12
_CHANNELS = (1, 3, 4)


class Shown(NamedTuple):
    """What is shown of the examples.

    Attributes:
      how: "image", "text", "row", or "" for nothing.
      values: Images `[N, H, W]` or `[N, H, W, C]`, texts `[N]`, or rows `[N, D]`.
      columns: The names of the columns of rows.
    """

    how: str
    values: ArrayLike
    columns: Sequence[str] = ()


def shown(data: PyTree, show: PyTree | None, columns: Sequence[str] | None, examples: int) -> Shown:
    """What is shown: `show`, or the first array of the data.

    Raises:
      TypeError: If `show` holds neither numbers nor texts.
      ValueError: If `show` has another number of examples, or `columns` does not fit the rows.
    """
    given = jax.tree.leaves(data)[0] if show is None else show
    try:
        values = given if hasattr(given, "dtype") and hasattr(given, "shape") else np.asarray(given)
    except ValueError:
        raise ValueError(
            "`show` must hold texts, or numbers of one shape per example, got numbers of several shapes."
        ) from None
    kind, rank = np.dtype(values.dtype).kind, np.ndim(values)
    if not rank or len(values) != examples:
        raise ValueError(
            f"`show` must have the {examples} examples of the data, got shape {np.shape(values)}."
        )
    if not all(np.shape(values)):
        if show is None:
            return Shown("", values)
        raise ValueError(f"`show` must have axes that are not empty, got shape {np.shape(values)}.")
    if kind == "U" or (kind == "O" and all(isinstance(value, str) for value in np.ravel(values))):
        return Shown("text", np.asarray(values).reshape(examples, -1)[:, 0])
    if not is_number(values.dtype):
        raise TypeError(f"`show` must hold numbers or texts, got dtype {values.dtype}.")
    if rank == 3 or (rank == 4 and values.shape[-1] in _CHANNELS):
        return Shown("image", values)
    if rank > 2:
        return Shown("", values)
    width = 1 if rank == 1 else values.shape[1]
    names = [f"x{i}" for i in range(width)] if columns is None else list(columns)
    if len(names) != width:
        raise ValueError(f"`columns` must have {width} names, one per column of the data, got {len(names)}.")
    return Shown("row", values, names)


def check_names(names: Sequence[str] | None, classes: int) -> list[str]:
    """A name for each class, to stand within a line; its number if none is given."""
    if names is None:
        return [str(number) for number in range(classes)]
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError("`names` must be a sequence of strings, one per class.")
    if len(names) != classes:
        raise ValueError(f"`names` must have {classes} names, one per class, got {len(names)}.")
    return [_isolated(name) for name in names]


def groups(
    what: Shown,
    rows: np.ndarray,
    doubt: np.ndarray,
    loss: np.ndarray,
    *,
    wrong: np.ndarray | None,
    lines: Callable[[int], Sequence[str]],
    maps: Callable[[int], Sequence[np.ndarray]] | None = None,
) -> list[Cards]:
    """The most and the least certain examples, and the most certain mistakes or the largest losses.

    Args:
      what: What is shown of all examples.
      rows: The numbers of the scored examples, `[n]`.
      doubt: Their uncertainty.
      loss: Their loss.
      wrong: Whether they are predicted wrong; None: there is no such thing.
      lines: The lines below an example, by its place in `rows`.
      maps: Images that stand right of an example's, by its place in `rows`.
    """
    ascending = np.argsort(doubt, kind="stable")
    chosen = {"Most uncertain": ascending[::-1][:_MOST], "Most certain": ascending[:_MOST]}
    if wrong is None:
        chosen["Largest losses"] = np.argsort(-loss, kind="stable")[:_MOST]
    elif wrong.any():
        chosen["Most certain mistakes"] = ascending[wrong[ascending]][:_MOST]
    span = _span(what, rows[np.unique(np.concatenate(list(chosen.values())))])

    def card(place: int) -> Card:
        content = _content(what, rows[place], span, maps(place) if maps else ())
        return Card(f"Example {rows[place]}", lines=list(lines(place)), **content)

    return [Cards(title, [card(int(place)) for place in places]) for title, places in chosen.items()]


def colored(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A map of labels, `[H, W]`, in colors, `[H, W, 3]`; gray where there is no label."""
    colors = np.array([matplotlib.colors.to_rgb(color) for color in plots.PALETTE])
    return np.where(known[..., None], colors[np.where(known, labels, 0) % len(colors)], 0.5)


def _isolated(name: str) -> str:
    """A name whose direction of writing does not go on behind it, where it would reverse numbers."""
    if name.isascii():
        return name
    return (
        "\u2068" + "".join(letter for letter in name if letter not in "\u2066\u2067\u2068\u2069") + "\u2069"
    )


def _content(
    what: Shown, row: int, span: tuple[float, float], maps: Sequence[np.ndarray]
) -> dict[str, PyTree]:
    """The fields of a card that show an example."""
    if not what.how:
        return {}
    value = np.asarray(what.values[row])
    value = value.astype(np.float32) if value.dtype.kind == "V" else value  # such as bfloat16
    if what.how == "text":
        return {"text": str(value)}
    if what.how == "row":
        cells: dict[str, Cell] = {
            name: f"{number:.4g}" for name, number in zip(what.columns, np.ravel(value).tolist(), strict=True)
        }
        more = len(cells) - _COLUMNS
        if more > 0:
            cells = dict(list(cells.items())[:_COLUMNS]) | {"and more": f"{more} columns"}
        return {"row": cells}
    image = _scaled(value, span)
    alt = f"Example {row}"
    if maps:
        image = _beside([image, *maps])
        alt += ": input, target, prediction and entropy, from left to right"
    return {"image": image, "alt": alt}


def _span(what: Shown, rows: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value of the images that are shown; 0 and 1 if all lie between."""
    if what.how != "image" or np.dtype(what.values.dtype) == np.uint8:
        return 0.0, 1.0
    values = np.concatenate([np.ravel(np.asarray(what.values[row], np.float64)) for row in rows])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _scaled(image: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """An image in [0, 1], or of uint8."""
    if image.dtype == np.uint8:
        return image
    low, high = span
    return np.nan_to_num(np.clip((image.astype(np.float64) - low) / max(high - low, 1e-300), 0, 1))


def _beside(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images side by side in color, with a gap."""

    def in_color(image: np.ndarray) -> np.ndarray:
        image = image / 255 if image.dtype == np.uint8 else image
        image = image if image.ndim == 3 else image[..., None]
        return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]

    colors = [in_color(image) for image in images]
    height = max(image.shape[0] for image in colors)
    gap = np.full((height, max(height // 16, 1), 3), 0.5)
    parts: list[np.ndarray] = []
    for image in colors:
        padded = np.full((height, *image.shape[1:]), 0.5)
        padded[: image.shape[0]] = image
        parts += [padded, gap]
    return np.concatenate(parts[:-1], axis=1)
