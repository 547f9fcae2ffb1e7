"""Tables of errors, of the time to equal error, and of the goals."""

from typing import NamedTuple

import numpy as np

from experiments import report
from experiments.means import Mean
from experiments.samples import evaluate, measures, methods
from experiments.samples.evaluate import Result
from experiments.samples.measures import Ratio

PASSES = "passes"
# Columns of the table that decides: measure, what is counted, heading.
COLUMNS = (
    ("covariance", "time", "covariance"),
    ("mean", "time", "mean"),
    ("probabilities", "time", "probs"),
    ("ranking", "time", "rank"),
    ("inside", "time", "MI, in"),
    ("log_density", "time", "density"),
    ("mean", PASSES, "passes"),
)
# Least ratios by measure and network, of the best of all methods; of balanced masks for the passes.
GOALS = {
    "covariance": {"MLP": 100, "residual": 20, "CNN": 10, "ViT": 2},
    "probabilities": dict.fromkeys(("MLP", "residual", "CNN", "LSTM", "ViT"), 4),
    "ranking": dict.fromkeys(("MLP", "residual", "CNN", "LSTM", "ViT"), 4),
}
GOAL_OF_PASSES = 4
OUTPUTS = ("mean", "deviation", "covariance", "log_density")
OF_CLASSES = ("probabilities", *measures.ENTROPIES, "inside", "ranking")
# Ratios by task, method and column, the measure and what is counted.
Ratios = dict[str, dict[str, dict[tuple[str, str], Ratio]]]


class Goal(NamedTuple):
    """Goal and what was found.

    Attributes:
      measure: The measure, and what is counted.
      task: The task.
      least: The goal.
      method: The method with the largest ratio.
      ratio: Its ratio.
      verdict: "met", "missed" or "unclear", at two standard errors.
    """

    measure: tuple[str, str]
    task: str
    least: float
    method: str
    ratio: Ratio
    verdict: str


def ratios(result: Result) -> dict[str, dict[tuple[str, str], Ratio]]:
    """Ratios of every method but independent samples, by its label and column."""
    independent = [name for name in result.samples if name.startswith(methods.INDEPENDENT)]
    counts = {name: result.samples[name] for name in independent}
    found: dict[str, dict[tuple[str, str], Ratio]] = {}
    for name, errors in result.errors.items():
        if name in counts:
            continue
        # Without classes, the price is that of independent samples without classes.
        scale = share(result) if name == methods.MOMENTS else 1.0
        row = found.setdefault(name, {})
        for measure, price, _ in COLUMNS:
            if measure not in errors or (price == PASSES and not name.startswith(methods.BALANCED)):
                continue
            curve = {counts[other]: result.errors[other][measure] for other in independent}
            if price == PASSES:
                prices = {count: np.array([count]) for count in curve}
                own = np.array([result.samples[name]])
            else:
                prices = {counts[other]: scale * result.times[other] for other in independent}
                own = result.times[name]
            row[measure, price] = measures.ratio(errors[measure], curve, own, prices, result.floors[measure])
    return found


def share(result: Result) -> np.ndarray:
    """Time of independent samples without classes, as a share of the whole, `[rounds]`."""
    (alone,) = [name for name in result.times if name.startswith(evaluate.ALONE)]
    whole = alone.replace(evaluate.ALONE, methods.INDEPENDENT)
    return result.times[alone] / result.times[whole]


def ratio_tables(results: list[Result], found: Ratios) -> list[report.Table]:
    """The tables that decide: what independent samples need for the error of each method."""
    caption = (
        "Time that independent samples need for the error of a method, over its own; passes: their number "
        "for the error of the mean; ± standard error. > and <: bounds. ~: extrapolated beyond the most "
        "samples. Gaussian: classes of Gaussian logits with these moments, by N points."
    )
    tables = []
    for kind, title in ((True, "networks for images"), (False, "regression")):
        own = [result for result in results if result.classes is kind]
        names = [c for c in COLUMNS if kind or c[0] in OUTPUTS]
        body = [
            [f"{result.name}: {name}", *(_shown(row, measure, price) for measure, price, _ in names)]
            for result in own
            for name, row in found[result.name].items()
        ]
        headings = ["variance" if not kind and c[0] == "covariance" else c[2] for c in names]
        if own:
            tables.append(report.Table(f"Time to equal error, {title}", ["", *headings], body, caption))
    return tables


