"""The analysis of one label per example: scores, temperature, conformal sets and pictures."""

import numpy as np
from matplotlib.axes import Axes

from jaxdrop import plots, uncertainty
from jaxdrop._report import findings
from jaxdrop._report.blocks import Picture
from jaxdrop._report.findings import Analysis, Coverage
from jaxdrop._report.kinds import Kind, Labels
from jaxdrop._types import Key
from jaxdrop.uncertainty import Report, ReportRow


def losses(logs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The negative log likelihood of each label of logits `[..., K]`, in nats."""
    wide = logs.astype(np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    at_labels = np.take_along_axis(wide, targets[..., None], -1)[..., 0]
    return np.log(np.exp(wide).sum(-1)) - at_labels


def analyze(
    kind: Kind,
    held: Labels,
    held_targets: np.ndarray,
    scored: Labels,
    targets: np.ndarray,
    *,
    level: float,
    bins: int,
    key: Key,
) -> Analysis:
    """Scores before and after a temperature, conformal sets, and pictures; fits use the held-out part."""
    before_key, after_key, *set_keys = findings.keys(key, 4)
    before = _scores(kind, scored, scored.logs, targets, bins, before_key)
    made = findings.calibrated(
        len(held_targets),
        level,
        lambda: _temperature(held, held_targets, scored),
        lambda: _sets(held, held_targets, scored, targets, level, set_keys),
    )
    logs = made.fitted
    after = None if logs is None else _scores(kind, scored, logs, targets, bins, after_key)
    hits = np.asarray(scored.probs.argmax(-1) == targets, np.float32)
    doubts = {"total_entropy": scored.total, "mutual_information": scored.information}
    pictures = [
        ("calibration", _reliability(scored, logs, targets, bins)),
        ("uncertainty", _risk(1 - hits, doubts)),
        *([("sets", _sizes(held, held_targets, scored, targets, level))] if made.coverages else []),
    ]
    return Analysis(
        before,
        after,
        made.words,
        made.coverages,
        doubts,
        scored.total_error,
        losses(scored.logs, targets),
        "negative log likelihood",
        pictures,
        made.factor,
    )


def probabilities(logs: np.ndarray) -> np.ndarray:
    """Probabilities of logits, `[..., K]`, in float32, which sum to 1."""
    wide = logs.astype(np.float64)
    probs = np.exp(wide - wide.max(-1, keepdims=True))
    return (probs / probs.sum(-1, keepdims=True)).astype(np.float32)


def _temperature(
    held: Labels, held_targets: np.ndarray, scored: Labels
) -> tuple[str, np.ndarray | None, dict[str, float]]:
    """What was fitted, the scaled logs of the scored part, and the temperature."""
    at_labels = np.take_along_axis(held.logs, held_targets[:, None], -1)
    if not np.isfinite(at_labels).all():
        return "No temperature was fitted: a held-out label has a predicted probability of 0.", None, {}
    if (held.logs.argmax(-1) == held_targets).all():
        return findings.all_right(len(held_targets)), None, {}
    temperature = float(uncertainty.fit_temperature(held.logs, held_targets).temperature)
    words = f"A temperature of {temperature:.3g} was fitted to {len(held_targets)} held-out examples."
    return words, scored.logs / temperature, {"temperature": temperature}


def _scores(kind: Kind, found: Labels, logs: np.ndarray, targets: np.ndarray, bins: int, key: Key) -> Report:
    """The scores of logarithms of probabilities, and of the mutual information of the samples."""
    probs = probabilities(logs)
    given = probs[:, 1] if kind.single else probs
    scores = uncertainty.report(given, targets, bins=bins, key=key)
    nll = losses(logs, targets)  # a probability of 1e-45 and less is 0 in float32
    hits = np.asarray(probs.argmax(-1) == targets, np.float32)
    rows = [ReportRow("nll", *findings.mean(nll), "lower", "nats")]
    if logs is found.logs:
        rows += doubt_rows(found.information, hits)
    return findings.with_rows(scores, rows)


def doubt_rows(information: np.ndarray, hits: np.ndarray) -> list[ReportRow]:
    """How well the mutual information tells wrong predictions from right ones, and its mean."""
    area = uncertainty.aurc_with_error(information, 1 - hits)
    wrong = hits < 1
    found = (np.nan, np.nan)
    if wrong.any() and not wrong.all():
        found = uncertainty.auroc_with_error(information, information, where_in=~wrong, where_out=wrong)
    name = "mutual_information"
    return [
        ReportRow(f"aurc_{name}", float(area[0]), float(area[1]), "lower", ""),
        ReportRow(f"error_auroc_{name}", float(found[0]), float(found[1]), "higher", ""),
        ReportRow(name, *findings.mean(information), "", "nats"),
    ]


def _sets(
    held: Labels,
    held_targets: np.ndarray,
    scored: Labels,
    targets: np.ndarray,
    level: float,
    keys: list[Key],
) -> list[Coverage]:
    lac = uncertainty.fit_lac(held.probs, held_targets, level=level)
    aps = uncertainty.fit_aps(held.probs, held_targets, level=level, key=keys[0])
    sets = {"LAC, smallest sets": lac(scored.probs), "APS, adaptive sets": aps(scored.probs, key=keys[1])}
    guarantee = f"A set contains the label of a new example with a probability of at least {level:g}."
    found = {name: uncertainty.set_coverage(of, targets) for name, of in sets.items()}
    return [
        Coverage(
            name,
            level,
            (float(one.coverage), float(one.coverage_error)),
            (float(one.size), float(one.size_error)),
            guarantee,
        )
        for name, one in found.items()
    ]


def _reliability(scored: Labels, logs: np.ndarray | None, targets: np.ndarray, bins: int) -> Picture:
    def draw(ax: Axes) -> None:
        plots.reliability_diagram(probabilities(scored.logs), targets, bins=bins, label="as predicted", ax=ax)
        if logs is not None:
            plots.reliability_diagram(
                probabilities(logs), targets, bins=bins, label="with temperature", ax=ax
            )

    text = "Accuracy against confidence, in bins of confidence; a calibrated model lies on the diagonal."
    return findings.drawn("Reliability", text, draw)


def _risk(errors: np.ndarray, doubts: dict[str, np.ndarray]) -> Picture:
    def draw(ax: Axes) -> None:
        for name, doubt in doubts.items():
            plots.risk_coverage_curve(errors, doubt, label=findings.words(name), ax=ax)

    text = "Share of wrong predictions among the examples kept, if the most uncertain ones are left out."
    return findings.drawn("Selective prediction", text, draw)


def _sizes(
    held: Labels, held_targets: np.ndarray, scored: Labels, targets: np.ndarray, level: float
) -> Picture:
    sets = np.asarray(uncertainty.fit_lac(held.probs, held_targets, level=level)(scored.probs))

    def draw(ax: Axes) -> None:
        plots.set_sizes(sets, labels=targets, ax=ax)

    text = f"How many classes the conformal sets (LAC, level {level:g}) of the scored examples hold."
    return findings.drawn("Sizes of conformal sets", text, draw)
