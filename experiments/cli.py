"""Command line: shared options, checks of options, error messages and progress bars."""

import inspect
import io
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import fsspec
import jax
import rich.console
import rich.progress
import typer
import typer.completion
from etils import epath

# Text is printed as it is: a path may look like markup, or like an emoji.
console = rich.console.Console(markup=False, emoji=False)
# The file systems of `epath`, which has no others.
SCHEMES = ("gs", "s3", "az", "hf")
# The shell asks a command for completions by this variable; see completion.bash.
COMPLETE = "_EXPERIMENTS_COMPLETE"
_HOSTS = "JAX_COORDINATOR_ADDRESS"
# Typer's errors of usage, with the message in one line; its name depends on Typer's version.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class BadInputError(ValueError):
    """Invalid input; the message names the expectation and the value."""


def folder(text: str | os.PathLike[str]) -> epath.Path:
    """Path of a file or folder on this machine or in a bucket.

    Raises:
      BadInputError: If the file system is unknown, or its package is not installed.
    """
    scheme, found, _ = os.fspath(text).partition("://")
    if found and scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise BadInputError(f"a path must be local or start with one of {known}, got {text}.")
    if found:
        try:
            fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            raise BadInputError(f"{scheme}:// needs its package: {error}.") from None
    return epath.Path(text)


def in_bucket(path: epath.Path) -> bool:
    """Whether a path is in a bucket, where a write is whole, and to rename is to copy."""
    return "://" in str(path)


def data_dir(needs: str, quick: str = "--quick needs none.") -> Any:
    """Option of the folder of the data sets; `needs` and `quick` say which sets an experiment reads."""
    text = f"Folder with {needs}; defaults to $JAXDROP_DATA. {quick}".strip()
    return typer.Option("--data-dir", parser=folder, metavar="DIR", help=text)


def start_devices(devices: int | None) -> int | None:
    """Joins the other hosts, or makes devices of the CPU, before JAX starts; returns the option.

    Several hosts run one command, each with JAX_COORDINATOR_ADDRESS, and JAX_NUM_PROCESSES and JAX_PROCESS_ID
    unless a cluster such as Slurm tells JAX both. The first host prints and writes.
    """
    if os.environ.get(_HOSTS):
        names = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        given = [os.environ.get(name) or None for name in names]
        try:
            count, index = (None if value is None else int(value) for value in given)
            jax.distributed.initialize(num_processes=count, process_id=index)
        except (RuntimeError, ValueError, IndexError) as error:  # an address without a port is an IndexError
            raise BadInputError(
                f"${_HOSTS}, ${names[0]} and ${names[1]} must join the hosts before JAX starts its devices, "
                f"got {os.environ[_HOSTS]}, {given[0]} and {given[1]}: {' '.join(str(error).split())}"
            ) from None
        console.quiet = jax.process_index() > 0
    elif devices is not None and devices > 1:
        try:
            jax.config.update("jax_num_cpu_devices", devices)
        except RuntimeError as error:
            raise BadInputError(
                f"`devices` must be set before JAX starts its devices, got: {error}"
            ) from None
    return devices


def check_scale(scale: float) -> float:
    """Checks a share of a paper's widths, and returns it."""
    if not 0 < scale <= 1:
        raise BadInputError(f"`scale` must lie in (0, 1], got {scale:g}.")
    return scale


RESULTS = epath.Path("results")
Out = Annotated[
    epath.Path,
    typer.Option(
        parser=folder,
        metavar="DIR",
        help="Folder to write to, also in a bucket (gs://, s3://); each experiment makes its own in it.",
    ),
]
Data = Annotated[
    epath.Path | None,
    typer.Option(
        "--data",
        parser=folder,
        metavar="FILE",
        help="Your own data: an NPZ file with arrays x and y, and x_test and y_test if there is a test part.",
    ),
]
LogDir = Annotated[
    epath.Path | None,
    typer.Option(
        parser=folder,
        metavar="DIR",
        help="Folder for live curves of the training, for TensorBoard; needs the extra `logs`.",
    ),
]
# JAX takes the lowest 32 bits of a seed, so that 2**32 would repeat 0; NumPy takes all.
Seed = Annotated[int, typer.Option(min=0, max=10**9, help="First seed; the others follow it.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds; at least 2 for standard errors.")]
Scale = Annotated[float, typer.Option(callback=check_scale, help="Share of the paper's widths, at most 1.")]
Quick = Annotated[bool, typer.Option("--quick", help="Smoke test: a small version in seconds.")]
Devices = Annotated[
    int | None,
    typer.Option(
        callback=start_devices,
        min=1,
        help="Devices to divide the runs over; a CPU is made into so many. Default: all GPUs, or one CPU.",
    ),
]


def run(main: Callable[..., Any]) -> None:
    """Runs a command; invalid input ends with a one-line message and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    typer.completion.completion_init()  # pyright: ignore[reportPrivateImportUsage]
    # A name that the terminal cannot show must not end a run.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        alone = "devices" not in inspect.signature(main).parameters and "--help" not in sys.argv
        if os.environ.get(_HOSTS) and alone:
            raise BadInputError(f"${_HOSTS} must not be set, because this experiment runs on one host.")
        code = app(complete_var=COMPLETE, standalone_mode=False)
    except typer.Abort:  # a key interrupt, in some versions of Typer
        code = 130
    except _UsageError as error:
        code = _fail(_sentence(error, sys.argv[1:]))
    except (BadInputError, OSError) as error:
        code = _fail(str(error))
    if isinstance(code, int):
        sys.exit(code)


def _fail(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2


def _sentence(error: Any, arguments: list[str]) -> str:
    """Message of an error of usage, in one line with the value."""
    text = " ".join(error.format_message().split()).removesuffix(".").replace("Value error, ", "")
    given = [
        value
        for name in getattr(getattr(error, "param", None), "opts", [])
        for word, following in zip(arguments, [*arguments[1:], ""], strict=True)
        for value in ([following] if word == name else [word.removeprefix(f"{name}=")])
        if word == name or word.startswith(f"{name}=")
    ]
    missing = given and given[-1] not in text.partition(": ")[2]
    return f"{text}, got {given[-1]}." if missing else f"{text}."


def say(text: str) -> None:
    """Prints text as it is, on one line."""
    console.print(text, highlight=False, soft_wrap=True)


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
