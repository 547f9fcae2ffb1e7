"""Accuracy and speed of two classic dropout models, compared with Keras and torch.

784-64-64-10 and 784-128-10, ReLU, dropout .5 after each hidden layer (Srivastava et al., 2014),
Adam at 1e-3, batches of 64, 5 epochs on MNIST; in Flax Linen and NNX with jaxdrop's modules, and in
Keras (on JAX) and torch where they are installed. All use Keras's default initialization (Glorot uniform
kernels, zero biases). The claim: test accuracies equal within 2 standard errors over 10 seeds.

    pip install -e ".[benchmark]"
    python -m experiments.classic --data-dir DIR

About 15 minutes on 2 CPU cores; the same command given again resumes with the remaining seeds.
Expected: 95.3 to 95.4 % and 97.1 %, standard errors of .05 and less. Times are of the CPU: with a
GPU, set JAX_PLATFORMS=cpu. Results: README.md in this folder.
"""

import time
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import typer
from etils import epath
from matplotlib.figure import Figure

from experiments import cli, data, logs, loop, parts, plots, report
from experiments.classic import peers
from experiments.classic.models import BY_STEPS, EPSILON, LEARNING_RATE, LINEN, OURS, Contender, Run, Task
from experiments.means import Mean

MODELS = ((64, 64), (128,))
# Batches of 50 divide the 1000 digits: a smaller last batch would double the compilation.
QUICK: dict[str, Any] = {"hidden": (32,), "batch_size": 50}
COLORS = {"jaxdrop": plots.BLUE, "Keras": plots.ORANGE, "torch": plots.VERMILION}


def train(
    task: Task,
    seeds: range,
    contenders: dict[str, Contender],
    folder: epath.Path,
    setup: loop.Setup = loop.ALONE,
) -> dict[str, list[Run]]:
    """Trains every contender with every seed, or reads the seeds already in the folder.

    Each seed trains the contenders in turn, starting with another one, so that noise of the machine affects
    all. Live curves are of the accuracy by seed, and of the seconds of each epoch of all seeds.
    """
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    names = list(contenders)
    ready = {name: contender(task) for name, contender in contenders.items()}
    bar, progress = cli.progress(task.name, len(seeds) * len(names))
    with bar, logs.writer(setup.log_folder(folder / task.name)) as log:
        for k, seed in enumerate(seeds):
            first = seed % len(names)

            def compute(seed: int = seed, order: list[str] = names[first:] + names[:first]) -> dict:
                found = {}
                for name in order:
                    run = ready[name](seed)
                    found[name] = [run.accuracy, *run.seconds]
                    bar.advance(progress)
                return found

            for name, (accuracy, *seconds) in parts.kept(folder, f"{task.name}-{seed}", compute).items():
                runs[name].append(Run(float(accuracy), [float(value) for value in seconds]))
                log(seed, {f"test/{name}": accuracy})
                for epoch, value in enumerate(seconds, k * task.epochs):
                    log(epoch, {f"epoch_s/{name}": value})
            bar.update(progress, completed=(k + 1) * len(names))
    return runs


