"""Results: tables, figures, JSON files and where they come from; each file is written whole or not at all."""

import contextlib
import datetime
import importlib.metadata
import io
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import rich.box
import rich.table
from etils import epath
from matplotlib.figure import Figure

from experiments import cli
from experiments.means import Mean

# Length of headings that stay on one line.
_HEADING = 10
_NUMBER = re.compile(r"[-+±.,\d]+")
_ROOT = Path(__file__).resolve().parents[1]


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
            if number:  # the column is not wrapped, so its heading is, to about the length of a number
                longest = max([_HEADING, *(len(row[i]) for row in self.body)])
                name = "\n".join(textwrap.wrap(name, longest, break_long_words=False))
            justify = "right" if number else "left"
            table.add_column(name, justify=justify, no_wrap=number, min_width=least)
        for row in self.body:
            table.add_row(*row)
        cli.console.print(table)


def publish(
    folder: epath.Path,
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


def versions(others: tuple[str, ...] = ()) -> dict[str, str]:
    """Versions of Python, jaxdrop and the packages, of `others` if installed."""
    found = {"python": platform.python_version()}
    for name in ("jaxdrop", "jax", "jaxlib", "flax", "optax", "numpy", *others):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine() -> dict[str, Any]:
    """CPU, its cores and memory, and the devices and hosts that JAX uses."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    return {
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {platform.machine()}",
        "memory_gib": memory and round(memory / 2**30, 1),
        "device": device().device_kind,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
    }


def commit() -> dict[str, Any]:
    """Commit of the checkout, and whether its files were changed; None without Git or outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    found: dict[str, Any] = {"commit": None, "changed": None}
    # The checkout of another project may surround the files.
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        if Path(git("rev-parse", "--show-toplevel")).resolve() == _ROOT:
            changed = bool(git("status", "--porcelain", "--untracked-files=no"))
            found = {"commit": git("rev-parse", "HEAD"), "changed": changed}
    return found


def environment(others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Date, command line, commit, machine, and versions of the packages, of `others` if installed."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        **commit(),
        **machine(),
        **versions(others),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Writes a file, whole or not at all; in a bucket as one object."""
    path = epath.Path(path)
    if cli.in_bucket(path):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: epath.Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: epath.Path, content: Any) -> None:
    """Writes JSON, whole or not at all.

    Arrays become lists, non-finite numbers null; a `Mean` under `name` becomes `name` and `name_error`.
    """
    text = json.dumps(_split_means(content), default=lambda array: np.asarray(array).tolist())
    plain = json.loads(text, parse_constant=lambda _: None)
    write_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def write_figure(path: epath.Path, figure: Figure) -> None:
    """Writes a PNG, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_bytes(path, content.getvalue())


def _split_means(content: Any) -> Any:
    if isinstance(content, Mapping):
        found = {}
        for key, value in content.items():
            own = {key: value.value, f"{key}_error": value.error} if isinstance(value, Mean) else None
            found |= own or {key: _split_means(value)}
        return found
    return [_split_means(item) for item in content] if type(content) is list else content
