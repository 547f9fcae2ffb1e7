"""One contest of the benchmark: its figures and its table."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments import report, timing
from experiments.benchmark import attention, peers, scaling, scores, scores_suite


def measure(contest: timing.Contest, rounds: int, seconds: float) -> dict[str, Any]:
    """Runs one contest: median, quartiles and ratios of each contender and form."""
    programs, rounds = contest.build(), min(rounds, contest.rounds or rounds)
    times = timing.interleave(programs, rounds, seconds, title=contest.title)
    rows: dict[str, dict[str, Any]] = {}
    for (name, form), mine in times.items():
        program, median = programs[name, form], float(np.median(mine))
        row = rows.setdefault(name, {"name": name, "forms": {}})
        if program.kept_bytes is not None:
            row["kept_bytes"] = program.kept_bytes
        cell = {
            "median_ms": median,
            "quartiles_ms": np.percentile(mine, (25, 75)).tolist(),
            "times_floor": median / float(np.median(times[contest.floor, form])),
            "compile_s": program.compile_seconds,
            "moved_bytes": program.moved_bytes,
            "temporary_bytes": program.temporary_bytes,
        }
        if (peers.FLAX, form) in times:
            cell["speed_of_flax"] = float(np.median(times[peers.FLAX, form])) / median
        row["forms"][form] = cell
    return {"title": contest.title, "floor": contest.floor, "rounds": rounds, "rows": list(rows.values())}


def table(result: dict[str, Any]) -> report.Table:
    """Table of one contest."""
    if result["title"] in scores.GROUPS:
        return scores_suite.table(result)
    if result["title"] in scaling.GROUPS:
        return scaling.table(result)
    if "memory" in result:
        return attention.table(result)
    rows = result["rows"]
    columns = [["", *(row["name"] for row in rows)]]

    def add(heading: str, spec: str, values: Iterable[float | None]) -> None:
        columns.append([heading, *("-" if value is None else format(value, spec) for value in values)])

    for form in rows[0]["forms"]:
        cells = [row["forms"][form] for row in rows]
        seconds = form == "compile"
        medians = [cell["median_ms"] / (1e3 if seconds else 1) for cell in cells]
        columns.append([f"{form} {'s' if seconds else 'ms'}", *map(three_digits, medians)])
        add("±%", ".0f", [50 * np.ptp(cell["quartiles_ms"]) / cell["median_ms"] for cell in cells])
        add(f"/{result['floor']}", ".2f", [cell["times_floor"] for cell in cells])
        speeds = [cell.get("speed_of_flax") for cell in cells]
        if any(speeds):
            add("x Flax", ".2f", speeds)
        if form == "step":
            add("MB moved", ".0f", [cell["moved_bytes"] and cell["moved_bytes"] / 1e6 for cell in cells])
        temporary = [cell.get("temporary_bytes") for cell in cells]
        if result["title"].startswith("attention") and any(temporary):
            add("MB", ".0f", [None if count is None else count / 1e6 for count in temporary])
        if form == "steps":
            totals = [total_seconds(row) for row in rows]
            columns.append(["compile s", *(three_digits(cell["compile_s"]) for cell in cells)])
            columns.append(["total s", *map(three_digits, totals)])
            add(f"total /{result['floor']}", ".2f", [total / totals[0] for total in totals])
    kept = [row.get("kept_bytes") for row in rows]
    if any(count is not None for count in kept):
        add("kept bytes", ",", kept)
    header, *body = map(list, zip(*columns, strict=True))
    return report.Table(result["title"], header, body)


def total_seconds(row: dict[str, Any]) -> float:
    """Seconds to compile once and run once."""
    cell = row["forms"]["steps"]
    return cell["compile_s"] + cell["median_ms"] / 1e3


def three_digits(value: float) -> str:
    """Number with three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
