"""Results: tables, comparisons paired by seed, and five plots."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import plots
from experiments.means import Mean
from experiments.ood import evaluate, networks, posteriors, sets

Rows = dict[str, dict[str, np.ndarray]]
Table = tuple[list[str], list[list[str]]]

# Measures in distribution: key, heading, factor, digits.
QUALITY: tuple[tuple[str, str, float, int], ...] = (
    ("error", "error (%)", 100, 2),
    ("nll", "NLL", 1, 4),
    ("ece", "ECE (%)", 100, 2),
    ("aurc", "AURC (%)", 100, 3),
)
TITLES = {"entropy": "entropy", "information": "mutual information"}
INFORMATION = "mutual information vs entropy"


class Comparison(NamedTuple):
    """Difference of two methods in a measure, paired by seed, with a verdict at two standard errors.

    Attributes:
      question: The methods compared.
      measure: The measure, `SET/NAME`.
      difference: The difference, a mean over the seeds.
      verdict: "better", "worse", "unclear" or "one seed".
    """

    question: str
    measure: str
    difference: Mean
    verdict: str


def outside(images: dict[str, sets.Images], plan: networks.Plan) -> list[str]:
    """Sets out of distribution: other images, and those at the last angle."""
    on_the_way = {sets.IN, *map(sets.angle_name, plan.angles[:-1])}
    return [name for name in images if name not in on_the_way]


def shown(plan: networks.Plan) -> list[str]:
    """Methods in the tables: numbers of samples that are powers of ten, and the largest."""
    counts = [count for count in plan.counts if str(count).strip("0") == "1" or count == plan.counts[-1]]
    sampled = [evaluate.sampled_name(method, count) for method in evaluate.SITES for count in counts]
    return [evaluate.PLAIN, evaluate.ONE, *sampled, *of_posteriors(plan), evaluate.ENSEMBLE]


def of_posteriors(plan: networks.Plan) -> list[str]:
    """Methods that sample a posterior of the network without dropout."""
    return [evaluate.sampled_name(name, evaluate.enough(plan)) for name in posteriors.NAMES]


def quality_table(plan: networks.Plan, rows: Rows) -> Table:
    """Header and rows: quality of the predictions in distribution."""
    header = ["method", *(heading for _, heading, _, _ in QUALITY)]
    return header, [
        [
            m,
            *(
                Mean.of(rows[m][f"{sets.IN}/{key}"]).show(factor, digits)
                for key, _, factor, digits in QUALITY
            ),
        ]
        for m in shown(plan)
    ]


def detection_table(plan: networks.Plan, rows: Rows, names: list[str], key: str) -> Table:
    """Header and rows: AUROC against each set; one network or sample has no mutual information."""
    single = {evaluate.PLAIN, evaluate.ONE, *(evaluate.sampled_name(m, 1) for m in evaluate.SITES)}
    methods = [method for method in shown(plan) if key == "entropy" or method not in single]
    return [f"AUROC (%) by {TITLES[key]}", *names], [
        [method, *(Mean.of(rows[method][f"{name}/{key}"]).percent(1) for name in names)] for method in methods
    ]


def compare(plan: networks.Plan, rows: Rows, names: list[str]) -> list[Comparison]:
    """Comparisons for each question and measure."""
    full, last = (evaluate.sampled_name(method, plan.counts[-1]) for method in evaluate.SITES)
    pairs = [
        ("MC dropout vs weight scaling", full, evaluate.ONE),
        ("MC dropout vs no dropout", full, evaluate.PLAIN),
        ("MC, last layer vs MC dropout", last, full),
        ("ensemble vs MC dropout", evaluate.ENSEMBLE, full),
    ]
    methods = zip(posteriors.NAMES, of_posteriors(plan), strict=True)
    pairs += [(f"{name} vs no dropout", method, evaluate.PLAIN) for name, method in methods]
    measures = [f"{sets.IN}/{key}" for key, _, _, _ in QUALITY[:3]] + [f"{name}/entropy" for name in names]
    found = [
        _comparison(question, measure, rows[a][measure] - rows[b][measure])
        for question, a, b in pairs
        for measure in measures
    ]
    of_full = rows[full]
    return found + [
        _comparison(
            INFORMATION, f"{name}/entropy", of_full[f"{name}/information"] - of_full[f"{name}/entropy"]
        )
        for name in names
    ]


def _comparison(question: str, measure: str, difference: np.ndarray) -> Comparison:
    mean = Mean.of(difference)
    # Measures in distribution are errors, lower is better; outside they are areas, higher is better.
    words = ("better", "worse") if measure.startswith(f"{sets.IN}/") else ("worse", "better")
    return Comparison(question, measure, mean, mean.verdict(*words))


def comparison_table(comparisons: list[Comparison], names: list[str]) -> Table:
    """Header and rows: a row for each question; "-" where a measure does not apply."""
    columns = {f"{sets.IN}/{key}": (heading, factor, digits) for key, heading, factor, digits in QUALITY[:3]}
    columns |= {f"{name}/entropy": (f"AUROC {name} (%)", 100.0, 1) for name in names}
    header = ["", *(heading for heading, _, _ in columns.values())]
    found = {(c.question, c.measure): c for c in comparisons}
    body = []
    for question in dict.fromkeys(c.question for c in comparisons):
        row = [question]
        for measure, (_, factor, digits) in columns.items():
            c = found.get((question, measure))
            row.append(f"{c.difference.show(factor, digits)} {c.verdict}" if c else "-")
        body.append(row)
    return header, body


def figures(
    plan: networks.Plan,
    images: dict[str, sets.Images],
    found: dict[str, dict[str, evaluate.Prediction]],
    rows: Rows,
) -> dict[str, Figure]:
    """Plots by file name."""
    inside, y = found[sets.IN], images[sets.IN].y.ravel()
    names = outside(images, plan)
    sampled = [evaluate.sampled_name(method, evaluate.enough(plan)) for method in evaluate.SITES]
    chosen = [evaluate.PLAIN, evaluate.ONE, *sampled, evaluate.ENSEMBLE]
    title = f"{sets.NAMES[plan.dataset]}, {plan.seeds} seeds, {len(y)} predictions in all"
    probs = {method: inside[method].mean.reshape(len(y), -1) for method in chosen}
    wrong = {method: (mean.argmax(-1) != y).astype(np.float32) for method, mean in probs.items()}
    entropies = {
        method: {title: np.ravel(found[name][method].entropy) for name, title in _labels(plan, names)}
        for method in chosen
    }
    return {
        "reliability": plots.reliability({method: (mean, y) for method, mean in probs.items()}, title),
        "risk_coverage": plots.risk_coverage(
            {method: (wrong[method], inside[method].entropy.ravel()) for method in chosen}, title
        ),
        "entropies": plots.entropy_histograms(entropies, title),
        "auroc": plot_auroc(plan, rows, names),
        "rotation": plot_rotation(plan, rows, chosen),
    }


def _labels(plan: networks.Plan, names: list[str]) -> list[tuple[str, str]]:
    return [(sets.IN, f"{sets.NAMES[plan.dataset]} (in)"), *((name, name) for name in names)]


def plot_auroc(plan: networks.Plan, rows: Rows, names: list[str]) -> Figure:
    """AUROC over the number of samples, one panel per set; methods without samples are lines."""
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 4.2), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for i, method in enumerate(evaluate.SITES):
            for j, key in enumerate(("entropy", "information")):
                # One sample has no mutual information.
                counts = [count for count in plan.counts if count > 1 or key == "entropy"]
                values = [rows[evaluate.sampled_name(method, c)][f"{name}/{key}"] for c in counts]
                label = f"{method}, {TITLES[key]}"
                plots.draw_mean(axis, counts, 100 * np.array(values), 2 * i + j, label)
        still = (evaluate.ONE, evaluate.PLAIN, evaluate.ENSEMBLE)
        for i, method in enumerate(still):
            mean = 100 * rows[method][f"{name}/entropy"].mean()
            style = {"color": plots.color(i + 4), "ls": plots.LINES[i + 1], "lw": 1.5}
            axis.axhline(mean, **style, label=f"{method}, entropy")
        axis.set_xscale("log")
        axis.set_xlabel("Monte-Carlo samples T")
        axis.set_title(name)
    axes[0, 0].set_ylabel("AUROC (%)")
    plots.add_legend(figure, columns=min(4, 2 * len(names)), fontsize=8)
    figure.suptitle(
        f"{sets.NAMES[plan.dataset]} against others: mean ± standard error over {plan.seeds} seeds"
    )
    return figure


def plot_rotation(plan: networks.Plan, rows: Rows, methods: list[str]) -> Figure:
    """Error, likelihood and calibration over the angle of rotation."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2))
    angles = (0, *plan.angles)
    names = [sets.IN, *map(sets.angle_name, plan.angles)]
    for axis, (key, heading, factor, _) in zip(axes, QUALITY, strict=False):
        for i, method in enumerate(methods):
            values = np.array([rows[method][f"{name}/{key}"] for name in names])
            plots.draw_mean(axis, angles, factor * values, i, method)
        axis.set_xticks(angles)
        axis.set_xlabel("rotation (degrees)")
        axis.set_ylabel(heading)
        axis.set_ylim(bottom=0)
    plots.add_legend(figure, columns=len(methods), fontsize=9)
    figure.suptitle(f"{sets.NAMES[plan.dataset]}, rotated: mean ± standard error over {plan.seeds} seeds")
    return figure
