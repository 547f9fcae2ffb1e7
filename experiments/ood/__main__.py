"""Out-of-distribution detection with Monte-Carlo dropout, compared with a deep ensemble.

A network trained on digits is shown letters, clothes and rotated digits. Compared are one pass with weight
scaling, Monte-Carlo dropout with up to 1000 samples, of all layers or of the last, and an ensemble of 5; and,
for the network without dropout, SWAG (Maddox et al., 2019), a last-layer Laplace approximation (Kristiadi et
al., 2020) and test-time augmentation by shifts. The network has no BatchNorm, so there is no MC-BatchNorm.
Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016, say that the spread of the samples detects
inputs far from the data. Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation
using deep ensembles", 2017, say that an ensemble does it better. Smith and Gal, 2018, recommend mutual
information. Each claim is tested here, paired by seed; nothing is chosen by the test images.

    python -m experiments.ood --data-dir DIR
    python -m experiments.ood --dataset fashion-mnist --data-dir DIR
    python -m experiments.ood --quick

About five minutes on 2 CPU cores. Results: README.md in this folder.
"""

import time
from typing import Annotated, Any

import typer
from etils import epath

from experiments import cli, data, hosts, loop, report
from experiments.ood import evaluate, networks, posteriors, results, sets

QUICK: dict[str, Any] = {
    "hidden": (32, 32),
    "steps": 400,
    "members": 2,
    "images": 200,
    "counts": (1, 10),
    "angles": sets.QUICK_ANGLES,
}
CAPTIONS = (
    "In distribution: mean ± standard error over {} seeds. AURC: area under the risk-coverage curve.",
    "Area under the ROC curve of detecting a set as out of distribution, by the entropy of the mean.",
    "The same, by the mutual information of label and weights.",
    "Differences paired by seed; the verdict is at two standard errors. AUROC is by entropy, and in the last "
    "row that by mutual information minus that by entropy.",
)


def run(
    plan: networks.Plan, examples: data.Dataset, others: sets.Others, setup: loop.Setup, quick: bool
) -> None:
    """Trains, evaluates and publishes the results."""
    hosts.mesh(setup.devices, plan.seeds * (plan.members + 1))
    folder = setup.out / "ood" / (f"{plan.dataset}-quick" if quick else plan.dataset)
    config = plan._asdict() | {"batch": networks.BATCH, "learning_rate": networks.LEARNING_RATE}
    with loop.resumable(folder, config, (examples[1:], others)) as checkpoints:
        started = time.monotonic()
        params, losses = networks.train(plan, examples, checkpoints, setup)
        images = sets.make(examples, others, plan.seed, plan.seeds, plan.images, plan.angles)
        fitted = posteriors.fit(plan, params, examples, checkpoints)
        found = evaluate.predictions(plan, params, images, checkpoints, fitted)
        rows = evaluate.measure(images, found)
        comparisons = results.compare(plan, rows, results.outside(images, plan))
        metrics = {"config": config, "losses": losses, "methods": rows}
        metrics["comparisons"] = [c._asdict() for c in comparisons]
        report.publish(
            folder,
            tables(plan, rows, comparisons, results.outside(images, plan)),
            results.figures(plan, images, found, rows),
            metrics,
            started=started,
        )


def tables(
    plan: networks.Plan, rows: results.Rows, comparisons: list[results.Comparison], names: list[str]
) -> list[report.Table]:
    """Tables of quality, detection by both uncertainties, and comparisons."""
    found = (
        results.quality_table(plan, rows),
        *(results.detection_table(plan, rows, names, key) for key in results.TITLES),
        results.comparison_table(comparisons, names),
    )
    return [
        report.Table(sets.NAMES[plan.dataset], *table, caption.format(plan.seeds))
        for table, caption in zip(found, CAPTIONS, strict=True)
    ]


def main(
    dataset: Annotated[data.Large, typer.Option(help="Data set to train on.")] = "mnist",
    data_dir: Annotated[epath.Path | None, cli.data_dir("mnist/, fashion-mnist/ and notmnist/")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 4,
    devices: cli.Devices = None,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Detect images out of distribution.

    Writes metrics.json, run.json, table.md and five PNG plots to OUT/ood/DATASET (digits-quick with --quick,
    which uses scikit-learn's digits, rotated and with shuffled pixels, and at most 2 seeds).
    """
    setup = loop.make_setup(devices, out, log_dir)
    examples = data.load("digits" if quick else dataset, data_dir)
    others = sets.load_others(examples.name, data_dir)
    options: dict[str, Any] = QUICK if quick else {"angles": sets.ANGLES}
    plan = networks.Plan(examples.name, seed, min(seeds, 2) if quick else seeds, **options)
    for name, x in {sets.NAMES[examples.name]: examples.x_test, **others}.items():
        cli.check_count(f"test images of {name}", len(x), plan.images)
    run(plan, examples, others, setup, quick)


if __name__ == "__main__":
    cli.run(main)
