"""The command that chooses a setting of a user's problem: a table, a plot and files."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import rich.box
import rich.progress
import rich.table
import typer
from matplotlib.figure import Figure

from jaxdrop import plots, training
from jaxdrop._commands import app
from jaxdrop._commands.app import BadInputError
from jaxdrop._report import files
from jaxdrop._types import PyTree

_NEEDED = ("step", "states", "train", "valid", "score_fn")
_ALLOWED = (*_NEEDED, "batch_fn")


def tune(
    problem: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="Function from a grid (names and arrays, one value per run) to arguments of "
            f"jaxdrop.training.tune by name: {', '.join(_NEEDED)}, and batch_fn if there is one.",
        ),
    ],
    grid: Annotated[
        list[str], typer.Option(metavar="NAME=VALUE,...", help="Values of a hyper-parameter; repeatable.")
    ],
    steps: Annotated[int, typer.Option(help="Training steps of a run that is not stopped.")],
    seeds: Annotated[int, typer.Option(help="Runs of each setting; at least 2 for standard errors.")] = 3,
    seed: Annotated[int, typer.Option(help="First seed; the others follow it.")] = 0,
    rungs: Annotated[
        int, typer.Option(help="Rungs of successive halving; 1 trains every run to the end.")
    ] = 1,
    factor: Annotated[
        float, typer.Option(help="From rung to rung so many times fewer settings and more steps.")
    ] = 2,
    simpler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="One-standard-error rule: prefer larger values of this name; repeatable, the most "
            "important first.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/tune"),
) -> None:
    """Trains a grid in one program and chooses a setting by validation scores.

    Prints the table and writes table.csv, table.json and tuning_curve.png.
    """
    axes = parse_grid(grid)
    lengths = rung_steps(steps, rungs, factor)
    if seeds < 1 or seed < 0:
        raise BadInputError(f"`seeds` must be at least 1 and `seed` at least 0, got {seeds} and {seed}.")
    app.check_folder(out)
    hyper = training.grid(seed=np.arange(seed, seed + seeds), **axes)
    arguments = _arguments(app.load(problem), problem, hyper)
    with rich.progress.Progress(console=app.console) as bar:
        task = bar.add_task(f"{hyper['seed'].size} runs, steps", total=steps)
        try:
            tuned = training.tune(
                **arguments,
                steps=lengths,
                factor=factor,
                simpler=simpler or (),
                progress=lambda done: bar.update(task, completed=done),
            )
        except (TypeError, ValueError) as error:
            if not app.is_refusal(error):
                raise
            raise BadInputError(str(error)) from None
    rows = table(tuned)
    show(rows, f"{problem}: validation score over {seeds} seeds")
    files = {
        "tuning_curve.png": _picture(tuned),
        "table.csv": _as_csv(rows),
        "table.json": _as_json(rows, _scores(tuned, arguments["states"].hyper), problem=problem),
    }
    for name, content in files.items():
        app.write(out / name, content)
    app.console.print(f"Written to {out}/", highlight=False, soft_wrap=True)


def parse_grid(texts: Sequence[str]) -> dict[str, list[float]]:
    """Values by name, from `NAME=VALUE,...`."""
    axes: dict[str, list[float]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not name.isidentifier() or name == "seed" or name in axes:
            raise BadInputError(f"`grid` must be NAME=VALUE,... of a new name other than seed, got {text!r}.")
        try:
            axes[name] = [float(value) for value in values.split(",")]
        except ValueError:
            raise BadInputError(f"`grid` must be NAME=VALUE,... of numbers, got {text!r}.") from None
        with np.errstate(over="ignore"):
            held = np.asarray(training.grid(value=axes[name])["value"])  # in JAX's precision
        if len(set(held.tolist())) < len(held) or not np.isfinite(held).all():
            raise BadInputError(f"`grid` must hold finite {held.dtype} numbers, each once, got {text!r}.")
    return axes


def rung_steps(steps: int, rungs: int, factor: float) -> list[int]:
    """Steps of each rung: a setting that is left has taken `factor` times as many as a rung before."""
    if rungs < 1 or not factor > 1:
        raise BadInputError(f"`rungs` must be at least 1 and `factor` above 1, got {rungs} and {factor:g}.")
    taken = [0, *(round(steps / factor**left) for left in reversed(range(rungs)))]
    lengths = np.diff(taken).tolist()
    if min(lengths) < 1:
        raise BadInputError(f"`steps` must be at least 1 in each of {rungs} rungs, got {steps} in all.")
    return lengths


def table(tuned: training.Tuned) -> list[dict[str, PyTree]]:
    """One row per setting, in the order of the grid."""
    choice = tuned.choice
    columns = {name: [_short(value) for value in column.tolist()] for name, column in choice.settings.items()}
    rows = []
    for i, mean in enumerate(choice.mean.tolist()):
        setting = {name: column[i] for name, column in columns.items()}
        found = {
            "mean": mean,
            "standard_error": choice.standard_error[i].item(),
            "steps": tuned.steps[i].item(),
            "rung": tuned.rung[i].item(),
            "chosen": all(choice.settings[name][i] == value for name, value in choice.setting.items()),
        }
        rows.append(setting | found)
    return rows


def show(rows: Sequence[Mapping[str, PyTree]], title: str) -> None:
    """Prints the table; a star marks the chosen setting."""
    printed = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    for name in rows[0]:
        printed.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
        cells[-1] = "*" if row["chosen"] else ""
        printed.add_row(*cells)
    app.console.print(printed)


def _arguments(function: object, problem: str, hyper: Mapping[str, jax.Array]) -> Mapping[str, PyTree]:
    """The arguments of `training.tune` that the user's function makes."""
    assert callable(function)
    arguments = function(hyper)
    if not isinstance(arguments, Mapping):
        raise BadInputError(
            f"{problem} must return a dictionary of {', '.join(_NEEDED)}, got {type(arguments).__name__}."
        )
    missing = [name for name in _NEEDED if name not in arguments]
    unknown = [str(name) for name in arguments if name not in _ALLOWED]
    if missing or unknown:
        parts = {"without": missing, "with the unknown": unknown}
        words = " and ".join(f"{word} {', '.join(names)}" for word, names in parts.items() if names)
        raise BadInputError(
            f"{problem} must return a dictionary of {', '.join(_NEEDED)}, and batch_fn if there is one, got "
            f"one {words}."
        )
    return arguments


