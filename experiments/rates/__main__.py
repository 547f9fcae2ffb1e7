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
from typing import Annotated, Any, Literal

import typer
from etils import epath

from experiments import cli, data, hosts, loop, report
from experiments.rates import average, rate, runs, size

PARTS: dict[str, Any] = {"rate": rate, "size": size, "average": average}
Part = Literal["rate", "size", "average", "all"]
# Most seeds of --quick.
FEW = 2
CLAIMS = ["the paper", "here", "shows"]


def run(plan: runs.Plan, examples: data.Dataset, setup: loop.Setup, quick: bool) -> None:
    """Runs a part and publishes its results."""
    folder = setup.out / "rates" / (f"{plan.part}-quick" if quick else plan.part)
    config = plan._asdict() | {"batch": runs.BATCH, "learning_rate": runs.LEARNING_RATE}
    with loop.resumable(folder, config, examples[1:]) as checkpoints:
        started = time.monotonic()
        trained = runs.train(plan, examples, checkpoints, setup)
        result = PARTS[plan.part].finish(plan, examples, trained)
        claims = report.Table("Claims of the paper", CLAIMS, [list(claim) for claim in result.claims])
        found = {"claims": [claim._asdict() for claim in result.claims], "curves": trained.curves}
        figures = {plan.part: result.figure}
        metrics = config | found | result.metrics
        report.publish(folder, [result.table, claims], figures, metrics, started=started)


def main(
    part: Annotated[Part, typer.Option(help="Figure 9, 10 or 11, or all.")] = "all",
    data_dir: Annotated[epath.Path | None, cli.data_dir("mnist/")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 4,
    scale: cli.Scale = 1 / 8,
    devices: cli.Devices = None,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Repeat Figures 9, 10 and 11 of the dropout paper, scaled down.

    Writes metrics.json, run.json, table.md and PART.png to OUT/rates/PART (PART-quick with --quick,
    which uses scikit-learn's digits, sets the sizes itself, and has at most 2 seeds).
    """
    setup = loop.make_setup(devices, out, log_dir)
    examples = data.load("digits" if quick else "mnist", data_dir)
    seeds = min(seeds, FEW) if quick else seeds
    plans = [
        PARTS[name].make(examples.name, seed, seeds, scale, quick)
        for name in (PARTS if part == "all" else (part,))
    ]
    for plan in plans:
        hosts.mesh(setup.devices, len(plan.settings) * seeds)
    for plan in plans:
        run(plan, examples, setup, quick)


if __name__ == "__main__":
    cli.run(main)