def scores(task: Task, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Row of each contender: its accuracy, and the difference from that of Linen."""
    values = {name: np.array([run.accuracy for run in mine]) for name, mine in runs.items()}
    base = Mean.of(values[LINEN])
    rows = []
    for name, mine in values.items():
        mean = Mean.of(mine)
        row: dict[str, Any] = {"model": task.name, "contender": name, "accuracy": mean}
        if name != LINEN and not name.endswith(BY_STEPS):
            # The runs of two contenders are independent, even for the same seed: no pairs.
            row["difference"] = Mean(mean.value - base.value, float(np.hypot(mean.error, base.error)))
            row["verdict"] = row["difference"].verdict(lower="no", higher="no", unclear="yes")
        rows.append(row | {"accuracy_by_seed": mine})
    return rows


def times(task: Task, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Row of each contender: seconds per epoch, and the extra seconds of the very first one."""
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


def table(title: str, scores: list[dict], times: list[dict]) -> report.Table:
    """Table of one model."""
    header = ["", "accuracy %", "vs Linen", "within", "epoch s", "quartiles", "compile s"]
    body = []
    for score, seconds in zip(scores, times, strict=True):
        low, high = seconds["quartiles_s"]
        compared = [score["difference"].percent(), score["verdict"]] if "difference" in score else ["-", "-"]
        compiling = "-" if score["contender"] in peers.EAGER else f"{seconds['compile_s']:.1f}"
        clock = [f"{seconds['epoch_s']:.3g}", f"{low:.3g}-{high:.3g}", compiling]
        body.append([score["contender"], score["accuracy"].percent(), *compared, *clock])
    return report.Table(title, header, body)


def caption(seeds: int, comparisons: int) -> str:
    """Meaning of the columns."""
    return (
        f"Accuracy on the test part after the last epoch, mean ± standard error over {seeds} seeds. "
        "Vs Linen: the difference of the means; within: whether it is within 2 of its standard errors "
        f"(comparisons in all: {comparisons}). By steps: the same training with one call per step. Epoch: "
        "the median over seeds and epochs, without the first of each run; compile: the extra time of the "
        "very first epoch."
    )


def plot(scores: list[dict], times: list[dict]) -> Figure:
    """Accuracies with standard errors, and seconds per epoch; one row of panels per model."""
    models = list(dict.fromkeys(row["model"] for row in scores))
    count = len(scores) // len(models)
    figure, panels = plt.subplots(
        len(models), 2, squeeze=False, figsize=(10, (0.7 + 0.33 * count) * len(models) + 0.6)
    )
    for model, (left, right) in zip(models, panels, strict=True):
        mine = [row for row in scores if row["model"] == model]
        clock = [row for row in times if row["model"] == model]
        places = np.arange(count)[::-1]
        for place, score, seconds in zip(places, mine, clock, strict=True):
            color = COLORS[score["contender"].split()[0]]
            mean, error = 100 * np.array(score["accuracy"])
            left.errorbar(mean, place, xerr=error, fmt="o", color=color, capsize=3)
            low, high = seconds["quartiles_s"]
            right.barh(place, seconds["epoch_s"], color=color, height=0.6, alpha=0.85)
            right.plot((low, high), (place, place), color="black", lw=1.5)
            right.annotate(
                f"{seconds['epoch_s']:.3g}", (high, place), (5, 0), textcoords="offset points", va="center"
            )
        left.locator_params(axis="x", nbins=6)
        left.set_yticks(places, [row["contender"] for row in mine])
        right.set_yticks(places, [])
        right.set_xlim(0, 1.15 * max(row["quartiles_s"][1] for row in clock))
        for axis in (left, right):
            axis.set_title(model)
            axis.set_ylim(-0.6, count - 0.4)
        left.set_xlabel("test accuracy (%), mean ± standard error")
        right.set_xlabel("seconds per epoch, median and quartiles")
    return figure


def main(
    data_dir: Annotated[epath.Path | None, cli.data_dir("mnist/")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 10,
    epochs: Annotated[
        int, typer.Option(min=2, help="Epochs, at least 2: the first compiles and is not timed.")
    ] = 5,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Train the classic models in Linen, NNX, Keras and torch: accuracy and time per epoch.

    Writes metrics.json, run.json (times), table.md and comparison.png to OUT/classic/mnist
    (digits-quick with --quick, which uses one small model, 2 epochs and at most 2 seeds).
    """
    if quick:
        seeds, epochs = min(seeds, 2), 2
    setup = loop.make_setup(1, out, log_dir)
    dataset = data.load("digits" if quick else "mnist", data_dir)
    found, missing = peers.load()
    for name in missing:
        cli.say(f"{name} is not installed and is left out.")
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
    versions = report.versions(peers.PACKAGES) | report.machine()
    folder = setup.out / "classic" / ("digits-quick" if quick else "mnist")
    with loop.resumable(folder, config | versions, dataset[1:]) as done:
        started = time.monotonic()
        runs = [(task, train(task, range(seed, seed + seeds), contenders, done, setup)) for task in tasks]
        summaries = [(scores(*run), times(*run)) for run in runs]
        accuracies, seconds = (
            [row for part in column for row in part] for column in zip(*summaries, strict=True)
        )
        report.publish(
            folder,
            [
                table(f"{task.name}, {dataset.name}", *part)
                for task, part in zip(tasks, summaries, strict=True)
            ],
            {"comparison": plot(accuracies, seconds)},
            {"config": config | {"seed": seed, "seeds": seeds}, "rows": accuracies},
            started=started,
            note=caption(seeds, sum("difference" in row for row in accuracies)),
            about={"environment": report.environment(peers.PACKAGES), "missing": missing, "times": seconds},
        )


if __name__ == "__main__":
    cli.run(main)
