"""What every experiment shares at the command line: options, checks of them, and how errors look."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import rich.console
import rich.progress
import typer

console = rich.console.Console()

DataDir = Annotated[
    Path | None,
    typer.Option(help="The folder of the real data sets; by default $JAXDROP_DATA. The digits need none."),
]
Out = Annotated[Path, typer.Option(help="The folder to write to, a folder for each experiment.")]
Seed = Annotated[int, typer.Option(help="The first seed; the others follow it.")]
Quick = Annotated[bool, typer.Option("--quick", help="A small form that shows that all works, in seconds.")]


class BadInputError(ValueError):
    """What the user gave cannot be worked with; the message says what can."""


def run(main: Callable[..., Any]) -> None:
    """Runs a command; bad input ends in one line and exit code 2, not in a traceback."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except (BadInputError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """One of some names."""
    if value not in choices:
        raise BadInputError(f"`{name}` must be one of {', '.join(choices)}, got {value}.")
    return value


def check_count(name: str, value: int, least: int = 1) -> int:
    """A number of things, of which there must be a least."""
    if value < least:
        raise BadInputError(f"`{name}` must be at least {least}, got {value}.")
    return value


def progress(title: str, total: int, done: int = 0) -> tuple[rich.progress.Progress, rich.progress.TaskID]:
    """A progress bar with the time that is left."""
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
    )
    return bar, bar.add_task(title, total=total, completed=done)
