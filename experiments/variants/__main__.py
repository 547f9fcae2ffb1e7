"""Variants of dropout on real data, compared with what their papers report.

Four parts: "selu" (SELU + alpha dropout against ReLU + dropout on MNIST, published 92.04 % and
90.76 %), "images" (plain, spatial and block dropout in a small CNN on Fashion-MNIST) , "text"
(dropout, locked dropout + DropConnect, and zoneout in an LSTM on Shakespeare's characters) and
"transformer" (dropout, attention dropout and DropKey in a Transformer over 2048 of them). Rates
are chosen on a validation part, by the mean over the seeds; the test part is scored once.

    python -m experiments.variants --data-dir DIR
    python -m experiments.variants --part text --data-dir DIR
    python -m experiments.variants --part transformer --seeds 3 --data-dir DIR
    python -m experiments.variants --quick

Ten to twenty minutes per part on 2 CPU cores. Results: README.md in this folder. The source of
the published figures is named in selu.py.
"""

from typing import Annotated, Any, Literal

import typer
from etils import epath

from experiments import cli, data, loop, study, study_report
from experiments.variants import images, selu, text, transformer

PARTS = ("selu", "images", "text", "transformer")
Part = Literal["selu", "images", "text", "transformer", "all"]


def make(part: str, data_dir: epath.Path | None, seed: int, seeds: int, quick: bool) -> study.Study:
    """Study of a part, with its data."""
    module: Any = {"selu": selu, "images": images, "text": text, "transformer": transformer}[part]
    if part in ("text", "transformer"):
        content = data.load_text("descriptions" if quick else "tinyshakespeare", data_dir)
        config = module.Config(content.name, seed, seeds, **(module.QUICK if quick else {}))
        return module.make(config, content)
    name = "digits" if quick else {"selu": "mnist", "images": "fashion-mnist"}[part]
    config = module.Config(name, seed, seeds, **(module.QUICK if quick else {}))
    made = module.make(config, data.load(name, data_dir))
    return made._replace(published={}) if quick else made


def main(
    part: Annotated[Part, typer.Option(help="Part to run, or all.")] = "all",
    data_dir: Annotated[
        epath.Path | None, cli.data_dir("mnist/, fashion-mnist/ and text/, as the parts need")
    ] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 5,
    devices: cli.Devices = None,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Compare variants of dropout on real data.

    Writes metrics.json, run.json, table.md, comparison.png and learning_curves.png to OUT/variants/PART
    (PART-quick with --quick, which uses scikit-learn's data and at most 2 seeds).
    """
    setup = loop.make_setup(devices, out, log_dir)
    for name in PARTS if part == "all" else (part,):
        made = make(name, data_dir, seed, min(seeds, 2) if quick else seeds, quick)
        baseline = "ReLU + dropout with the same optimizer" if name == "selu" else "none"
        folder = out / "variants" / (f"{name}-quick" if quick else name)
        caption = f"{made.score.capitalize()}; the baseline is {baseline}."
        made = made._replace(setup=setup)
        if name == "transformer":
            study_report.conduct(made, folder, caption, lambda _, made=made: transformer.conclude(made))
        else:
            study_report.conduct(made, folder, caption)


if __name__ == "__main__":
    cli.run(main)
