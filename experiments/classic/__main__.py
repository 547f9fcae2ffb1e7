"""The two models of every dropout tutorial: are they as good as in Keras and torch, and as fast?

784-64-64-10 and 784-128-10, ReLU, dropout .5 after each hidden layer (Srivastava et al., 2014),
Adam at 1e-3, batches of 64, 5 epochs on MNIST; in Flax Linen and NNX with jaxdrop's modules, and in
Keras (on JAX) and torch where they are installed. All start from Keras' default (Glorot uniform
kernels, zero biases). The claim: test accuracies equal within 2 standard errors over 10 seeds.

    pip install -e ".[benchmark]"
    python -m experiments.classic --data-dir DIR

About 15 minutes on 2 CPU cores; a run that was stopped goes on with the seeds that are left.
Expected: 95.3 to 95.4 % and 97.1 %, standard errors of .05 and less. Times are of the CPU: with a
GPU, set JAX_PLATFORMS=cpu. What came out is in README.md, beside this file.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import typer
from matplotlib.figure import Figure

from experiments import cli, data, loop, report
from experiments.classic import peers
from experiments.classic.models import BY_STEPS, EPSILON, LEARNING_RATE, LINEN, OURS, Contender, Run, Task

MODELS = ((64, 64), (128,))
# Batches of 50, for the digits fill them: a last step of its own would double what is compiled.
QUICK: dict[str, Any] = {"hidden": (32,), "batch_size": 50}
COLORS = {"jaxdrop": "C0", "Keras": "C5", "torch": "C3"}


def train(task: Task, seeds: range, contenders: dict[str, Contender], folder: Path) -> dict[str, list[Run]]:
    """Every contender's run for every seed; the seeds that are already in the folder are read.

    Each seed trains all contenders in turn, from another one on, so that what a noisy machine does
    is done to all.
    """
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    names = list(contenders)
    ready = {name: contender(task) for name, contender in contenders.items()}
    bar, progress = cli.progress(task.name, len(seeds) * len(names))
    with bar:
        for seed in seeds:
            path = folder / f"{task.name}-{seed}.json"
            if not path.exists():
                first = seed % len(names)
                found = {}
                for name in names[first:] + names[:first]:
                    found[name] = ready[name](seed)
                    bar.advance(progress)
                report.write_json(path, found)
            else:
                bar.advance(progress, len(names))
            for name, run in json.loads(path.read_text()).items():
                runs[name].append(Run(*run))
    return runs


def scores(task: Task, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """A row for each contender: its accuracy, and the difference from that of Linen."""
    values = {name: np.array([run.accuracy for run in mine]) for name, mine in runs.items()}
    base, base_error = report.mean_and_error(values[LINEN])
    rows = []
    for name, mine in values.items():
        mean, error = report.mean_and_error(mine)
        row = {"model": task.name, "contender": name, "accuracy": mean, "accuracy_error": error}
        if name != LINEN and not name.endswith(BY_STEPS):
            # The runs of two contenders share nothing, not even for one seed: no pairs.
            row["difference"] = float(mean - base)
            row["difference_error"] = float(np.hypot(error, base_error))
            row["verdict"] = verdict(row["difference"], row["difference_error"])
        rows.append(row | {"accuracy_by_seed": mine})
    return rows


def verdict(difference: float, error: float) -> str:
    """Whether a difference is within two standard errors of it."""
    if not np.isfinite(error):
        return "one seed"
    return "yes" if abs(difference) <= 2 * error else "no"


def times(task: Task, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """A row for each contender: seconds of an epoch, and what the very first one takes beyond that."""
    rows = []
    for name, mine in runs.items():
        seconds = np.array([run.seconds for run in mine])
        later = seconds[:, 1:]
        rows.append(
            {
                "model": task.name,
                "contender": name,
                "epoch_s": np.median(later),
                "quartiles_s": np.percentile(later, (25, 75)),
                "compile_s": seconds[0, 0] - np.median(later[0]),
                "seconds": seconds,
            }
        )
    return rows


def table(scores: list[dict], times: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of one model."""
    header = ["", "accuracy %", "vs Linen", "within", "epoch s", "quartiles", "compile s"]
    body = []
    for score, time in zip(scores, times, strict=True):
        compared = "difference" in score
        low, high = time["quartiles_s"]
        body.append(
            [
                score["contender"],
                report.percent(score["accuracy"], score["accuracy_error"]),
                report.percent(score["difference"], score["difference_error"]) if compared else "-",
                score["verdict"] if compared else "-",
                f"{time['epoch_s']:.3g}",
                f"{low:.3g}-{high:.3g}",
                "-" if score["contender"] in peers.EAGER else f"{time['compile_s']:.1f}",
            ]
        )
    return header, body


def caption(seeds: int, comparisons: int) -> str:
    """What the columns mean."""
    return (
        f"Accuracy on the test part after the last epoch, mean ± standard error over {seeds} seeds. "
        "Vs Linen: the difference of the means; within: whether it is within 2 of its standard errors "
        f"(comparisons in all: {comparisons}). By steps: the training of the line above, a call for each "
        "step. Epoch: the median over seeds and epochs, each run's first left out; compile: what the "
        "very first one takes more."
    )


