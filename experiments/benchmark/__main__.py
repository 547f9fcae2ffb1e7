"""Cost of dropout, compared with other libraries and with no dropout.

The claim, on 2 CPU cores: `jaxdrop.dropout` of 4096 x 4096 float32 at rate 0.1 takes as long as a copy
into fresh memory, or a quarter more, and is 3.7 to 8 times as fast as Flax's and torch's, and 2.5 to 4.7
times with the backward pass; in reused memory it takes two copies, and is 25 to 40 times as fast. In
a training step of an MLP it adds at most 10 %; 100 Monte-Carlo samples take as long as without
dropout; and it keeps nothing for the backward pass but the key and, if traced, its rate.

    python -m experiments.benchmark                  # all suites, about 35 minutes
    python -m experiments.benchmark --suite ops      # or step, mc, compile, family, sweep, scores,
                                                     # attention, scaling
    python -m experiments.benchmark --suite gpu-day --data-dir DIR    # what one GPU can tell in nine minutes

`pip install -e ".[benchmark]"` installs the other libraries; missing ones are left out and named. All
contenders are timed in turn, round after round, in one process, so that noise of the machine affects
all of them: read the ratios. Results: README.md in this folder.
"""

from typing import Annotated, Any, Literal

import jax
import matplotlib.pyplot as plt
import numpy as np
import typer
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import cli, plots, report, timing
from experiments.benchmark import (
    attention,
    family,
    gpu_day,
    models,
    ops,
    peers,
    scaling,
    scores_suite,
    sweeps,
    tables,
)

SUITES = {
    "ops": ops.ops,
    "step": models.step,
    "mc": models.samples,
    "compile": ops.compiling,
    "family": family.family,
    "sweep": sweeps.sweeps,
    "scores": scores_suite.contests,
    "attention": attention.attention,
    "scaling": scaling.scaling,
}
Suite = Literal[
    "ops", "step", "mc", "compile", "family", "sweep", "scores", "attention", "scaling", "gpu-day"
]
Device = Literal["cpu", "gpu"]
# Color and marker of each contender, the same in every plot.
STYLES = {
    "jaxdrop": (plots.BLUE, "o"),
    "flax": (plots.ORANGE, "s"),
    "torch": (plots.VERMILION, "D"),
    "equinox": (plots.GREEN, "^"),
    "haiku": (plots.PURPLE, "v"),
    "keras": (plots.SKY, "P"),
    "jaxdrop, mc.estimate": (plots.BLUE, "*"),
    "flax, vmap 100": (plots.ORANGE, "d"),
    "loop of jitted calls": (plots.GRAY, "x"),
    "jaxdrop.linen": (plots.BLUE, "X"),
    "jax bernoulli": (plots.GRAY, "x"),
    "jitted vmap": (plots.ORANGE, "<"),
    "mc.sample": (plots.BLUE, "<"),
    "mc.estimate": (plots.BLUE, ">"),
    "mc.estimate, Categorical": (plots.PURPLE, ">"),
    "mc.estimate, Until": (plots.GREEN, ">"),
}
FORMS = {
    "fwd": "forward",
    "fwd+bwd": "forward and backward",
    "step": "training step",
    "sample": "samples",
    "compile": "compilation",
}
FLOORS = {"copy": "a copy", "none": "no dropout", "jitted vmap": "a jitted vmap"}


