"""Results: tables, figures and JSON files, each written whole or not at all."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import rich.box
import rich.table
from matplotlib.figure import Figure

from experiments import cli
from experiments.means import Mean

_NUMBER = re.compile(r"[-+±.,\d]+")


class Table(NamedTuple):
    """Table of text: a title, a header, rows of cells, and a caption."""

    title: str
    header: list[str]
    body: list[list[str]]
    caption: str = ""

    def markdown(self) -> str:
        """Markdown without title and caption; all columns but the first to the right."""
        rule = ["---"] + ["---:"] * (len(self.header) - 1)
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.header, rule, *self.body)) + "\n"

    def print(self) -> None:
        """Prints the table in 80 columns: numbers to the right and unbroken, words wrapped."""
        table = rich.table.Table(
            title=self.title,
            caption=self.caption,
            title_justify="left",
            caption_justify="left",
            box=rich.box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
            padding=0,
        )
        for i, name in enumerate(self.header):
            number = all(_NUMBER.fullmatch(row[i]) for row in self.body)
            words = [word for row in (self.header, *self.body) for word in row[i].split(" ") if not number]
            least = max(map(len, words), default=None)
            if number:  # a column that is not wrapped has its heading in lines as long as its numbers
                longest = max(len(row[i]) for row in self.body)
                name = "\n".join(textwrap.wrap(name, max(longest, 1), break_long_words=False))
            justify = "right" if number else "left"
            table.add_column(name, justify=justify, no_wrap=number, min_width=least)
        for row in self.body:
            table.add_row(*row)
        cli.console.print(table)


def publish(
    folder: Path,
    tables: Sequence[Table],
    figures: Mapping[str, Figure],
    metrics: Mapping[str, Any],
    *,
    started: float,
    note: str = "",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Prints the tables and writes every result, each file whole or not at all, metrics.json last.

    Args:
      folder: The folder to write to.
      tables: The tables, printed and written to table.md, with their titles if there are several.
      figures: The plots, written to NAME.png.
      metrics: The content of metrics.json, which two runs of one command share to the byte.
      started: `time.monotonic()` at the start.
      note: Text printed after the tables.
      about: What else run.json holds, beside the seconds and the environment.
    """
    if jax.process_index() > 0:  # the first host writes
        return
    for table in tables:
        table.print()
    if note:
        cli.console.print(note, highlight=False)
    for name, figure in figures.items():
        write_figure(folder / f"{name}.png", figure)
        plt.close(figure)
    write_text(folder / "table.md", markdown(tables))
    seconds = time.monotonic() - started
    run = {"seconds": seconds, "environment": environment(), **(about or {})}
    write_json(folder / "run.json", run)
    write_json(folder / "metrics.json", metrics)
    cli.say(f"{seconds:.0f} s. Written to {folder}/")


def markdown(tables: Sequence[Table]) -> str:
    """Tables in Markdown, with their titles if there are several."""
    if len(tables) == 1:
        return tables[0].markdown()
    return "\n".join(f"{table.title}:\n\n{table.markdown()}" for table in tables)


def device() -> Any:
    """Default device of new arrays."""
    (found,) = jax.numpy.zeros(()).devices()
    return found


def environment(others: tuple[str, ...] = ()) -> dict[str, str]:
    """Date, machine and versions of the packages, of `others` if installed."""
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
    """Yields a temporary path, renamed to `path` at the end or removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all.

    Arrays become lists, non-finite numbers null; a `Mean` under `name` becomes `name` and `name_error`.
    """
    text = json.dumps(_split_means(content), default=lambda array: np.asarray(array).tolist())
    plain = json.loads(text, parse_constant=lambda _: None)
    write_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a PNG, whole or not at all."""
    with whole(path) as partial:
        figure.savefig(partial)


def _split_means(content: Any) -> Any:
    if isinstance(content, Mapping):
        found = {}
        for key, value in content.items():
            own = {key: value.value, f"{key}_error": value.error} if isinstance(value, Mean) else None
            found |= own or {key: _split_means(value)}
        return found
    return [_split_means(item) for item in content] if type(content) is list else content
