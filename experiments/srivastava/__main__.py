"""Is dropout with max-norm the best regularizer of Table 9, and L2 the worst?

Srivastava et al., 2014, "Dropout: a simple way to prevent neural networks from overfitting", Table
9: six regularizers of the network 784-1024-1024-2048-10 (ReLU) on MNIST, test errors in percent:
L2 1.62, L2 + L1 towards the end of training 1.60, L2 + KL-sparsity 1.55, max-norm 1.35, dropout +
L2 1.25, dropout + max-norm 1.05. Every method, strength and seed trains in one vmapped program,
`jaxdrop.training.sweep`; strengths are chosen by the mean validation error over the seeds, and the
chosen cells are tested once.

    python -m experiments.srivastava --data-dir DIR
    python -m experiments.srivastava --data-dir DIR --scale 1
    python -m experiments.srivastava --quick

Scale 1 is the paper's widths and its million updates, for a GPU. Scale S has widths of S times and
updates of S**2 times as many: 0.1, the default, takes about 20 minutes on 2 CPU cores.
A run that was killed goes on from its last checkpoint when the same command is given again, and
ends with the same metrics.json. What came out is in README.md, beside this file.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import typer
from matplotlib.figure import Figure

from experiments import cli, data, loop, report
from experiments.regularizers.__main__ import verdict
from experiments.srivastava import methods

WIDTHS = (1024, 1024, 2048)
UPDATES = 1_000_000
# Widths are multiples of this many units, which keeps matrix products fast.
UNITS = 16
NAMES = {"input": "inputs", "hidden": "hidden", "l2": "L2", "l1": "L1", "kl": "KL", "max_norm": "norm"}
LEVELS = ("does not show", "shows in the means only", "shows at two standard errors")
# One hidden layer: what a quick form takes is mostly the compiling.
QUICK: dict[str, Any] = {"hidden": (32,), "steps": 160, "chunks": 8}
QUICK |= {"train_size": 800, "valid_size": 200, "probe_size": 200}


def scaled(dataset: str, seed: int, seeds: int, scale: float) -> methods.Config:
    """The paper's network and updates, made smaller."""
    hidden = tuple(UNITS * max(round(width * scale / UNITS), 1) for width in WIDTHS)
    chunks = methods.Config._field_defaults["chunks"]
    return methods.Config(
        dataset, seed, seeds, hidden, steps=chunks * max(round(UPDATES * scale**2 / chunks), 1)
    )


def summarise(results: dict[str, Any], published: dict[str, float]) -> list[dict[str, Any]]:
    """A row for each method: means and standard errors over the seeds, differences paired by seed."""
    rows = []
    tests = dict(zip(results["chosen"], results["test"].astype(np.float64), strict=True))
    for method, place in results["chosen"].items():
        train, valid = results["curves"][-1, place].T
        values = {"test": tests[method], "train": train, "valid": valid}
        values["difference"] = tests[method] - tests[methods.BASELINE]
        row: dict[str, Any] = {"method": method, "setting": methods.settings()[place][1]}
        for name, value in values.items():
            row[name], row[f"{name}_error"] = map(float, report.mean_and_error(value))
        own = method == methods.BASELINE
        row["verdict"] = "-" if own else verdict(row["difference"], row["difference_error"])
        # Every setting that was tried, so that a reader sees how flat the choice was.
        row["tried"] = [
            {"setting": setting, "valid": float(scores.mean())}
            for (name, setting), scores in zip(
                methods.settings(), results["curves"][-1, :, :, 1], strict=True
            )
            if name == method
        ]
        row |= {"published": published.get(method), "test_by_seed": tests[method]}
        rows.append(row | {"curves": results["curves"][:, place]})
    return rows


