"""How results are told: statistics, tables, plots, and files that are whole or not there."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
import rich.box
import rich.table
from matplotlib.figure import Figure

from experiments import cli

mpl.use("agg")
mpl.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "savefig.dpi": 150,
        "figure.constrained_layout.use": True,
    }
)


_NUMBER = re.compile(r"[-+±.,\d]+")


def mean_and_error(values: np.ndarray, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """The mean and its standard error, over independent runs; the error of one run is NaN."""
    values = np.asarray(values, np.float64)
    n = values.shape[axis]
    if n < 2:
        mean = values.mean(axis)
        return mean, np.full_like(mean, np.nan)
    return values.mean(axis), values.std(axis, ddof=1) / np.sqrt(n)


def percent(mean: float, error: float, digits: int = 2) -> str:
    """A share as `12.34±0.56`, in percent."""
    return f"{100 * mean:.{digits}f}±{100 * error:.{digits}f}"


def print_table(title: str, header: list[str], rows: list[list[str]], caption: str = "") -> None:
    """Prints a table that fits 80 columns: figures to the right and whole, words wrapped."""
    table = rich.table.Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        padding=0,
    )
    for i, name in enumerate(header):
        number = all(_NUMBER.fullmatch(row[i]) for row in rows)
        words = [word for row in (header, *rows) for word in row[i].split(" ") if not number]
        least = max(map(len, words), default=None)
        table.add_column(name, justify="right" if number else "left", no_wrap=number, min_width=least)
    for row in rows:
        table.add_row(*row)
    cli.console.print(table)


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """The same table for a README."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)) + "\n"


def device() -> Any:
    """The device that arrays are made on, unless said otherwise."""
    (found,) = jax.numpy.zeros(()).devices()
    return found


def environment(others: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a reader needs to judge a figure: versions, machine, date; of others, if installed."""
    packages = ["jax", "jaxlib", "flax", "optax", "numpy"]
    for name in others:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            packages.append(name)
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "device": device().device_kind,
        **{name: importlib.metadata.version(name) for name in packages},
    }


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end, or is gone if anything fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file that is either whole or not there."""
    with whole(path) as partial:
        partial.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all; arrays become lists, what is not finite null."""
    text = json.dumps(content, default=lambda array: np.asarray(array).tolist())
    plain = json.loads(text, parse_constant=lambda _: None)
    write_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a PNG that is either whole or not there."""
    with whole(path) as partial:
        figure.savefig(partial)
