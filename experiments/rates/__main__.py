"""Dropout rate, data size and number of samples: Figures 9, 10 and 11 of the dropout paper.

Three parts: "rate" (9a: error over the dropout rate), "size" (10: error over the number of
training images, without and with dropout) and "average" (11: the mean of k sampled networks
against weight scaling). The paper's claims are in rate.py, size.py and average.py; each part reports
which of them show here. All rates or sizes and all seeds of a part train in one
compiled program, `jaxdrop.training.sweep`. Nothing is chosen: the curves are the result, and the
test part is scored once, after training.

Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014,
sections 7.3 to 7.5. `--scale 1` has its widths and its million updates. A smaller one scales the
widths, the updates with its cube and in "rate" the images with its square; the default is an eighth.

    python -m experiments.rates --data-dir DIR
    python -m experiments.rates --part average --data-dir DIR
    python -m experiments.rates --quick

About 15 minutes on 2 CPU cores in all. Results: README.md in this folder.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import cli, data, loop, report
from experiments.rates import average, rate, runs, size

PARTS: dict[str, Any] = {"rate": rate, "size": size, "average": average}
ALL = "all"
# Most seeds of --quick.
FEW = 2
CLAIMS = ["the paper", "here", "shows"]


def run(plan: runs.Plan, examples: data.Dataset, out: Path, quick: bool) -> None:
    """Runs a part and publishes its results."""
    folder = out / "rates" / (f"{plan.part}-quick" if quick else plan.part)
    config = plan._asdict() | {"batch": runs.BATCH, "learning_rate": runs.LEARNING_RATE}
    with loop.resumable(folder, config, examples[1:]) as checkpoints:
        started = time.monotonic()
        trained = runs.train(plan, examples, checkpoints)
        result = PARTS[plan.part].finish(plan, examples, trained)
        claims = report.Table("Claims of the paper", CLAIMS, [list(claim) for claim in result.claims])
        found = {"claims": [claim._asdict() for claim in result.claims], "curves": trained.curves}
        figures = {plan.part: result.figure}
        metrics = config | found | result.metrics
        report.publish(folder, [result.table, claims], figures, metrics, started=started)


def main(
    part: Annotated[str, typer.Option(help=f"One of {', '.join((*PARTS, ALL))}.")] = ALL,
    data_dir: cli.DataDir = None,
    out: cli.Out = Path("results"),
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 4,
    scale: Annotated[float, typer.Option(help="Share of the paper's widths, at most 1.")] = 1 / 8,
    quick: cli.Quick = False,
) -> None:
    """Repeat Figures 9, 10 and 11 of the dropout paper, scaled down.

    Writes metrics.json, run.json, table.md and PART.png to OUT/rates/PART (PART-quick with --quick,
    which uses scikit-learn's digits, sets the sizes itself, and has at most 2 seeds).
    """
    cli.check_choice("part", part, (*PARTS, ALL))
    cli.check_seeds(seed, seeds)
    cli.check_scale(scale)
    examples = data.load("digits" if quick else "mnist", data_dir)
    for name in PARTS if part == ALL else (part,):
        made = PARTS[name].make(examples.name, seed, min(seeds, FEW) if quick else seeds, scale, quick)
        run(made, examples, out, quick)


if __name__ == "__main__":
    cli.run(main)
