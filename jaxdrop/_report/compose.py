"""The page of a report: what was found, in sections."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from jaxdrop import plots
from jaxdrop._report import findings
from jaxdrop._report.blocks import Block, Cards, Cell, Code, Page, Picture, Section, Table, Text
from jaxdrop._report.findings import Analysis
from jaxdrop._report.kinds import Kind
from jaxdrop._report.sampling import SHARE, Trial
from jaxdrop._types import PyTree
from jaxdrop.uncertainty import Report, ReportRow

_ABOUT = {
    "accuracy": "accuracy",
    "nll": "negative log likelihood",
    "brier": "Brier score",
    "ece": "expected calibration error",
    "classwise_ece": "mean calibration error of classes",
    "mean_iou": "mean intersection over union",
    "auroc": "area under the ROC curve",
    "aupr": "area under the precision-recall curve",
    "rmse": "root mean squared error",
    "crps": "continuous ranked probability score",
    "coverage": "share of targets in their intervals",
    "interval_score": "Winkler score of the intervals",
    "sharpness": "root mean variance",
    "ence": "expected normalized calibration error",
    "aleatoric_stddev": "standard deviation of the noise",
    "epistemic_stddev": "standard deviation of the samples",
    "total_entropy": "entropy of the mean",
    "entropy": "entropy of the mean",
    "mutual_information": "mutual information",
}
_PREFIXES = {
    "aurc_": "risk-coverage area by ",
    "error_auroc_": "AUROC of mistakes by ",
}


class About(NamedTuple):
    """What the page says about the run.

    Attributes:
      title: The title.
      kind: What is predicted.
      counts: The numbers of examples in all, held out and scored.
      own_calibration: Whether the examples for the fits were given, and not held out.
      level: The level of sets and intervals.
      sites: Stochastic sites, or None if they are not known.
      facts: Versions, device, key and the like.
      times: Date and durations.
      command: The command, or "".
    """

    title: str
    kind: Kind
    counts: tuple[int, int, int]
    own_calibration: bool
    level: float
    sites: Sequence[PyTree] | None
    facts: Mapping[str, str]
    times: Mapping[str, str]
    command: str


def with_error(value: float, error: float) -> str:
    """A value and its standard error, to two digits of the error."""
    if math.isfinite(value) and math.isfinite(error) and error > 0:
        places = 1 - math.floor(math.log10(error))
        if 0 <= places <= 6:
            return f"{value:.{places}f} ± {error:.{places}f}"
        return f"{value:.4g} ± {error:.2g}"
    return f"{value:.4g}" if math.isfinite(value) else "not known" if math.isnan(value) else str(value)


def name_of(analysis: Analysis) -> str:
    """The main uncertainty in words."""
    return findings.words(next(iter(analysis.doubts)))


def page(about: About, analysis: Analysis, trial: Trial, cards: Sequence[Cards]) -> Page:
    """The page."""
    sections = [
        Section("Scores", _scores(about, analysis)),
        Section("Calibration", _calibration(analysis)),
        Section("Conformal prediction", _coverages(about, analysis)),
        Section("Uncertainty", _uncertainty(about, analysis)),
        Section("Number of samples", _samples(trial)),
        Section("Examples", [Text(_cards_text(about, analysis)), *cards]),
        Section("Sources of randomness", _sites(about.sites)),
        Section("Versions and command", _provenance(about)),
    ]
    return Page(about.title, _summary(about, analysis, trial), sections)


def _summary(about: About, analysis: Analysis, trial: Trial) -> list[str]:
    total, held, scored = about.counts
    held_words = f"{held} other examples were given to fit on" if about.own_calibration else (
        f"{held} were held out to fit on" if held else "none were held out to fit on")  # fmt: skip
    last = analysis.after or analysis.before
    assert last is not None
    names = ("accuracy", "mean_iou", "rmse", "nll", "ece", "coverage")
    rows = {row.name: row for row in last.rows}
    found = "; ".join(
        f"{_ABOUT[name]} {with_error(rows[name].value, rows[name].standard_error)}"
        for name in names
        if name in rows
    )
    return [
        f"Predictions: {about.kind}. {trial.num_samples} Monte-Carlo samples for each example.",
        f"Of {total} examples {scored} are scored; {held_words}.",
        f"Scored part{', calibrated' if analysis.after else ''}: {found}.",
    ]


def _scores(about: About, analysis: Analysis) -> list[Block]:
    reports = {"as predicted": analysis.before, "calibrated": analysis.after}
    given = {name: report for name, report in reports.items() if report is not None}
    by_name = {name: {row.name: row for row in report.rows} for name, report in given.items()}
    names = list(dict.fromkeys(name for rows in by_name.values() for name in rows))
    body: list[list[Cell]] = []
    keys: list[list[Cell]] = []
    for name in names:
        found = [rows.get(name) for rows in by_name.values()]
        one = next(row for row in found if row is not None)
        ends = [one.unit, one.better]
        body.append([_meaning(name), *map(_cell, found), *ends])
        keys.append([_meaning(name), *(math.nan if row is None else row.value for row in found), *ends])
    head = ["score", *given, "unit", "better"]
    over = "examples, as the parts of one are not independent" if about.kind.parts else "examples"
    text = (
        f"Means over the scored examples with the standard error over data sets of {about.counts[2]} such "
        f"{over}. Losses and entropies are in nats."
    )
    return [Text(text), Table("Scores", head, body, keys)]


def _meaning(name: str) -> str:
    for prefix, words in _PREFIXES.items():
        if name.startswith(prefix):
            return words + name.removeprefix(prefix).replace("_", " ")
    return _ABOUT.get(name, name.replace("_", " "))


def _cell(row: ReportRow | None) -> str:
    return "" if row is None else with_error(row.value, row.standard_error)


def _calibration(analysis: Analysis) -> list[Block]:
    return [*map(Text, analysis.fitted), *_chosen(analysis, "calibration")]


def _chosen(analysis: Analysis, topic: str) -> list[Picture]:
    return [picture for of, picture in analysis.pictures if of == topic]


def _coverages(about: About, analysis: Analysis) -> list[Block]:
    if not analysis.coverages:
        return [Text("There are none: too few examples are held out.", "note")]
    size = "mean size of a set" if about.kind.classes else "mean width"
    body = [
        [one.method, f"{one.asked:g}", with_error(*one.coverage), with_error(*one.size)]
        for one in analysis.coverages
    ]
    keys = [[one.method, one.asked, one.coverage[0], one.size[0]] for one in analysis.coverages]
    head = ["method", "asked coverage", "coverage found", size]
    texts = [
        *dict.fromkeys(one.guarantee for one in analysis.coverages),
        "The guarantee is an average over fits and new examples that are exchangeable with those held out. "
        "It needs a model that was not trained on these. Errors are those of new examples for this one fit.",
    ]
    table = Table("Coverage on the scored part", head, body, keys)
    return [*map(Text, texts), table, *_chosen(analysis, "sets")]


def _uncertainty(about: About, analysis: Analysis) -> list[Block]:
    texts = []
    if math.isfinite(analysis.noise_share):
        share = f"{100 * analysis.noise_share:.3g} %"
        if about.kind.parts:
            share = f"at most {min(100 * analysis.noise_share, 100):.3g} %"
        texts.append(
            f"Monte-Carlo noise makes {share} of the variance of the {name_of(analysis)} between examples; "
            "the rest is how examples differ."
        )
    return [*map(Text, texts), *_chosen(analysis, "uncertainty")]


def _cards_text(about: About, analysis: Analysis) -> str:
    text = f"Scored examples by their {name_of(analysis)}, which has its Monte-Carlo standard error."
    if about.kind.parts:
        text = (
            f"Scored examples by the mean {name_of(analysis)} of their parts, with the mean Monte-Carlo "
            "standard error of the parts; that of their mean is smaller unless the parts err together."
        )
    if len(about.kind.parts) == 2:
        text += " Images show from left to right the input, the target, the prediction and the entropy."
    return text


def _samples(trial: Trial) -> list[Block]:
    rows: list[list[Cell]] = [
        ["samples for each example", str(trial.num_samples)],
        [f"standard error of the {trial.score} over data sets of this size", f"{trial.data_error:.3g}"],
        [f"Monte-Carlo error of the {trial.score} with so many samples", f"{trial.monte_carlo_error:.3g}"],
        ["its excess over that with infinitely many", f"{trial.bias:.3g}"],
    ]
    text = (
        f"{trial.reason} The rule: the least number at which the squared Monte-Carlo error and excess of the "
        f"{trial.score} are at most {100 * SHARE:g} % of its variance between data sets of this size. "
        f"Both were measured on {trial.examples} examples in independent draws."
    )
    return [Text(text), Table("Monte-Carlo error", ["quantity", "value"], rows), _convergence(trial)]


def _convergence(trial: Trial) -> Picture:
    def draw(ax: Axes) -> None:
        known = np.isfinite(trial.error)
        style = {"color": plots.PALETTE[0], "marker": "o", "markersize": 4, "capsize": 2}
        ax.errorbar(
            trial.samples[known],
            trial.value[known],
            trial.error[known],
            label="one draw, ± its spread",
            **style,
        )
        ax.plot(trial.samples[~known], trial.value[~known], "o", color=plots.PALETTE[0], fillstyle="none")
        ax.axvline(trial.num_samples, color=plots.PALETTE[1], linestyle="--", label="chosen")
        ax.set(xscale="log", xlabel="samples for each example", ylabel=trial.score)
        ax.set_xticks(trial.samples, [str(number) for number in trial.samples])
        ax.minorticks_off()
        ax.legend()

    text = (
        f"The {trial.score} of {trial.examples} examples with few and many samples: the mean over "
        "independent draws, and the standard deviation of one draw."
    )
    picture = findings.drawn("Convergence", text, draw)
    rows: list[list[Cell]] = [
        [int(number), f"{value:.4g}", "" if math.isnan(error) else f"{error:.2g}"]
        for number, value, error in zip(trial.samples, trial.value, trial.error, strict=True)
    ]
    values = Table(
        f"The {trial.score} by number of samples", ["samples", trial.score, "spread of a draw"], rows
    )
    return Picture(picture.title, picture.figure, picture.text, values)


def _sites(sites: Sequence[PyTree] | None) -> list[Block]:
    if sites is None:
        return [
            Text(
                "The outputs depend on the key, but where it draws is not known: `predict` is a function. "
                "Predictors of `jaxdrop.linen.stochastic` and `jaxdrop.nnx.stochastic` list their sites.",
                "note",
            )
        ]
    rows = [[site.path or "the model itself", site.kind, site.stream, site.rate] for site in sites]
    return [Table("Modules that draw", ["path", "module", "stream", "rate"], rows)]


def _provenance(about: About) -> list[Block]:
    rows = [[name, value] for name, value in (*about.facts.items(), *about.times.items())]
    command = [Text("The command:"), Code(about.command)] if about.command else []
    return [Table("How this report was made", ["what", "value"], rows), *command]


def as_dict(about: About, analysis: Analysis, trial: Trial) -> dict[str, PyTree]:
    """The numbers of the page."""

    def of(report: Report | None) -> dict[str, PyTree] | None:
        return None if report is None else report.to_dict()

    total, held, scored = about.counts
    return {
        "title": about.title,
        "predictions": str(about.kind),
        "examples": {"all": total, "held_out": held, "scored": scored},
        "as_predicted": of(analysis.before),
        "calibrated": of(analysis.after),
        "fitted": {**analysis.factor},
        "conformal": [
            {
                "method": one.method,
                "asked": one.asked,
                "coverage": one.coverage[0],
                "coverage_error": one.coverage[1],
                "size": one.size[0],
                "size_error": one.size[1],
            }
            for one in analysis.coverages
        ],
        "samples": {
            **{name: getattr(trial, name) for name in ("score", "examples", "num_samples", "reason")},
            **{name: getattr(trial, name) for name in ("bias", "monte_carlo_error", "data_error")},
            "tried": trial.samples.tolist(),
            "value": trial.value.tolist(),
            "error": trial.error.tolist(),
        },
        f"noise_share_of_uncertainty{'_at_most' if about.kind.parts else ''}": analysis.noise_share,
        "sites": None if about.sites is None else [site._asdict() for site in about.sites],
        **{"facts": dict(about.facts), "times": dict(about.times), "command": about.command},
    }
