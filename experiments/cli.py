"""Command line: shared options, checks of options, error messages and progress bars."""

import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import rich.console
import rich.progress
import typer

# Text is printed as it is: a path may look like markup, or like an emoji.
console = rich.console.Console(markup=False, emoji=False)

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the data sets; defaults to $JAXDROP_DATA. The digits need none."),
]
Out = Annotated[Path, typer.Option(help="Folder to write to; each experiment makes its own in it.")]
Seed = Annotated[int, typer.Option(help="First seed; the others follow it.")]
Seeds = Annotated[int, typer.Option(help="Number of seeds; at least 2 for standard errors.")]
Quick = Annotated[bool, typer.Option("--quick", help="Smoke test: a small version in seconds.")]


class BadInputError(ValueError):
    """Invalid input; the message names the expectation and the value."""


def start_devices(devices: int | None) -> int | None:
    """Joins the other hosts, or makes devices of the CPU, before JAX starts; returns the option.

    Several hosts run one command, each with JAX_COORDINATOR_ADDRESS, and JAX_NUM_PROCESSES and JAX_PROCESS_ID
    unless a cluster such as Slurm tells JAX both. The first host prints and writes.
    """
    if devices is not None:
        check_count("devices", devices)
    try:
        if "JAX_COORDINATOR_ADDRESS" in os.environ:
            given = [os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")]
            count, index = (None if value is None else int(value) for value in given)
            jax.distributed.initialize(num_processes=count, process_id=index)
            console.quiet = jax.process_index() > 0
        elif devices is not None and devices > 1:
            jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError as error:
        raise BadInputError(f"`devices` must be set before JAX starts its devices, got: {error}") from None
    return devices


Devices = Annotated[
    int | None,
    typer.Option(
        callback=start_devices,
        help="Devices to divide the runs over; a CPU is made into so many. Default: all GPUs, or one CPU.",
    ),
]


def run(main: Callable[..., Any]) -> None:
    """Runs a command; invalid input ends with a one-line message and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    # A name that the terminal cannot show must not end a run.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except (BadInputError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def say(text: str) -> None:
    """Prints text as it is, on one line."""
    console.print(text, highlight=False, soft_wrap=True)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Checks that a value is one of `choices`, and returns it."""
    if value not in choices:
        raise BadInputError(f"`{name}` must be one of {', '.join(choices)}, got {value}.")
    return value


def check_name(name: str, value: str) -> str:
    """Checks that a value can name a folder, and returns it; a path is not a name."""
    if not re.fullmatch(r"\w[\w.-]*", value):
        raise BadInputError(
            f"`{name}` must be a name of letters, digits, `_`, `-` and `.`, not a path, got {value!r}."
        )
    return value


def check_count(name: str, value: int, least: int = 1) -> int:
    """Checks that a count is at least `least`, and returns it."""
    if value < least:
        raise BadInputError(f"`{name}` must be at least {least}, got {value}.")
    return value


def check_seeds(seed: int, seeds: int) -> None:
    """Checks the first seed and the number of seeds."""
    check_count("seed", seed, 0)
    check_count("seeds", seeds)


def check_scale(scale: float) -> None:
    """Checks a share of a paper's widths."""
    if not 0 < scale <= 1:
        raise BadInputError(f"`scale` must lie in (0, 1], got {scale:g}.")


def progress(title: str, total: int, done: int = 0) -> tuple[rich.progress.Progress, rich.progress.TaskID]:
    """Progress bar with the remaining time."""
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
    )
    return bar, bar.add_task(title, total=total, completed=done)