def plot(scores: list[dict], times: list[dict]) -> Figure:
    """Accuracies with their standard errors, and seconds of an epoch; a row of panels for each model."""
    models = list(dict.fromkeys(row["model"] for row in scores))
    count = len(scores) // len(models)
    figure, panels = plt.subplots(
        len(models), 2, squeeze=False, figsize=(10, (0.7 + 0.33 * count) * len(models) + 0.6)
    )
    for model, (left, right) in zip(models, panels, strict=True):
        mine = [row for row in scores if row["model"] == model]
        clock = [row for row in times if row["model"] == model]
        places = np.arange(count)[::-1]
        for place, score, time in zip(places, mine, clock, strict=True):
            color = COLORS[score["contender"].split()[0]]
            mean, error = 100 * score["accuracy"], 100 * score["accuracy_error"]
            left.errorbar(mean, place, xerr=error, fmt="o", color=color, capsize=3)
            low, high = time["quartiles_s"]
            right.barh(place, time["epoch_s"], color=color, height=0.6, alpha=0.85)
            right.plot((low, high), (place, place), color="black", lw=1.5)
            right.annotate(
                f"{time['epoch_s']:.3g}", (high, place), (5, 0), textcoords="offset points", va="center"
            )
        left.locator_params(axis="x", nbins=6)
        left.set_yticks(places, [row["contender"] for row in mine])
        right.set_yticks(places, [])
        right.set_xlim(0, 1.15 * max(time["quartiles_s"][1] for time in clock))
        for axis in (left, right):
            axis.set_title(model, fontsize=10)
            axis.set_ylim(-0.6, count - 0.4)
        left.set_xlabel("test accuracy (%), mean ± standard error")
        right.set_xlabel("seconds an epoch, median and quartiles")
    return figure


def main(
    data_dir: cli.DataDir = None,
    out: cli.Out = Path("results"),
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds; at least 2 for standard errors.")] = 10,
    epochs: Annotated[int, typer.Option(help="At least 2: the first is not timed, as it compiles.")] = 5,
    quick: cli.Quick = False,
) -> None:
    """Train the classic models in Linen, NNX, Keras and torch: accuracy and time per epoch.

    Writes metrics.json, run.json (times), table.md and comparison.png to OUT/classic/mnist
    (digits-quick with --quick, which takes one small model, 2 epochs and at most 2 seeds).
    """
    if quick:
        seeds, epochs = min(seeds, 2), 2
    cli.check_count("seed", seed, 0)
    cli.check_count("seeds", seeds)
    cli.check_count("epochs", epochs, 2)
    dataset = data.load("digits" if quick else "mnist", data_dir)
    found, missing = peers.load()
    for name in missing:
        cli.console.print(f"{name} is not installed, and is left out.")
    contenders = OURS | found
    settings: list[dict[str, Any]] = [QUICK] if quick else [{"hidden": hidden} for hidden in MODELS]
    tasks = [Task(dataset=dataset, epochs=epochs, **setting) for setting in settings]
    config = {
        "dataset": dataset.name,
        "models": [task.name for task in tasks],
        "contenders": list(contenders),
        "epochs": epochs,
        "rate": tasks[0].rate,
        "batch_size": tasks[0].batch_size,
        "learning_rate": LEARNING_RATE,
        "epsilon": EPSILON,
    }
    environment = report.environment(peers.PACKAGES)
    versions = {name: value for name, value in environment.items() if name != "date"}
    folder = out / "classic" / ("digits-quick" if quick else "mnist")
    done = loop.checkpoint_folder(folder, config | versions, dataset[1:])
    runs = [(task, train(task, range(seed, seed + seeds), contenders, done)) for task in tasks]
    write(
        folder,
        config | {"seed": seed, "seeds": seeds},
        {"environment": environment, "missing": missing},
        runs,
    )
    loop.forget(done)


def write(folder: Path, config: dict, about: dict, runs: list[tuple[Task, dict[str, list[Run]]]]) -> None:
    """Prints the tables and writes every result, each file whole or not at all."""
    accuracies = [scores(*run) for run in runs]
    seconds = [times(*run) for run in runs]
    comparisons = sum("difference" in row for rows in accuracies for row in rows)
    text = []
    for (task, _), *rows in zip(runs, accuracies, seconds, strict=True):
        header, body = table(*rows)
        report.print_table(f"{task.name}, {config['dataset']}", header, body)
        cli.console.print()
        text.append(f"{task.name}:\n\n{report.markdown_table(header, body)}")
    cli.console.print(caption(config["seeds"], comparisons), highlight=False)
    flat = [[row for rows in part for row in rows] for part in (accuracies, seconds)]
    report.write_figure(folder / "comparison.png", plot(*flat))
    report.write_text(folder / "table.md", "\n".join(text))
    report.write_json(folder / "run.json", about | {"times": flat[1]})
    report.write_json(folder / "metrics.json", {"config": config, "rows": flat[0]})
    cli.console.print(f"Written to {folder}/", highlight=False)


if __name__ == "__main__":
    cli.run(main)