def order(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether dropout + max-norm is the best and L2 the worst: of all others, by paired differences."""
    found = {"best": extreme(rows, methods.BEST, 1), "worst": extreme(rows, methods.BASELINE, -1)}
    return {"shows": min((claim["shows"] for claim in found.values()), key=LEVELS.index), **found}


def extreme(rows: list[dict[str, Any]], method: str, sign: int) -> dict[str, Any]:
    """Whether all others have more errors than a method (`sign` 1), or fewer (-1)."""
    tests = {row["method"]: np.asarray(row["test_by_seed"]) for row in rows}
    mine = tests.pop(method)
    leads = {name: report.mean_and_error(sign * (other - mine)) for name, other in tests.items()}
    against = [name for name, (lead, _) in leads.items() if not lead > 0]
    unclear = [name for name, (lead, error) in leads.items() if lead > 0 and not lead > 2 * error]
    shows = LEVELS[0] if against else LEVELS[1] if unclear else LEVELS[2]
    return {"method": method, "shows": shows, "against": against, "unclear": unclear}


def sentences(found: dict[str, Any]) -> str:
    """The order in words."""
    lines = [f"The order that matters ({methods.BEST} best, {methods.BASELINE} worst) {found['shows']} here."]
    for place in ("best", "worst"):
        claim = found[place]
        details = [
            f"{words} {', '.join(claim[key])}"
            for key, words in (("against", "not so against"), ("unclear", "unclear against"))
            if claim[key]
        ]
        lines.append(f"{claim['method']} {place}: {'; '.join([claim['shows'], *details])}.")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the results."""
    header = ["method", "chosen", "test", "published", f"vs {methods.BASELINE}", "verdict"]
    return header, [
        [
            row["method"],
            ", ".join(f"{NAMES[name]}\u00a0{value:g}" for name, value in row["setting"].items()),
            report.percent(row["test"], row["test_error"]),
            "-" if row["published"] is None else f"{row['published']:.2f}",
            "-" if row["verdict"] == "-" else report.percent(row["difference"], row["difference_error"]),
            row["verdict"],
        ]
        for row in rows
    ]


def plot_comparison(rows: list[dict[str, Any]], config: methods.Config) -> Figure:
    """Test errors with their standard errors beside the published ones, and differences to L2."""
    places = np.arange(len(rows))[::-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for row, place in zip(rows, places, strict=True):
        color = {"helps": "C2", "hurts": "C3"}.get(row["verdict"], "0.4")
        for axis, name in ((left, "test"), (right, "difference")):
            if name == "test" or row["verdict"] != "-":
                mean, error = 100 * row[name], 100 * row[f"{name}_error"]
                axis.errorbar(mean, place, xerr=error, fmt="o", color=color, capsize=3)
        if row["published"] is not None:
            left.plot(row["published"], place, "kx", label="published, full size, one run")
    left.set_xlabel("test error (%)")
    right.axvline(0, color="0.6", ls=":")
    right.set_xlabel(f"test error minus that of {methods.BASELINE} (points), paired by seed")
    left.set_yticks(places, [row["method"] for row in rows])
    left.set_ylim(-0.6, len(rows) - 0.4)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles[:1], labels[:1], loc="outside lower center", frameon=False)
    figure.suptitle(
        f"{subject(config)}: mean ± standard error over {config.seeds} seeds\n"
        f"green is better than {methods.BASELINE}, red worse, grey unclear or {methods.BASELINE} itself "
        "(at two standard errors)",
        fontsize=10,
    )
    return figure


def plot_curves(rows: list[dict[str, Any]], config: methods.Config) -> Figure:
    """Validation and training errors of the chosen settings over the updates."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharex=True)
    steps = config.steps // config.chunks * np.arange(1, config.chunks + 1)
    for axis, part, title in ((axes[0], 1, "validation"), (axes[1], 0, "training")):
        for i, row in enumerate(rows):
            mean, error = report.mean_and_error(100 * np.asarray(row["curves"])[:, :, part])
            axis.plot(steps, mean, color=f"C{i}", label=row["method"] if part else None)
            axis.fill_between(steps, mean - error, mean + error, color=f"C{i}", alpha=0.2)
        axis.set_xlabel("update")
        axis.set_ylabel(f"{title} error, without noise (%)")
        # The first quarter of the updates would take up most of the height.
        late = [np.asarray(row["curves"])[config.chunks // 4 :, :, part].mean(1).max() for row in rows]
        axis.set_ylim(0, 110 * max(late))
    figure.legend(loc="outside lower center", ncols=len(rows), frameon=False, fontsize=9)
    figure.suptitle(f"{subject(config)}: mean ± standard error over {config.seeds} seeds", fontsize=10)
    return figure


def subject(config: methods.Config) -> str:
    """What was trained on what."""
    widths = "-".join(map(str, config.hidden))
    return f"{config.dataset}, hidden layers {widths}, {config.steps} updates"


def main(
    data_dir: cli.DataDir = None,
    out: cli.Out = Path("results"),
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds; at least 2 for standard errors.")] = 4,
    scale: Annotated[float, typer.Option(help="The share of the paper's widths, at most 1.")] = 0.1,
    save_every: Annotated[
        float, typer.Option(help="The least seconds between checkpoints; 0 saves as often as it can.")
    ] = loop.SECONDS_BETWEEN_CHECKPOINTS,
    quick: cli.Quick = False,
) -> None:
    """Compare the regularizers of Srivastava et al., 2014, Table 9, on MNIST.

    Writes metrics.json, run.json (when, where, how long), table.md, comparison.png and
    learning_curves.png to OUT/srivastava/mnist (digits-quick with --quick, which sets the sizes
    itself). Given again after a kill, it goes on from the last checkpoint.
    """
    cli.check_count("seed", seed, 0)
    cli.check_count("seeds", seeds)
    if not 0 < scale <= 1:
        raise cli.BadInputError(f"`scale` must lie in (0, 1], got {scale:g}.")
    if not save_every >= 0:
        raise cli.BadInputError(f"`save_every` must be at least 0, got {save_every:g}.")
    dataset = data.load("digits" if quick else "mnist", data_dir)
    config = scaled(dataset.name, seed, min(seeds, 2) if quick else seeds, scale)
    folder = out / "srivastava" / ("digits-quick" if quick else "mnist")
    if quick:
        config = config._replace(**QUICK)
    settings = [setting for _, setting in methods.settings()]
    checkpoints = loop.checkpoint_folder(folder, {**config._asdict(), "settings": settings}, dataset[1:])
    began = time.monotonic()
    results = methods.train(config, dataset, checkpoints, save_every)
    rows = summarise(results, {} if quick else methods.PUBLISHED)
    write(folder, config, rows, time.monotonic() - began)
    loop.forget(checkpoints)


def write(folder: Path, config: methods.Config, rows: list[dict[str, Any]], seconds: float) -> None:
    """Prints the table and writes every result, each file whole or not at all, metrics.json last."""
    header, body = table(rows)
    found = order(rows)
    caption = (
        f"In percent: mean ± standard error over {config.seeds} seeds, each with its own "
        f"{config.train_size} training and {config.valid_size} validation images; all "
        "test images. Chosen: by the validation error. Published: Srivastava et al., 2014, at full size. "
        f"Vs {methods.BASELINE}: the difference of the test errors, paired by seed; the verdict "
        "is at two standard errors of it."
    )
    report.print_table(f"Errors on {subject(config)}", header, body, caption)
    cli.console.print(sentences(found), highlight=False)
    report.write_figure(folder / "learning_curves.png", plot_curves(rows, config))
    report.write_figure(folder / "comparison.png", plot_comparison(rows, config))
    report.write_text(folder / "table.md", report.markdown_table(header, body))
    # Seconds of this start alone; all that may differ between two runs of one command is here.
    report.write_json(folder / "run.json", {"seconds": seconds, "environment": report.environment()})
    content = {"config": config._asdict(), "order": found, "methods": rows}
    report.write_json(folder / "metrics.json", content)
    cli.console.print(f"{seconds:.0f} s. Written to {folder}/", highlight=False)


if __name__ == "__main__":
    cli.run(main)
