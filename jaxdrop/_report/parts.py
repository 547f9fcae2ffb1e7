"""The analysis of labels of parts, such as pixels or tokens: examples are independent, their parts are not.

All scores are ratios of sums over examples, and their standard errors those of a bootstrap over examples. So
the sums of each example are all that is kept of its parts.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from jaxdrop import plots, uncertainty
from jaxdrop._report import findings, labels
from jaxdrop._report.blocks import Picture, Table
from jaxdrop._report.findings import Analysis, Coverage
from jaxdrop._report.kinds import Kind, Labels, read_labels
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import Estimate
from jaxdrop.uncertainty import Report, ReportRow

# Examples that are read at once.
_ROWS = 32
# Steps of an uncertainty for its AUROC, finer for small ones.
_STEPS = 200
# Held-out parts that a temperature is fitted to, at most.
_FITTED = 100_000
# Classes whose overlap is scored, at most.
_OVERLAPS = 256

Sums = dict[str, np.ndarray]


def losses(found: Labels, targets: np.ndarray, ignore: int | None) -> np.ndarray:
    """The mean negative log likelihood of the parts of each example, in nats."""
    known = np.ones(targets.shape, bool) if ignore is None else targets != ignore
    each = labels.losses(found.logs, np.where(known, targets, 0))
    return _flat(each).mean(1, where=_flat(known))


def analyze(
    kind: Kind, estimate: Estimate, targets: np.ndarray, held: np.ndarray, scored: np.ndarray,
    *, held_estimate: Estimate, held_targets: np.ndarray, level: float, bins: int, key: Key,
) -> Analysis:  # fmt: skip
    """Scores before and after a temperature, sets with a bounded share of misses, and pictures."""
    before_key, after_key, _ = findings.keys(key, 3)
    before_sums = _sums(kind, estimate, targets, scored, bins)

    def fit() -> tuple[str, float | None, dict[str, float]]:
        temperature, used = _temperature(kind, held_estimate, held_targets, held)
        if temperature is None:
            return findings.all_right(used, f"labels of {len(held)} examples"), None, {}
        told = f"{temperature:.3g} was fitted to {used} labels of {len(held)} held-out examples."
        return f"A temperature of {told}", temperature, {"temperature": temperature}

    def sets() -> list[Coverage]:
        return [_sets(kind, held_estimate, held_targets, held, estimate, targets, scored, level)]

    made, after, after_sums = findings.calibrated(len(held), level, fit, sets), None, None
    if made.fitted is not None:
        after_sums = _sums(kind, estimate, targets, scored, bins, made.fitted)
        after = _report(kind, after_sums, after_key, calibrated=True)
    number = before_sums["count"]
    errors = 1 - before_sums["hits"] / number
    doubts = {name: before_sums[name] / number for name in ("total_entropy", "mutual_information")}
    pictures = [
        ("calibration", _reliability(before_sums, after_sums, before_key)),
        ("uncertainty", _risk(errors, doubts)),
    ]
    return Analysis(
        _report(kind, before_sums, before_key),
        after,
        made.words,
        made.coverages,
        doubts,
        before_sums["total_error"] / number,
        before_sums["nll"] / number,
        "negative log likelihood per part",
        pictures,
        made.factor,
    )


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1)


def _read(
    kind: Kind, estimate: Estimate, targets: np.ndarray, rows: np.ndarray
) -> Iterator[tuple[Labels, np.ndarray, np.ndarray]]:
    """Estimates, labels and which of them count, of some examples at a time; parts along one axis."""
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        found, y = read_labels(kind, estimate, some), _flat(np.asarray(targets[some]))
        known = np.ones(y.shape, bool) if kind.ignore is None else y != kind.ignore
        flat = Labels(found.logs.reshape(*y.shape, kind.classes), *map(_flat, found[1:]))
        yield flat, np.where(known, y, 0), known


def _sums(
    kind: Kind, estimate: Estimate, targets: np.ndarray, rows: np.ndarray, bins: int, temperature: float = 1
) -> Sums:
    """Sums over the parts of each example."""
    parts = [
        _sums_of(kind, found, y, known, bins, temperature)
        for found, y, known in _read(kind, estimate, targets, rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _sums_of(
    kind: Kind, found: Labels, y: np.ndarray, known: np.ndarray, bins: int, temperature: float
) -> Sums:
    logs = found.logs if temperature == 1 else found.logs / temperature
    probs = labels.probabilities(logs).astype(np.float64)
    likeliest = probs.argmax(-1)
    hits, confidence = likeliest == y, probs.max(-1)
    at_label = np.take_along_axis(probs, y[..., None], -1)[..., 0]
    brier = (probs**2).sum(-1) - 2 * at_label + 1
    total = found.total if temperature == 1 else -(probs * np.log(np.maximum(probs, 1e-300))).sum(-1)
    values = {
        "count": np.ones(y.shape),
        "hits": hits,
        "nll": labels.losses(logs, y),
        "brier": brier,
        "total_entropy": total,
        "mutual_information": found.information,
        "total_error": found.total_error,
    }
    sums = {name: value.sum(1, where=known, dtype=np.float64) for name, value in values.items()}
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    weights = {"bin_count": np.ones(y.shape), "bin_hits": hits, "bin_confidence": confidence}
    sums |= {name: _histogram(place, known, bins, weight) for name, weight in weights.items()}
    for name, doubt in (("total_entropy", total), ("mutual_information", found.information)):
        step = _step(doubt, kind.classes)
        sums[f"right_{name}"] = _histogram(step, known & hits, _STEPS)
        sums[f"wrong_{name}"] = _histogram(step, known & ~hits, _STEPS)
    if _has_overlap(kind):
        both = _histogram(y, known & hits, kind.classes)
        either = _histogram(y, known, kind.classes) + _histogram(likeliest, known, kind.classes) - both
        sums |= {"intersection": both, "union": either}
    return sums


def _has_overlap(kind: Kind) -> bool:
    return len(kind.parts) > 1 and kind.classes <= _OVERLAPS


def _step(doubt: np.ndarray, classes: int) -> np.ndarray:
    """The step of an uncertainty in [0, log K], finer for small ones."""
    share = np.clip(doubt / np.log(classes), 0, 1) ** (1 / 4)
    return np.minimum((_STEPS * share).astype(int), _STEPS - 1)


def _histogram(
    place: np.ndarray, where: np.ndarray, size: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Sums per place of each row, `[n, size]`."""
    rows = np.broadcast_to(np.arange(len(place))[:, None], place.shape)
    index = (rows * size + place)[where]
    own = None if weights is None else np.asarray(weights, np.float64)[where]
    return np.bincount(index, own, len(place) * size).reshape(len(place), size).astype(np.float64)


