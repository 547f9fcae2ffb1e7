"""A report of a predictor on a data set."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from jaxdrop import _checks, _predictions, mc
from jaxdrop._report import (
    checks,
    compose,
    examples,
    files,
    kinds,
    labels,
    numbers,
    parts,
    provenance,
    sampling,
)
from jaxdrop._report.findings import Analysis, Coverage
from jaxdrop._report.kinds import Found, Kind, Numbers
from jaxdrop._report.page import render
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.mc._stores import check_writable
from jaxdrop.uncertainty import Report


@dataclass(frozen=True)
class Reported:
    """The numbers of a report.

    Attributes:
      before: The scores of the predictions; None for a model that predicts a mean alone.
      after: The scores after the fit on the held-out part; None without a fit.
      fitted: What was fitted, by name: "temperature", "stddev_scale" or "noise_stddev".
      coverages: How conformal sets or intervals do, each a `Coverage`: `method`, `asked`, `coverage` and
        `size` with their standard errors, `guarantee`.
      num_samples: The number of samples for each example.
      reason: Why it is this number.
      held_out: The numbers of the examples that were fitted to, ascending; with `calibration` those of it.
      scored: The numbers of the examples that were scored, ascending.
      estimate: The estimates of all examples, of `mc.Categorical`, `mc.Bernoulli` or `mc.Moments`.
      path: The page, or None.
    """

    before: Report | None
    after: Report | None
    fitted: dict[str, float]
    coverages: tuple[Coverage, ...]
    num_samples: int
    reason: str
    held_out: np.ndarray
    scored: np.ndarray
    estimate: mc.Estimate
    path: Path | None


def report(
    predict: Callable[[Key, PyTree], PyTree],
    data: PyTree,
    targets: ArrayLike,
    *,
    key: Key,
    out: str | os.PathLike[str] | None = None,
    outputs: str | None = None,
    calibration: tuple[PyTree, ArrayLike] | None = None,
    holdout: float | None = None,
    level: float = 0.9,
    max_samples: int = 1024,
    batch_size: int = 128,
    bins: int = 15,
    ignore: int | None = None,
    show: ArrayLike | Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    unit: str = "",
    title: str | None = None,
    command: str = "",
    progress: Callable[[int, int | None], object] | None = None,
) -> Reported:
    """Scores a predictor on a data set, and writes a page that opens offline.

    The page has every score with its standard error, before and after calibration; how uncertainty finds
    errors; conformal sets or intervals; the most and the least certain examples; the number of samples that
    was enough and why; the sites that draw; versions and key. Fits use a held-out part, which is not scored.
    With `out` the estimates stay in files, and a call that was stopped continues where it was. Needs the
    extra `report`.

    The targets tell what is predicted. Integers `[N]` are labels. Integers `[N, ...]` are labels of the parts
    of an example, such as pixels or tokens: examples are independent and their parts are not, so all standard
    errors are over examples. Floating-point numbers `[N]` are a regression, and so are integers if `outputs`
    is that of one, such as "mean".

    Args:
      predict: `predict(key, x) -> outputs`, such as one of `linen.stochastic` or `nnx.stochastic`: logits or
        probabilities `[B, ..., K]`; one for binary labels `[B, ...]`; or a mean `[B]`, or a pair of a mean
        and a variance or standard deviation, for numbers.
      data: Inputs, an array `[N, ...]` or a tree of arrays; may be `numpy.memmap`.
      targets: Labels in [0, K), or numbers.
      key: A PRNG key. It decides all samples, and which examples are held out.
      out: Folder for report.html, report.json and the estimates. None: nothing is written.
      outputs: What the outputs are: "logits" or "probabilities", "mean", "mean_variance" or "mean_stddev".
        None: as the shapes tell, and for two classes or more whether the values of a sample are
        probabilities; an error if these do not tell.
      calibration: Inputs and targets to fit on, if these are not taken from the data.
      holdout: The share of the data to fit on, in [0, 1). None: 0.3, or 0 with `calibration`.
      level: The coverage of conformal sets and of intervals, in (0, 1).
      max_samples: The maximum number of samples for each example, at least 32.
      batch_size: The number of examples per batch.
      bins: The number of bins of calibration errors.
      ignore: The label of parts that do not count, such as 255; None: all count.
      show: What to show of the examples instead of the inputs: images `[N, H, W]` or `[N, H, W, C]`, texts
        `[N]`, or rows `[N, D]`.
      names: Names of the classes.
      columns: Names of the columns of rows.
      unit: The unit of a regression's targets.
      title: The title of the page.
      command: The command that made the report, to be shown.
      progress: Called after each batch with the number of examples done, and their number.

    Returns:
      A `Reported`: `before` and `after`, each an `uncertainty.Report`, and what else is on the page.

    Raises:
      FloatingPointError: If an output is NaN. With `out`, the estimates of other batches stay there, for a
        call with the data mended.
      TypeError: If an argument is of another type, or data or targets hold no numbers.
      ValueError: If sizes or shapes do not match, a label is out of range, it cannot be told what the outputs
        are, the outputs do not depend on the key, or those of an example depend on the others of its batch,
        an argument is out of range, `predict` rejects the data, or `out` holds estimates of another call.

    References:
      Guo et al., "On calibration of modern neural networks", 2017; Angelopoulos and Bates, "A gentle
      introduction to conformal prediction and distribution-free uncertainty quantification", 2021.

    Examples:
      >>> import jax.numpy as jnp
      >>> import jaxdrop
      >>> x = jax.random.normal(jax.random.key(0), (60, 4))
      >>> labels = jnp.argmax(x, -1)
      >>> found = jaxdrop.report(lambda key, x: jaxdrop.dropout(key, 3 * x, 0.2), x, labels,
      ...     key=jax.random.key(1), max_samples=32)
      >>> found.num_samples, len(found.held_out), found.before["accuracy"].value > 0.8
      (32, 18, True)
    """
    began = time.perf_counter()
    split_key, trial_key, draw_key, fit_key, held_key = jax.random.split(_checks.check_key(key), 5)
    _predictions.check_level(_checks.check_number(level, "level"))
    _checks.check_count(max_samples, "max_samples", sampling.LEAST)
    checks.check_texts(unit=unit, title=title, command=command)
    total = kinds.count(data)
    y = kinds.check_targets(targets, total, outputs)
    own = None if calibration is None else checks.check_pair(calibration, data, y, outputs)
    held, scored = checks.split(split_key, total, holdout, own)
    first = checks.rows(data, slice(0, _checks.check_count(batch_size, "batch_size")))
    kind = checks.check_predict(predict, trial_key, first, y, outputs, ignore)
    numbers.check_held(kind, len(held))
    held_data, held_y = (data, y) if own is None else own
    kinds.check_labels(kind, held_y, "calibration[1]")
    what = examples.shown(data, show, columns, total)
    class_names = examples.check_names(names, kind.classes) if kind.classes else []
    folder = None if out is None else Path(out)
    if folder is not None:
        check_writable(folder, "out")

    some = sampling.tried(held if own is None else held[:0], scored, batch_size)
    trial = _try_out(predict, trial_key, checks.rows(data, some), y[some], kind, len(scored), max_samples)
    options = {"num_samples": trial.num_samples, "reducers": kind.reducer, "batch_size": batch_size}
    estimate = _estimate(folder, "samples", predict, draw_key, data, **options, progress=progress)
    held_estimate = estimate
    if own is not None:
        held_estimate = _estimate(folder, "samples-calibration", predict, held_key, held_data, **options)
    sampled = time.perf_counter()
    analysis = _analysis(
        kind, estimate, y, scored, held_estimate, held_y, held, level=level, bins=bins, key=fit_key, unit=unit
    )
    groups = _cards(kind, estimate, y, scored, analysis, what, class_names, unit)
    about = compose.About(
        title or "Report of a predictor",
        kind,
        (total, len(held), len(scored)),
        own is not None,
        level,
        getattr(predict, "sites", None),
        provenance.facts(key, batch_size),
        provenance.times(began, sampled),
        command,
    )
    path = None if folder is None else _write(folder, about, analysis, trial, groups)
    return Reported(
        analysis.before,
        analysis.after,
        dict(analysis.factor),
        tuple(analysis.coverages),
        trial.num_samples,
        trial.reason,
        held,
        scored,
        estimate,
        path,
    )


def _try_out(
    predict: Callable[[Key, PyTree], PyTree],
    key: Key,
    x: PyTree,
    y: np.ndarray,
    kind: Kind,
    scored: int,
    max_samples: int,
) -> sampling.Trial:
    """The number of samples, chosen on a few examples."""
    score = "negative log likelihood" if kind.classes else numbers.score_name(kind)
    try:
        return sampling.try_out(
            predict,
            key,
            x,
            kind,
            lambda found: _losses(kind, found, y),
            score=score,
            scored=scored,
            max_samples=max_samples,
        )
    except FloatingPointError as error:
        told = f"among the {len(y)} examples, spread over the data, that are tried first"
        raise FloatingPointError(f"{error} This is {told}.") from error


def _estimate(folder: Path | None, name: str, *args: PyTree, **options: PyTree) -> mc.Estimate:
    """`mc.estimate_dataset` with results in a folder of this name."""
    try:
        return mc.estimate_dataset(*args, **options, folder=None if folder is None else folder / name)
    except ValueError as error:
        if not str(error).startswith("`folder`"):
            raise
        # The name that the caller gave.
        raise ValueError(str(error).replace("`folder`", "`out`", 1)) from error


def _write(
    folder: Path, about: compose.About, analysis: Analysis, trial: sampling.Trial, groups: PyTree
) -> Path:
    """Writes the numbers and the page, whose path it returns."""
    page = render(compose.page(about, analysis, trial, groups))
    files.write(folder / "report.json", files.as_json(compose.as_dict(about, analysis, trial)))
    files.write(folder / "report.html", page.encode())
    return folder / "report.html"


def _losses(kind: Kind, found: Found, y: np.ndarray) -> np.ndarray:
    if isinstance(found, Numbers):
        return numbers.losses(kind, found, y)
    return parts.losses(found, y, kind.ignore) if kind.parts else labels.losses(found.logs, y)


def _analysis(
    kind: Kind, estimate: mc.Estimate, y: np.ndarray, scored: np.ndarray,
    held_estimate: mc.Estimate, held_y: np.ndarray, held: np.ndarray,
    *, level: float, bins: int, key: Key, unit: str,
) -> Analysis:  # fmt: skip
    options = {"level": level, "bins": bins, "key": key}
    if kind.parts:
        own = {"held_estimate": held_estimate, "held_targets": held_y}
        return parts.analyze(kind, estimate, y, held, scored, **own, **options)
    if kind.classes:
        read = partial(kinds.read_labels, kind)
        of_held, of_scored = read(held_estimate, held), read(estimate, scored)
        return labels.analyze(kind, of_held, held_y[held], of_scored, y[scored], **options)
    read = partial(kinds.read_numbers, kind)
    of_held, of_scored = read(held_estimate, held), read(estimate, scored)
    return numbers.analyze(kind, of_held, held_y[held], of_scored, y[scored], unit=unit, **options)


def _cards(
    kind: Kind, estimate: mc.Estimate, y: np.ndarray, scored: np.ndarray, analysis: Analysis,
    what: examples.Shown, names: Sequence[str], unit: str,
) -> list[PyTree]:  # fmt: skip
    """The groups of examples."""
    first = compose.name_of(analysis)
    last = unit if kind.classes == 0 else "nats per part" if kind.parts else "nats"

    def doubt_line(place: int) -> str:
        told = compose.with_error(float(analysis.doubt[place]), float(analysis.doubt_error[place]))
        return f"{first.capitalize()}: {told} {last}".rstrip()

    def lines(place: int) -> list[str]:
        found = kinds.read(kind, estimate, scored[[place]])
        target = y[scored[place]]
        if isinstance(found, Numbers):
            return [f"Predicted: {found.mean[0]:.4g}", f"Target: {target:.4g}", doubt_line(place)]
        if kind.parts:
            return [f"Negative log likelihood: {analysis.loss[place]:.3g} nats per part", doubt_line(place)]
        probs = found.probs[0]
        best = int(probs.argmax())
        predicted = f"Predicted: {names[best]}, probability {probs[best]:.3f}"
        return [predicted, f"Target: {names[int(target)]}", doubt_line(place)]

    def maps(place: int) -> list[np.ndarray]:
        found = kinds.read_labels(kind, estimate, scored[[place]])
        target = y[scored[place]]
        known = np.ones(target.shape, bool) if kind.ignore is None else target != kind.ignore
        likeliest = found.logs[0].argmax(-1)
        both = [examples.colored(of, mask) for of, mask in ((target, known), (likeliest, known | ~known))]
        return [*both, found.total[0] / np.log(kind.classes)]

    wrong = None
    if kind.classes and not kind.parts:
        found = kinds.read_labels(kind, estimate, scored)
        wrong = found.logs.argmax(-1) != y[scored]
    with_maps = maps if len(kind.parts) == 2 and what.how == "image" else None
    return examples.groups(
        what, scored, analysis.doubt, analysis.loss, wrong=wrong, lines=lines, maps=with_maps
    )
