"""How much dropout, for how much data, and how many samples: Figures 9, 10 and 11 of the dropout paper.

Three parts: "rate" (9a: the error over the dropout rate), "size" (10: the error over the number of
training images, without and with dropout) and "average" (11: the mean of k sampled networks
against weight scaling). What the paper finds is in rate.py, size.py and average.py; each part says
of each claim whether it shows here. All rates or sizes and all seeds of a part train in one
compiled program, `jaxdrop.training.sweep`. Nothing is chosen: the curves are the result, and the
test part is looked at once, after training.

Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014,
sections 7.3 to 7.5. `--scale 1` has its widths and its million updates. A smaller one scales the
widths, the updates with its cube and in "rate" the images with its square; the default is an eighth.

    python -m experiments.rates --data-dir DIR
    python -m experiments.rates --part average --data-dir DIR
    python -m experiments.rates --quick

About 15 minutes on 2 CPU cores in all. What came out is in README.md, beside this file.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import cli, data, loop, report
from experiments.rates import average, rate, runs, size

PARTS: dict[str, Any] = {"rate": rate, "size": size, "average": average}
ALL = "all"
# The seeds of --quick at most.
FEW = 2
CLAIMS = ["the paper", "here", "shows"]


def run(plan: runs.Plan, examples: data.Dataset, out: Path, quick: bool) -> None:
    """Runs a part and writes its results, each file whole or not at all."""
    folder = out / "rates" / (f"{plan.part}-quick" if quick else plan.part)
    config = plan._asdict() | {"batch": runs.BATCH, "learning_rate": runs.LEARNING_RATE}
    checkpoints = loop.checkpoint_folder(folder, config, examples[1:])
    start = time.monotonic()
    trained = runs.train(plan, examples, checkpoints)
    result = PARTS[plan.part].finish(plan, examples, trained)
    seconds = time.monotonic() - start
    write(folder, plan.part, result, config | {"curves": trained.curves}, seconds)
    loop.forget(checkpoints)


def write(folder: Path, part: str, result: runs.Result, content: dict[str, Any], seconds: float) -> None:
    """Prints the tables and writes every file."""
    claims = [list(claim) for claim in result.claims]
    report.print_table(result.title, result.header, result.body, result.caption)
    report.print_table("What the paper claims, and whether it shows here", CLAIMS, claims)
    report.write_figure(folder / f"{part}.png", result.figure)
    tables = (report.markdown_table(result.header, result.body), report.markdown_table(CLAIMS, claims))
    report.write_text(folder / "table.md", "\n".join(tables))
    report.write_json(folder / "run.json", {"seconds": seconds, "environment": report.environment()})
    found = [claim._asdict() for claim in result.claims]
    report.write_json(folder / "metrics.json", content | {"claims": found} | result.metrics)
    cli.console.print(f"{seconds:.0f} s. Written to {folder}/", highlight=False)


def main(
    part: Annotated[str, typer.Option(help=f"One of {', '.join((*PARTS, ALL))}.")] = ALL,
    data_dir: cli.DataDir = None,
    out: cli.Out = Path("results"),
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds; at least 2 for standard errors.")] = 4,
    scale: Annotated[float, typer.Option(help="The share of the paper's widths; 1 is the paper's.")] = 1 / 8,
    quick: cli.Quick = False,
) -> None:
    """Repeat Figures 9, 10 and 11 of the dropout paper, scaled down.

    Writes metrics.json, run.json, table.md and PART.png to OUT/rates/PART (PART-quick with --quick,
    which takes scikit-learn's digits, sets the sizes itself, and has at most 2 seeds).
    """
    cli.check_choice("part", part, (*PARTS, ALL))
    cli.check_count("seed", seed, 0)
    cli.check_count("seeds", seeds)
    if not 0 < scale <= 1:
        raise cli.BadInputError(f"`scale` must lie in (0, 1], got {scale}.")
    examples = data.load("digits" if quick else "mnist", data_dir)
    for name in PARTS if part == ALL else (part,):
        made = PARTS[name].make(examples.name, seed, min(seeds, FEW) if quick else seeds, scale, quick)
        run(made, examples, out, quick)


if __name__ == "__main__":
    cli.run(main)