def _short(value: float) -> float:
    """A value as it was written: 0.3, not the nearest float32 to it."""
    narrow = np.float32(value)
    return float(str(narrow)) if narrow == value else value


def _picture(tuned: training.Tuned) -> bytes:
    figure, buffer = Figure(layout="constrained", dpi=150), io.BytesIO()
    plots.tuning_curve(tuned, ax=figure.add_subplot())
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _as_csv(rows: Sequence[Mapping[str, PyTree]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _scores(tuned: training.Tuned, hyper: Mapping[str, jax.Array]) -> list[list[float]]:
    """Scores of the runs of each setting."""
    settings = tuned.choice.settings
    runs = [
        np.all([hyper[name] == column[i] for name, column in settings.items()], axis=0)
        for i in range(len(tuned.steps))
    ]
    return [tuned.scores[own].tolist() for own in runs]


def _as_json(
    rows: Sequence[Mapping[str, PyTree]], scores: Sequence[Sequence[float]], **about: PyTree
) -> bytes:
    """The table with the scores of its runs; a number that is not finite becomes null."""
    whole = [{**row, "scores": own} for row, own in zip(rows, scores, strict=True)]
    content = {**about, "chosen": next(row for row in whole if row["chosen"]), "table": whole}
    return files.as_json(content)
