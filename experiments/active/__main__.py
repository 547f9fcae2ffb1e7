"""Does Monte-Carlo dropout know which images to have labelled? BALD, BatchBALD and others against chance.

A network is trained from 20 labelled images, 10 more are chosen from a pool by what its samples say, it is
trained from scratch, and so on. Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data",
2017, find on MNIST that BALD, variation ratio and max entropy reach an error of 5 % with 335, 295 and 355
labels, and labels at random with 835; Kirsch, van Amersfoort and Gal, "BatchBALD", 2019, that BALD falls
behind when ten are chosen at once, for they are alike, and BatchBALD does not. The pool of both is the whole
training part, that of each seed here 4000 images of it, and our convolutional network is smaller: what can be
compared is the order of the methods. Nothing is chosen by the test part.

    python -m experiments.active --data-dir DIR
    python -m experiments.active --quick

Less than an hour on 2 CPU cores. What came out is in README.md, beside this file.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import cli, data, loop, report
from experiments.active import acquire, results, rounds

DATASETS = ("mnist", "fashion-mnist")
QUICK: dict[str, Any] = {"units": 64, "steps": 150, "pool": 500, "rounds": 4, "samples": 16}
CAPTION = (
    "Test error in percent: mean ± standard error over {} seeds. Mean: over all rounds after the first. Vs "
    "random: the difference of that, and of the last round, paired by seed; verdicts at two standard errors."
)


def run(plan: rounds.Plan, examples: data.Dataset, out: Path, quick: bool) -> None:
    """Runs every method and writes the results, each file whole or not at all."""
    folder = out / "active" / (f"{plan.dataset}-quick" if quick else plan.dataset)
    config = plan._asdict() | {"batch": rounds.BATCH, "learning_rate": rounds.LEARNING_RATE}
    config |= {"candidates": acquire.CANDIDATES}
    pool = rounds.make_pool(plan, examples)
    checkpoints = loop.checkpoint_folder(folder, config, (pool, examples[1:]))
    start = time.monotonic()
    found = rounds.run(plan, examples, pool, checkpoints)
    seconds = time.monotonic() - start
    rows = results.summarise(plan, found)
    header, body = results.table(rows)
    title = f"{plan.dataset}, {plan.num} labels at a time from a pool of {plan.pool}"
    report.print_table(title, header, body, CAPTION.format(plan.seeds))
    report.write_figure(folder / "curves.png", results.plot(plan, rows, title))
    report.write_text(folder / "table.md", report.markdown_table(header, body))
    report.write_json(folder / "run.json", {"seconds": seconds, "environment": report.environment()})
    places = {method: result["places"] for method, result in found.items()}
    report.write_json(folder / "metrics.json", {"config": config, "methods": rows, "places": places})
    loop.forget(checkpoints)
    cli.console.print(f"{seconds:.0f} s. Written to {folder}/", highlight=False)


def main(
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = DATASETS[0],
    data_dir: cli.DataDir = None,
    out: cli.Out = Path("results"),
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds; at least 2 for standard errors.")] = 5,
    quick: cli.Quick = False,
) -> None:
    """Choose which images to label.

    Writes metrics.json, run.json, table.md and curves.png to OUT/active/DATASET (digits-quick with --quick,
    which takes scikit-learn's digits and has at most 2 seeds).
    """
    cli.check_choice("dataset", dataset, DATASETS)
    cli.check_count("seed", seed, 0)
    cli.check_count("seeds", seeds)
    examples = data.load("digits" if quick else dataset, data_dir)
    plan = rounds.Plan(examples.name, seed, min(seeds, 2) if quick else seeds, **(QUICK if quick else {}))
    run(plan, examples, out, quick)


if __name__ == "__main__":
    cli.run(main)