def _shown(row: dict[tuple[str, str], Ratio], measure: str, price: str) -> str:
    return row[measure, price].show() if (measure, price) in row else "-"


def goals(found: Ratios, values: list[str]) -> list[Goal]:
    """Goals of the tasks that were run; `values` are the regression sets."""
    wanted = [((m, "time"), task, least) for m, of in GOALS.items() for task, least in of.items()]
    wanted += [(("mean", PASSES), task, GOAL_OF_PASSES) for task in values]
    return [
        _goal(column, task, least, found[task])
        for column, task, least in wanted
        if task in found and any(column in row for row in found[task].values())
    ]


def _goal(
    column: tuple[str, str], task: str, least: float, rows: dict[str, dict[tuple[str, str], Ratio]]
) -> Goal:
    fits = {name: row[column] for name, row in rows.items() if column in row}
    best = max(fits, key=lambda name: fits[name].value.value)
    gap = Mean(fits[best].value.value - least, fits[best].value.error)
    verdict = gap.verdict(lower="missed", higher="met", single="unclear")
    return Goal(column, task, least, best, fits[best], verdict)


def goal_table(found: list[Goal]) -> report.Table:
    """Goals and verdicts."""
    headings = {(measure, price): heading for measure, price, heading in COLUMNS}
    body = [
        [headings[goal.measure], goal.task, f"{goal.least:g}", goal.method, goal.ratio.show(), goal.verdict]
        for goal in found
    ]
    header = ["times independent samples", "", "goal", "best method", "found", "verdict"]
    caption = "The best of the methods by the found ratio; verdicts at two standard errors."
    return report.Table("Goals", header, body, caption)


def error_tables(result: Result) -> list[report.Table]:
    """Time and errors of every method of a task: of the outputs, and of classes."""
    caption = "Root mean squared errors; <: bounds below the noise of the reference."
    if result.refused:
        caption += f" Refused by the method: {'; '.join(result.refused)}."
    title = f"Errors of the outputs, {result.name}"
    body = [
        [label, _three(float(np.median(times))), *_row(result, label, OUTPUTS)]
        for label, times in result.times.items()
    ]
    header = ["", "ms", *(measures.ERRORS[name] for name in OUTPUTS)]
    found = [report.Table(title, header, body, f"Median time of a batch. {caption}")]
    if result.classes:
        names = (*OF_CLASSES, evaluate.AUROC)
        labels = [label for label, row in result.errors.items() if "probabilities" in row]
        rows = [[label, *_row(result, label, names)] for label in (*labels, evaluate.REFERENCE)]
        header = ["", *(measures.ERRORS[name] for name in OF_CLASSES), "AUROC (%)"]
        found.append(report.Table(f"Errors of classes, {result.name}", header, rows, caption))
    return found


def _row(result: Result, label: str, names: tuple[str, ...]) -> list[str]:
    """Cells of errors; the AUROC is that of the method."""
    errors, row = result.errors.get(label, {}), []
    for name in names:
        if name in errors:
            value, known = measures.bounded(errors[name], result.floors[name])
            factor = 100 if name in measures.PERCENT else 1
            row.append(("" if known else "<") + _three(factor * value**0.5))
        elif name == evaluate.AUROC:
            row.append(f"{100 * np.mean(result.scores[label]):.1f}")
        else:
            row.append("-")
    return row


def _three(value: float) -> str:
    """Three significant digits; "-" for NaN, the variance of one sample."""
    if not np.isfinite(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")
