"""Do the members of the family do on real data what their papers say?

Three parts: "selu" (SELU + alpha dropout against ReLU + dropout on MNIST, published 92.04 % and
90.76 %), "images" (plain, spatial and block dropout in a small CNN on Fashion-MNIST) and "text"
(dropout, locked dropout + DropConnect, and zoneout in an LSTM on Shakespeare's characters). Rates
are chosen on a validation part, by the mean over the seeds; the test part is looked at once.

    python -m experiments.variants --data-dir DIR
    python -m experiments.variants --part text --data-dir DIR
    python -m experiments.variants --quick

Each part takes ten to twenty minutes on 2 CPU cores. What came out is in README.md, beside
this file; where the published figures come from is said in selu.py.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import cli, data, loop, report
from experiments.variants import images, selu, study, text

PARTS = ("selu", "images", "text")
ALL = "all"


def make(part: str, data_dir: Path | None, seed: int, seeds: int, quick: bool) -> study.Study:
    """The study of a part, with its data."""
    if part == "text":
        content = data.load_text("descriptions" if quick else "tinyshakespeare", data_dir)
        return text.make(text.Config(content.name, seed, seeds, **(text.QUICK if quick else {})), content)
    name = "digits" if quick else {"selu": "mnist", "images": "fashion-mnist"}[part]
    module: Any = {"selu": selu, "images": images}[part]
    config = module.Config(name, seed, seeds, **(module.QUICK if quick else {}))
    return module.make(config, data.load(name, data_dir))


def caption(part: str, study: study.Study) -> str:
    """What the columns mean."""
    shared = (
        f"{study.score.capitalize()}: mean ± standard error over {study.seeds} seeds. Chosen: by the "
        "validation score. Vs baseline: the difference of the test scores, paired by seed; the "
        "verdict is at two standard errors of it. The baseline is "
    )
    return shared + ("ReLU + dropout with the same optimiser." if part == "selu" else "none.")


def run(part: str, data_dir: Path | None, out: Path, seed: int, seeds: int, quick: bool) -> None:
    """Runs a part and writes its results, each file whole or not at all."""
    found = make(part, data_dir, seed, seeds, quick)
    folder = out / "variants" / (f"{part}-quick" if quick else part)
    start = time.monotonic()
    rows, checkpoints = study.run(found, folder)
    seconds = time.monotonic() - start
    header, body = study.table(found, rows)
    published = selu.PUBLISHED if part == "selu" and not quick else {}
    report.print_table(found.title, header, body, caption(part, found))
    report.write_figure(folder / "learning_curves.png", study.plot_curves(found, rows))
    report.write_figure(folder / "comparison.png", study.plot_comparison(found, rows, published))
    report.write_text(folder / "table.md", report.markdown_table(header, body))
    content = {"config": found.config, "seconds": seconds, "environment": report.environment()}
    report.write_json(folder / "metrics.json", content | {"published": published, "methods": rows})
    for checkpoint in checkpoints:
        loop.forget(checkpoint)
    cli.console.print(f"{seconds:.0f} s. Written to {folder}/", highlight=False)


def main(
    part: Annotated[str, typer.Option(help=f"One of {', '.join((*PARTS, ALL))}.")] = ALL,
    data_dir: cli.DataDir = None,
    out: cli.Out = Path("results"),
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds; at least 2 for standard errors.")] = 5,
    quick: cli.Quick = False,
) -> None:
    """Compare members of the family on real data.

    Writes metrics.json, table.md, comparison.png and learning_curves.png to OUT/variants/PART
    (PART-quick with --quick, which takes what scikit-learn ships, and at most 2 seeds).
    """
    cli.check_choice("part", part, (*PARTS, ALL))
    cli.check_count("seed", seed, 0)
    cli.check_count("seeds", seeds)
    for name in PARTS if part == ALL else (part,):
        run(name, data_dir, out, seed, min(seeds, 2) if quick else seeds, quick)


if __name__ == "__main__":
    cli.run(main)
