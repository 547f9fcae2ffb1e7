"""Benchmark of the functions of `jaxdrop.uncertainty`: time by the number of examples, and peers.

The calls are in `scores.py`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import cli, plots, report
from experiments.benchmark import scores
from experiments.benchmark.peers import Setting
from experiments.timing import Contest, Program, Programs

SORT = "NumPy's sort"
QUICK_SIZES = (200,)


def contests(setting: Setting) -> Iterator[Contest]:
    """Contests, one per group of functions; the floor is a sort of as many numbers by NumPy."""
    sizes = QUICK_SIZES if setting.quick else scores.SIZES
    missing: set[str] = set()
    for title, rows in scores.GROUPS.items():
        yield Contest(title, SORT, partial(_programs, rows, sizes, missing), rounds=3)
    for name in sorted(missing):
        cli.say(f"{name} is not installed and is left out.")


def _programs(rows: dict[str, scores.Row], sizes: tuple[int, ...], missing: set[str]) -> Programs:
    programs: Programs = {}
    for size in sizes:
        data = scores.Data(size)
        form = f"{size:,}"
        programs[SORT, form] = Program(partial(np.sort, data.host["x"]))
        for name, row in rows.items():
            if size > row.most:
                continue
            programs[name, form] = Program(partial(row.ours, data))
            if row.theirs is None:
                continue
            try:
                row.theirs(data)
            except ImportError:
                missing.add(str(row.peer))
            else:
                programs[f"{name}, {row.peer}", form] = Program(partial(row.theirs, data))
    return programs


def figures(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of each function the milliseconds by size, the growth of the last step, and the time over a peer's."""
    cells = {row["name"]: row["forms"] for row in result["rows"]}
    rows = scores.GROUPS[result["title"]]
    for name, row in rows.items():
        times = {form: cell["median_ms"] for form, cell in cells[name].items()}
        theirs = cells.get(f"{name}, {row.peer}", {})
        last = [int(form.replace(",", "")) for form in times][-2:]
        growth = None
        if len(last) == 2:
            before, after = (times[f"{size:,}"] for size in last)
            growth = float(np.log(after / before) / np.log(last[1] / last[0]))
        over = None
        if theirs:
            form = list(theirs)[-1]
            over = times[form] / theirs[form]["median_ms"]
        yield {
            "name": name,
            "times": times,
            "growth": growth,
            "peer": row.peer if theirs else None,
            "over": over,
        }


def table(result: dict[str, Any]) -> report.Table:
    """Table of one group."""
    sizes = list(result["rows"][0]["forms"])
    header = ["", *(f"{size} rows, ms" for size in sizes), "growth", "peer", "time / peer"]
    body = []
    for row in figures(result):
        times = [f"{row['times'][size]:.3g}" if size in row["times"] else "-" for size in sizes]
        told = ("-" if row[name] is None else f"{row[name]:.2f}" for name in ("growth", "over"))
        growth, over = told
        body.append([row["name"], *times, growth, row["peer"] or "-", over])
    return report.Table(result["title"], header, body)


def plot(results: list[dict[str, Any]]) -> Figure:
    """Plot of each function's milliseconds at its largest size, and of its peer's."""
    rows = [row for result in results for row in figures(result)]
    largest = [list(row["times"].values())[-1] for row in rows]
    figure, panel = plt.subplots(figsize=(9, 1.5 + 0.2 * len(rows)))
    panel.plot(largest, range(len(rows)), "o", color=plots.BLUE, label="jaxdrop", ms=5)
    peers = [
        (time / row["over"], i)
        for i, (time, row) in enumerate(zip(largest, rows, strict=True))
        if row["over"]
    ]
    if peers:
        panel.plot(*zip(*peers, strict=True), "D", color=plots.VERMILION, label="peer", ms=5)
    panel.set_xscale("log")
    panel.set_yticks(
        range(len(rows)), [f"{row['name']}, {list(row['times'])[-1]}" for row in rows], fontsize=7
    )
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlabel("milliseconds for the number of rows named")
    panel.grid(axis="x", alpha=0.3)
    plots.add_legend(figure)
    return figure
