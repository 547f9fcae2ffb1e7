"""Active learning with Monte-Carlo dropout: BALD, BatchBALD and others against random labels.

A network is trained on 20 labeled images, 10 more are chosen from a pool by its Monte-Carlo samples, it is
trained from scratch, and so on. Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data",
2017, report on MNIST that BALD, variation ratio and max entropy reach an error of 5 % with 335, 295 and 355
labels, and random labels with 835. Kirsch, van Amersfoort and Gal, "BatchBALD", 2019, report that BALD falls
behind when ten similar images are chosen at once, and BatchBALD does not. Both use the whole training part as
the pool. Here each seed has a pool of 4000 images, and the convolutional network is smaller: only the order
of the methods can be compared. Nothing is chosen by the test part.

    python -m experiments.active --data-dir DIR
    python -m experiments.active --quick

Less than an hour on 2 CPU cores. Results: README.md in this folder.
"""

import time
from typing import Annotated, Any

import typer
from etils import epath

from experiments import cli, data, loop, report
from experiments.active import acquire, results, rounds

QUICK: dict[str, Any] = {"units": 64, "steps": 150, "pool": 500, "rounds": 4, "samples": 16}
CAPTION = (
    "Test error in percent: mean ± standard error over {} seeds. Mean: over all rounds after the first. Vs "
    "random: differences of the mean and of the last round, paired by seed; verdicts at two standard errors."
)


def run(plan: rounds.Plan, examples: data.Dataset, setup: loop.Setup, quick: bool) -> None:
    """Runs every method and publishes the results."""
    folder = setup.out / "active" / (f"{plan.dataset}-quick" if quick else plan.dataset)
    config = plan._asdict() | {"batch": rounds.BATCH, "learning_rate": rounds.LEARNING_RATE}
    config |= {"candidates": acquire.CANDIDATES}
    pool = rounds.make_pool(plan, examples)
    title = f"{plan.dataset}, {plan.num} labels at a time from a pool of {plan.pool}"
    with loop.resumable(folder, config, (pool, examples[1:])) as checkpoints:
        started = time.monotonic()
        found = rounds.run(plan, examples, pool, checkpoints, setup)
        rows = results.summarize(plan, found)
        table = results.table(rows, title, CAPTION.format(plan.seeds))
        places = {method: result["places"] for method, result in found.items()}
        metrics = {"config": config, "methods": rows, "places": places}
        figures = {"curves": results.plot(plan, rows, title)}
        report.publish(folder, [table], figures, metrics, started=started)


def main(
    dataset: Annotated[data.Large, typer.Option(help="Data set to train on.")] = "mnist",
    data_dir: Annotated[epath.Path | None, cli.data_dir("mnist/ or fashion-mnist/")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 5,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Compare methods of active learning.

    Writes metrics.json, run.json, table.md and curves.png to OUT/active/DATASET (digits-quick with --quick,
    which uses scikit-learn's digits and at most 2 seeds).
    """
    setup = loop.make_setup(1, out, log_dir)
    examples = data.load("digits" if quick else dataset, data_dir)
    plan = rounds.Plan(examples.name, seed, min(seeds, 2) if quick else seeds, **(QUICK if quick else {}))
    run(plan, examples, setup, quick)


if __name__ == "__main__":
    cli.run(main)