def _score(sums: PyTree) -> PyTree:
    """All scores of the sums of some examples; NaN where there is nothing to compare."""
    whole = jax.tree.map(lambda leaf: jnp.sum(leaf, 0), sums)
    count = whole["count"]
    scores = {
        name: whole[of] / count
        for name, of in (
            ("accuracy", "hits"),
            ("nll", "nll"),
            ("brier", "brier"),
            ("total_entropy", "total_entropy"),
            ("mutual_information", "mutual_information"),
        )
    }
    scores["ece"] = jnp.sum(jnp.abs(whole["bin_hits"] - whole["bin_confidence"])) / count
    for name in ("total_entropy", "mutual_information"):
        right, wrong = whole[f"right_{name}"], whole[f"wrong_{name}"]
        below = jnp.cumsum(right) - right / 2
        pairs = jnp.sum(right) * jnp.sum(wrong)
        scores[f"error_auroc_{name}"] = jnp.where(
            pairs > 0, jnp.sum(below * wrong) / jnp.where(pairs > 0, pairs, 1), jnp.nan
        )
    if "union" in whole:
        seen = whole["union"] > 0
        overlap = whole["intersection"] / jnp.where(seen, whole["union"], 1)
        scores["mean_iou"] = jnp.sum(jnp.where(seen, overlap, 0)) / jnp.sum(seen)
    return scores


_BETTER = {
    "accuracy": ("higher", ""),
    "mean_iou": ("higher", ""),
    "nll": ("lower", "nats"),
    "brier": ("lower", ""),
    "ece": ("lower", ""),
    "error_auroc_total_entropy": ("higher", ""),
    "error_auroc_mutual_information": ("higher", ""),
    "total_entropy": ("", "nats"),
    "mutual_information": ("", "nats"),
}


def _report(kind: Kind, sums: Sums, key: Key, *, calibrated: bool = False) -> Report:
    """The scores with standard errors over examples; a temperature leaves no mutual information."""
    # Sums per example are divided by the mean number of parts, so that float32 holds them well.
    unit = float(sums["count"].mean())
    given = {name: jnp.asarray(value / unit, jnp.float32) for name, value in sums.items()}
    if len(sums["count"]) > 1:
        found = uncertainty.bootstrap(key, _score, given, paired=True)
        values, errors = found.value, found.standard_error
    else:
        values = _score(given)
        errors = dict.fromkeys(values, np.nan)
    rows = tuple(
        ReportRow(name, float(values[name]), float(errors[name]), *about)
        for name, about in _BETTER.items()
        if name in values and not (calibrated and "mutual_information" in name)
    )
    examples = len(sums["count"])
    title = f"{kind.classes} classes, {int(sums['count'].sum())} labels of {examples} examples"
    return Report(title, examples, rows)


