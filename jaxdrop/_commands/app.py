"""What all commands share: the user's function, errors of one line, and files written whole or not at all."""

import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

try:
    import rich.console
    import typer
except ImportError as error:
    raise ImportError(
        'The commands of jaxdrop need typer and rich; run `pip install "jaxdrop[cli]"`.'
    ) from error

from jaxdrop._report.files import write as write
from jaxdrop._types import PyTree
from jaxdrop.mc._stores import check_writable

# Text is printed as it is: a path may look like markup, or like an emoji.
console = rich.console.Console(markup=False, emoji=False)
# Modules between the library's call and its error that are not the user's.
_OWN = {"concurrent", "contextlib", "functools", "jax", "jaxdrop"}


class BadInputError(ValueError):
    """Invalid input; the message names the expectation and the value."""


def run(*commands: Callable[..., None]) -> None:
    """Runs the command that the arguments name; invalid input ends with one line and exit code 2."""
    app = typer.Typer(
        help="Dropout and its relatives for JAX.",
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )
    app.callback()(lambda: None)  # else one command would need no name
    for command in commands:
        app.command()(command)
    # A name that the terminal cannot show must not end a run.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="jaxdrop")
    except (BadInputError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def load(name: str, option: str = "problem") -> Callable[..., PyTree]:
    """The function that MODULE:FUNCTION of an option names; modules of the working directory are found."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name or module_name.startswith("."):
        raise BadInputError(f"`{option}` must be MODULE:FUNCTION, got {name!r}.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # within the user's module
        raise BadInputError(
            f"`{option}` must name a module that can be imported, got {module_name!r}."
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise BadInputError(f"`{option}` must name a function of {module_name}, got {function_name!r}.")
    return function


def is_refusal(error: Exception) -> bool:
    """Whether the library itself raised an error, outside of the user's code."""
    frame: TracebackType | None = error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__")).split(".")[0] not in _OWN:
            return False
        frame = frame.tb_next
    return True


def check_folder(path: Path) -> Path:
    """Checks before any work that a folder can be made or written to, and returns it."""
    try:
        check_writable(path, "out")
    except ValueError as error:
        raise BadInputError(str(error)) from None
    return path