def plot(results: list[dict[str, Any]]) -> Figure:
    """Plot of the times over the floor: a line per contest, a mark per contender."""
    forms = list(results[0]["rows"][0]["forms"])
    figure, panels = plt.subplots(
        1, len(forms), figsize=(9, 1.4 + 0.55 * len(results)), sharey=True, squeeze=False
    )
    names = {row["name"] for result in results for row in result["rows"]}
    styles = {name: style for name, style in STYLES.items() if name in names}
    floors = dict.fromkeys(FLOORS[result["floor"]] for result in results)
    lanes = np.linspace(-0.25, 0.25, len(styles))
    for panel, form in zip(panels[0], forms, strict=True):
        for lane, (name, (color, marker)) in zip(lanes, styles.items(), strict=True):
            points = [
                (row["forms"][form]["times_floor"], i + lane)
                for i, result in enumerate(results)
                for row in result["rows"]
                if row["name"] == name and form in row["forms"]
            ]
            panel.plot(*zip(*points, strict=True), marker, color=color, label=name, ms=6)
        panel.axvline(1, color="black", lw=1)
        if panel.get_xlim()[1] > 3:
            _log_ticks(panel)
        panel.set_title(FORMS[form])
        panel.set_xlabel(f"time relative to {' or '.join(floors)}", fontsize=9)
        panel.set_yticks(range(len(results)), [result["title"] for result in results], fontsize=8)
        panel.set_ylim(len(results) - 0.5, -0.5)
    plots.add_legend(figure, columns=6 if len(styles) <= 6 else -(-len(styles) // 2))
    return figure


def plot_sweep(results: list[dict[str, Any]]) -> Figure:
    """Bars of the seconds to compile and to run all cells."""
    (result,) = results
    rows = result["rows"]
    figure, panel = plt.subplots(figsize=(9, 1.6 + 0.4 * len(rows)))
    compiling = [row["forms"]["steps"]["compile_s"] for row in rows]
    running = [row["forms"]["steps"]["median_ms"] / 1e3 for row in rows]
    panel.barh(range(len(rows)), compiling, color=plots.ORANGE, hatch="//", label="compilation")
    panel.barh(range(len(rows)), running, left=compiling, color=plots.BLUE, label="run")
    for i, row in enumerate(rows):
        panel.annotate(f" {tables.total_seconds(row):.3g} s", (tables.total_seconds(row), i), va="center")
    panel.set_yticks(range(len(rows)), [row["name"] for row in rows])
    panel.invert_yaxis()
    panel.set_xlabel("seconds")
    panel.set_title(result["title"])
    panel.margins(x=0.12)
    panel.grid(axis="y", visible=False)
    panel.set_axisbelow(True)
    plots.add_legend(figure)
    return figure


def plot_members(results: list[dict[str, Any]]) -> Figure:
    """Plot of each member's time over that of plain dropout with as many elements."""
    rows = [row for result in results for row in result["rows"] if row["name"] != result["floor"]]
    starts = np.cumsum([0] + [len(result["rows"]) - 1 for result in results])
    figure, panel = plt.subplots(figsize=(9, 1.5 + 0.26 * len(rows)))
    for lane, form, marker in ((-0.15, "fwd", "o"), (0.15, "fwd+bwd", "s")):
        ratios = [row["forms"][form]["times_floor"] for row in rows]
        panel.plot(ratios, np.arange(len(rows)) + lane, marker, label=FORMS[form], ms=5)
    panel.axvline(1, color="black", lw=1)
    panel.axvline(1.3, color=plots.LIGHT, ls=":", label="1.3 times")
    for start, result in zip(starts, results, strict=False):
        panel.axhline(start - 0.5, color="0.8", lw=1)
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "top"}
        panel.annotate(result["title"], (1, start - 0.4), fontsize=8, color=plots.GRAY, **place)
    _log_ticks(panel)
    panel.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlabel("time relative to plain dropout")
    plots.add_legend(figure)
    return figure


def _log_ticks(panel: Axes) -> None:
    """Logarithmic axis with plain numbers at 1, 2, 3 and 5."""
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else "")


def main(
    suite: Annotated[
        Suite | None,
        typer.Option(help="Suite to run; by default all but gpu-day, the plan of nine minutes of a GPU."),
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Device; by default that of JAX.")] = None,
    out: cli.Out = cli.RESULTS,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; the medians are over these.")] = 11,
    budget: Annotated[
        float | None, typer.Option(min=1, help="Seconds of gpu-day; by default 540, and 900 with --quick.")
    ] = None,
    data_dir: Annotated[
        epath.Path | None,
        cli.data_dir(f"uci/{gpu_day.PROTEIN}/ for gpu-day", "Without it that part is left out."),
    ] = None,
    quick: cli.Quick = False,
) -> None:
    """Time dropout and uncertainty metrics against other libraries; write OUT/benchmark.

    "/copy", "/none" and "/dropout": time over that of a copy, of no dropout, or of plain dropout. "x Flax":
    speed over that of Flax's Dropout. "±%": half the interquartile range. "MB moved": bytes that XLA
    counts as read and written.
    """
    if suite == "gpu-day":
        if device is not None:
            raise cli.BadInputError(f"`device` must be left out with gpu-day, got {device}.")
        gpu_day.run(out, budget, data_dir, quick)
        return
    for name, value in (("budget", budget), ("data_dir", data_dir)):
        if value is not None:
            raise cli.BadInputError(f"`{name}` must be left out, except with --suite gpu-day, got {value}.")
    if device is not None:
        use(device)
    setting, missing = peers.load(quick)
    for name in missing:
        cli.say(f"{name} is not installed and is left out.")
    folder = out / ("benchmark-quick" if quick else "benchmark")
    for name in SUITES if suite is None else (suite,):
        results = []
        for contest in SUITES[name](setting):
            effort = (min(rounds, 2), 0.0) if quick else (rounds, timing.SECONDS)
            results.append(contest if isinstance(contest, dict) else tables.measure(contest, *effort))
            tables.table(results[-1]).print()
            cli.console.print()
        report.write_json(
            folder / f"{name}.json",
            {"environment": report.environment(peers.PACKAGES), "missing": missing, "results": results},
        )
        text = [f"{result['title']}:\n\n{tables.table(result).markdown()}" for result in results]
        report.write_text(folder / f"{name}.md", "\n".join(text))
        own = {
            "family": plot_members,
            "sweep": plot_sweep,
            "scores": scores_suite.plot,
            "attention": attention.plot,
            "scaling": scaling.plot,
        }
        figure = own.get(name, plot)(results)
        report.write_figure(folder / f"{name}.png", figure)
        plt.close(figure)


def use(device: Device) -> None:
    """Makes a device the default one."""
    try:
        jax.config.update("jax_default_device", jax.devices(device)[0])
    except RuntimeError as error:
        raise cli.BadInputError(f"`device` must be available to JAX, got {device}: {error}") from error


if __name__ == "__main__":
    cli.run(main)
