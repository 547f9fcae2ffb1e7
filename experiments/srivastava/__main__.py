"""Regularizers of Srivastava et al., 2014, Table 9: is dropout with max-norm the best, L2 the worst?

Srivastava et al., 2014, "Dropout: a simple way to prevent neural networks from overfitting", Table
9: six regularizers of the network 784-1024-1024-2048-10 (ReLU) on MNIST, test errors in percent:
L2 1.62, L2 + L1 towards the end of training 1.60, L2 + KL-sparsity 1.55, max-norm 1.35, dropout +
L2 1.25, dropout + max-norm 1.05. Every method, strength and seed trains in one program,
`jaxdrop.training.sweep`; strengths are chosen by the mean validation error over the seeds, and the
chosen runs are tested once.

    python -m experiments.srivastava --data-dir DIR
    python -m experiments.srivastava --data-dir DIR --scale 1
    python -m experiments.srivastava --quick

Scale 1 has the paper's widths and its million updates, for a GPU. Scale S multiplies widths by S and
updates by S**2: 0.1, the default, takes about 20 minutes on 2 CPU cores. The same command given again
resumes a killed run from its last checkpoint and ends with the same metrics.json. Results: README.md in
this folder.
"""

from typing import Annotated, Any

import jax
import typer
from etils import epath

from experiments import cli, data, loop, study, study_report
from experiments.means import Mean
from experiments.srivastava import methods

WIDTHS = (1024, 1024, 2048)
UPDATES = 1_000_000
# Widths are multiples of this many units, which keeps matrix products fast.
UNITS = 16
LEVELS = ("does not show", "shows in the means only", "shows at two standard errors")
# One hidden layer: compilation takes most of the smoke test's time.
QUICK: dict[str, Any] = {"hidden": (32,), "steps": 160, "chunks": 8}
QUICK |= {"train_size": 800, "valid_size": 200, "probe_size": 200}


def scaled(dataset: str, seed: int, seeds: int, scale: float) -> methods.Config:
    """Configuration with the paper's widths and updates scaled down."""
    hidden = tuple(UNITS * max(round(width * scale / UNITS), 1) for width in WIDTHS)
    chunks = methods.Config._field_defaults["chunks"]
    return methods.Config(
        dataset, seed, seeds, hidden, steps=chunks * max(round(UPDATES * scale**2 / chunks), 1)
    )


def order(rows: list[study.Row]) -> dict[str, Any]:
    """Whether dropout + max-norm is the best method and L2 the worst, by paired differences."""
    found = {"best": extreme(rows, methods.BEST, 1), "worst": extreme(rows, methods.BASELINE, -1)}
    return {"shows": min((claim["shows"] for claim in found.values()), key=LEVELS.index), **found}


def extreme(rows: list[study.Row], method: str, sign: int) -> dict[str, Any]:
    """Whether all other methods have more errors than `method` (`sign` 1), or fewer (-1)."""
    tests = {row.method.name: row.test_by_seed for row in rows}
    mine = tests.pop(method)
    leads = {name: Mean.of(sign * (other - mine)) for name, other in tests.items()}
    against = [name for name, (lead, _) in leads.items() if not lead > 0]
    unclear = [name for name, (lead, error) in leads.items() if lead > 0 and not lead > 2 * error]
    shows = LEVELS[0] if against else LEVELS[1] if unclear else LEVELS[2]
    return {"method": method, "shows": shows, "against": against, "unclear": unclear}


def sentences(found: dict[str, Any]) -> str:
    """Result of `order` in words."""
    lines = [f"The order that matters ({methods.BEST} best, {methods.BASELINE} worst) {found['shows']} here."]
    for place in ("best", "worst"):
        claim = found[place]
        details = [
            f"{words} {', '.join(claim[key])}"
            for key, words in (("against", "not shown against"), ("unclear", "unclear against"))
            if claim[key]
        ]
        lines.append(f"{claim['method']} {place}: {'; '.join([claim['shows'], *details])}.")
    return "\n".join(lines)


def conclude(rows: list[study.Row]) -> tuple[dict[str, Any], str]:
    """The claim about the order, for metrics.json and in words."""
    found = order(rows)
    return {"order": found}, sentences(found)


def main(
    data_dir: Annotated[epath.Path | None, cli.data_dir("mnist/")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 4,
    scale: cli.Scale = 0.1,
    save_every: Annotated[
        float, typer.Option(help="Least seconds between checkpoints; 0 saves after every evaluation.")
    ] = loop.SECONDS_BETWEEN_CHECKPOINTS,
    devices: cli.Devices = None,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Compare the regularizers of Srivastava et al., 2014, Table 9, on MNIST.

    Writes metrics.json, run.json (date, machine, seconds), table.md, comparison.png and
    learning_curves.png to OUT/srivastava/mnist (digits-quick with --quick, which sets the sizes
    itself). The same command given again resumes from the last checkpoint.
    """
    # Above a tenth, the weights of all runs are far larger than the caches of a CPU.
    in_turn = scale > 0.1 and jax.default_backend() == "cpu"
    setup = loop.make_setup(devices, out, log_dir)._replace(in_turn=in_turn)
    if not save_every >= 0:
        raise cli.BadInputError(f"`save_every` must be at least 0, got {save_every:g}.")
    examples = data.load("digits" if quick else "mnist", data_dir)
    config = scaled(examples.name, seed, min(seeds, 2) if quick else seeds, scale)
    if quick:
        config = config._replace(**QUICK)
    caption = (
        f"In percent; {config.train_size} training and {config.valid_size} validation images per seed; all "
        "test images. Published: Srivastava et al., 2014, at full size."
    )
    folder = out / "srivastava" / ("digits-quick" if quick else "mnist")
    made = methods.make(config, examples, {} if quick else methods.PUBLISHED)
    study_report.conduct(made._replace(setup=setup), folder, caption, conclude, save_every)


if __name__ == "__main__":
    cli.run(main)