def _temperature(
    kind: Kind, estimate: Estimate, targets: np.ndarray, rows: np.ndarray
) -> tuple[float | None, int]:
    """The temperature of held-out parts, equally many of each example, and their number.

    None if all of them are predicted right.
    """
    most = max(_FITTED // len(rows), 1)
    logs, chosen = [], []
    for found, y, known in _read(kind, estimate, targets, rows):
        for own_logs, own_labels, own in zip(found.logs, y, known, strict=True):
            places = np.flatnonzero(own)
            places = places[:: -(-len(places) // most)]
            logs.append(np.maximum(own_logs[places], -1e4))
            chosen.append(own_labels[places])
    flat, of = np.concatenate(logs), np.concatenate(chosen)
    if (flat.argmax(-1) == of).all():
        return None, len(of)
    return float(uncertainty.fit_temperature(flat, of).temperature), len(of)


def _sets(
    kind: Kind, held_estimate: Estimate, held_targets: np.ndarray, held: np.ndarray,
    estimate: Estimate, targets: np.ndarray, scored: np.ndarray, level: float,
) -> Coverage:  # fmt: skip
    """Sets per part that miss a bounded share of the labels of an example, by conformal risk control."""
    at_labels, masks = [], []
    for found, y, known in _read(kind, held_estimate, held_targets, held):
        probs = labels.probabilities(found.logs)
        at_labels.append(np.take_along_axis(probs, y[..., None], -1)[..., 0])
        masks.append(known)
    truth = np.concatenate(masks)
    probs = np.concatenate(at_labels)
    fitted = uncertainty.fit_fnr(probs, np.ones(probs.shape, int), risk=1 - level, where=truth)
    covered, sizes = [], []
    for found, y, known in _read(kind, estimate, targets, scored):
        sets = labels.probabilities(found.logs) >= float(fitted.threshold)
        inside = np.take_along_axis(sets, y[..., None], -1)[..., 0]
        covered.append(inside.mean(1, where=known))
        sizes.append(sets.sum(-1).mean(1, where=known))
    guarantee = (
        f"The expected share of the labels of a new example that their sets contain is at least {level:g}: "
        "conformal risk control over examples, as the parts of one example depend on each other."
    )
    of_sets = findings.mean(np.concatenate(covered)), findings.mean(np.concatenate(sizes))
    return Coverage("Sets of each part, conformal risk control", level, *of_sets, guarantee)


def _bins_of(sums: PyTree) -> jax.Array:
    whole = jax.tree.map(lambda leaf: jnp.sum(leaf, 0), sums)
    seen = whole["bin_count"] > 0
    return jnp.where(seen, whole["bin_hits"] / jnp.where(seen, whole["bin_count"], 1), jnp.nan)


def _reliability(before: Sums, after: Sums | None, key: Key) -> Picture:
    """A reliability diagram with standard errors over examples."""
    series = {"as predicted": before} | ({} if after is None else {"with temperature": after})
    rows: list[list[str | float]] = []

    def draw(ax: Axes) -> None:
        ax.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="calibrated")
        for number, (name, sums) in enumerate(series.items()):
            given = {of: jnp.asarray(sums[of], jnp.float32) for of in ("bin_count", "bin_hits")}
            share, error = np.asarray(_bins_of(given)), np.full(sums["bin_count"].shape[1], np.nan)
            if len(sums["count"]) > 1:
                error = np.asarray(uncertainty.bootstrap(key, _bins_of, given, paired=True).standard_error)
            counts = sums["bin_count"].sum(0)
            seen = counts > 0
            confidence = sums["bin_confidence"].sum(0)[seen] / counts[seen]
            style = {"color": plots.PALETTE[number], "marker": "os"[number], "markersize": 4, "capsize": 2}
            ax.errorbar(confidence, share[seen], np.nan_to_num(error[seen]), label=name, **style)
            for values in zip(confidence, share[seen], error[seen], counts[seen], strict=True):
                rows.append([name, *(round(float(value), 4) for value in values)])
        ax.set(xlabel="confidence", ylabel="accuracy")
        ax.legend()

    text = (
        "Accuracy against confidence of the parts, with standard errors over examples; a calibrated model "
        "lies on the diagonal."
    )
    picture = findings.drawn("Reliability", text, draw)
    head = ["predictions", "confidence", "accuracy", "standard error", "parts"]
    return Picture(picture.title, picture.figure, picture.text, Table("Reliability", head, rows))


def _risk(errors: np.ndarray, doubts: dict[str, np.ndarray]) -> Picture:
    def draw(ax: Axes) -> None:
        for name, doubt in doubts.items():
            plots.risk_coverage_curve(errors, doubt, label=f"mean {findings.words(name)}", ax=ax)

    text = "Mean share of wrong parts among the examples kept, if the most uncertain ones are left out."
    return findings.drawn("Selective prediction", text, draw)
