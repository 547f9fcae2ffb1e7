"""Is Monte-Carlo dropout unsure of what it has never seen, and what does it cost in samples?

A network that knows digits is shown letters, clothes and turned digits. Compared are one pass with weight
scaling, Monte-Carlo dropout with up to 1000 samples, of all layers or of the last, and an ensemble of 5.
Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016, say that the samples' spread tells what is
far from the data; Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using
deep ensembles", 2017, that an ensemble does it better; Smith and Gal, 2018, that mutual information is the
measure to use. Each is asked here, paired by seed; nothing is chosen by what is tested on.

    python -m experiments.ood --data-dir DIR
    python -m experiments.ood --dataset fashion-mnist --data-dir DIR
    python -m experiments.ood --quick

About six minutes on 2 CPU cores. What came out is in README.md, beside this file.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import cli, data, loop, report
from experiments.ood import evaluate, networks, results, sets

DATASETS = ("mnist", "fashion-mnist")
QUICK: dict[str, Any] = {
    "hidden": (32, 32),
    "steps": 400,
    "members": 2,
    "images": 200,
    "counts": (1, 10),
    "angles": sets.QUICK_ANGLES,
}
CAPTIONS = (
    "In distribution: mean ± standard error over {} seeds. AURC: area under risk over coverage, by entropy.",
    "Area under the ROC curve of telling a set from the one in distribution, by the entropy of the mean.",
    "The same, by the mutual information of label and weights.",
    "Differences paired by seed; the verdict is at two standard errors. AUROC is by entropy, and in the last "
    "row that by mutual information less that by entropy.",
)


def run(plan: networks.Plan, examples: data.Dataset, others: dict[str, Any], out: Path, quick: bool) -> None:
    """Trains, evaluates and writes the results, each file whole or not at all."""
    folder = out / "ood" / (f"{plan.dataset}-quick" if quick else plan.dataset)
    config = plan._asdict() | {"batch": networks.BATCH, "learning_rate": networks.LEARNING_RATE}
    checkpoints = loop.checkpoint_folder(folder, config, (examples[1:], others))
    start = time.monotonic()
    params, losses = networks.train(plan, examples, checkpoints)
    images = sets.make(examples, others, plan.seed, plan.seeds, plan.images, plan.angles)
    found = evaluate.predictions(plan, params, images, checkpoints)
    rows = evaluate.measure(images, found)
    seconds = time.monotonic() - start
    write(plan, folder, images, found, rows)
    report.write_json(folder / "run.json", {"seconds": seconds, "environment": report.environment()})
    comparisons = results.compare(plan, rows, results.outside(images, plan))
    content = {"config": config, "losses": losses, "methods": rows}
    report.write_json(folder / "metrics.json", content | {"comparisons": [c._asdict() for c in comparisons]})
    loop.forget(checkpoints)
    cli.console.print(f"{seconds:.0f} s. Written to {folder}/", highlight=False)


def write(
    plan: networks.Plan,
    folder: Path,
    images: dict[str, sets.Images],
    found: dict[str, dict[str, evaluate.Prediction]],
    rows: results.Rows,
) -> None:
    """Prints the tables, and writes them and the plots."""
    names = results.outside(images, plan)
    comparisons = results.compare(plan, rows, names)
    tables = (
        results.quality_table(plan, rows),
        *(results.detection_table(plan, rows, names, key) for key in results.TITLES),
        results.comparison_table(comparisons, names),
    )
    for (header, body), caption in zip(tables, CAPTIONS, strict=True):
        report.print_table(sets.NAMES[plan.dataset], header, body, caption.format(plan.seeds))
    report.write_text(folder / "table.md", "\n".join(report.markdown_table(*table) for table in tables))
    for name, figure in results.figures(plan, images, found, rows).items():
        report.write_figure(folder / f"{name}.png", figure)


def main(
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = DATASETS[0],
    data_dir: cli.DataDir = None,
    out: cli.Out = Path("results"),
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds; at least 2 for standard errors.")] = 4,
    quick: cli.Quick = False,
) -> None:
    """Show networks what they were not trained on.

    Writes metrics.json, run.json, table.md and five PNG plots to OUT/ood/DATASET (digits-quick with --quick,
    which takes scikit-learn's digits, turned and with shuffled pixels, and has at most 2 seeds).
    """
    cli.check_choice("dataset", dataset, DATASETS)
    cli.check_count("seed", seed, 0)
    cli.check_count("seeds", seeds)
    examples = data.load("digits" if quick else dataset, data_dir)
    others = sets.load_others(examples.name, data_dir)
    options: dict[str, Any] = QUICK if quick else {"angles": sets.ANGLES}
    plan = networks.Plan(examples.name, seed, min(seeds, 2) if quick else seeds, **options)
    run(plan, examples, others, out, quick)


if __name__ == "__main__":
    cli.run(main)
