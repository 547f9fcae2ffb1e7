"""The command that reports: one page of scores, pictures and examples of a predictor on a data set."""

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import rich.progress
import typer

from jaxdrop._commands import app, inputs, restored
from jaxdrop._commands.app import BadInputError
from jaxdrop._types import PyTree

try:
    from jaxdrop._report import reporting
except ImportError as error:
    raise ImportError('The report needs more packages; run `pip install "jaxdrop[report]"`.') from error


def report(
    data: Annotated[
        Path,
        typer.Option(
            help="Inputs, .npz, .npy or .csv; several arrays of a .npz become a dictionary.", metavar="FILE"
        ),
    ],
    targets: Annotated[Path, typer.Option(help="Labels (integers) or numbers, one array.", metavar="FILE")],
    predict: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="A predictor, called with a key and inputs; or a function without arguments that makes one.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Instead of --predict: a function without arguments that returns a Linen or NNX module.",
        ),
    ] = None,
    variables: Annotated[
        Path | None,
        typer.Option(help="Variables of --model: .safetensors, or a folder of orbax.", metavar="PATH"),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Argument of the model's call, such as train=true; repeatable."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/report"),
    outputs: Annotated[
        str | None,
        typer.Option(
            help="logits, probabilities, mean, mean_variance or mean_stddev; told from shapes if possible."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the key.")] = 0,
    samples_max: Annotated[int, typer.Option(help="Samples for each example, at most.")] = 1024,
    holdout: Annotated[float, typer.Option(help="Share of the data to fit on; it is not scored.")] = 0.3,
    level: Annotated[float, typer.Option(help="Coverage of conformal sets and intervals.")] = 0.9,
    batch_size: Annotated[int, typer.Option(help="Examples per batch.")] = 128,
    ignore: Annotated[int | None, typer.Option(help="Label of parts that do not count.")] = None,
    show: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Array of the data file to show instead of the inputs; it is no input."
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(help="Text file with the names of the classes, a line each.", metavar="FILE"),
    ] = None,
    columns: Annotated[
        Path | None,
        typer.Option(help="Text file with the names of the columns, a line each.", metavar="FILE"),
    ] = None,
    unit: Annotated[str, typer.Option(help="Unit of a regression's targets.")] = "",
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
) -> None:
    """Scores a predictor on a data set and writes report.html, which opens offline, and report.json.

    A command that was stopped continues where it was. Fits use a held-out part, which is not scored.
    """
    if not 0 <= seed < 2**63:
        raise BadInputError(f"`seed` must be at least 0 and below 2**63, got {seed}.")
    app.check_folder(out)
    table, y = inputs.read(data, "data"), inputs.one(inputs.read(targets, "targets"), "targets")
    shown, arrays = None, dict(table.arrays)
    if show is not None:
        if show not in arrays or len(arrays) < 2:
            raise BadInputError(
                f"`show` must name one of several arrays of `data`, {', '.join(arrays)}, got {show!r}."
            )
        shown = arrays.pop(show)
    x = inputs.tree(arrays)
    class_names = inputs.lines(names, "names")
    column_names = table.columns if columns is None else inputs.lines(columns, "columns")
    with rich.progress.Progress(console=app.console) as bar:
        task = bar.add_task("examples", total=None)
        try:
            function = _predictor(predict, model, variables, argument or [], x)
            found = reporting.report(
                function,
                x,
                y,
                key=jax.random.key(seed),
                out=out,
                outputs=outputs,
                holdout=holdout,
                level=level,
                max_samples=samples_max,
                batch_size=batch_size,
                ignore=ignore,
                show=shown,
                names=class_names,
                columns=column_names if shown is None else None,
                unit=unit,
                title=title or f"Report of {predict or model}",
                command=shlex.join(["python", "-m", "jaxdrop", *sys.argv[1:]]),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except (FloatingPointError, TypeError, ValueError) as error:
            if isinstance(error, BadInputError) or not app.is_refusal(error):
                raise
            raise BadInputError(" ".join(str(error).split())) from None
    last = found.after or found.before
    app.console.print(str(last), highlight=False, soft_wrap=True)
    app.console.print(found.reason, highlight=False, soft_wrap=True)
    app.console.print(f"Written to {found.path}", highlight=False, soft_wrap=True)


def parse_arguments(texts: Sequence[str]) -> dict[str, bool | int | float | str]:
    """Arguments by name, from `NAME=VALUE`: true and false, numbers, and other words."""
    found: dict[str, bool | int | float | str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier() or name in found:
            raise BadInputError(f"`argument` must be NAME=VALUE of a new name, got {text!r}.")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        found[name] = parsed if isinstance(parsed, bool | int | float) else value
    return found


def _predictor(
    predict: str | None, model: str | None, variables: Path | None, arguments: Sequence[str], x: PyTree
) -> Callable[..., PyTree]:
    """The predictor that the options name."""
    given = parse_arguments(arguments)
    if (predict is None) == (model is None):
        raise BadInputError("`predict` or `model` must be given, and not both.")
    if predict is not None:
        if variables is not None or given:
            raise BadInputError("`variables` and `argument` must be given with `model`, not with `predict`.")
        function = app.load(predict, "predict")
        return function() if _takes_nothing(function) else function
    assert model is not None
    if variables is None:
        raise BadInputError("`variables` must be given with `model`, got none.")
    made = app.load(model, "model")
    if not _takes_nothing(made):
        raise BadInputError(f"`model` must name a function without arguments, got {model}.")
    first = jax.tree.map(lambda leaf: np.asarray(leaf[:1]), x)
    return restored.predictor(made(), variables, first, given)


def _takes_nothing(function: Callable[..., PyTree]) -> bool:
    """Whether a function can be called without arguments."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):  # of some functions in C no signature is known
        return False
    return True
