"""Error against time: independent samples, balanced masks, matched samples, and moments without samples.

The claim, for networks that were trained with dropout: `mc.moments` gives the covariance of the logits at
least 100 times (MLP), 20 times (residual network), 10 times (CNN) and twice (ViT) as fast as independent
samples of `mc.estimate` with the same error. The best of the methods gives class probabilities and the
ranking by mutual information at least 4 times as fast. Balanced masks need a quarter of the passes for the
mean of a regression. Each claim gets a verdict, and the table and the plots show the losses too.

    python -m experiments.samples --data-dir DIR
    python -m experiments.samples --quick

Networks for MNIST, with notMNIST out of distribution, and Gal's networks for three regression sets. The
reference is many samples, in two halves, so that its noise cancels. All methods of a network are timed in
turn, with loops of Flax and torch. A run that was stopped continues. Less than 15 minutes on 2 CPU cores.
Results: README.md in this folder.
"""

import importlib.util
import time
from typing import Annotated, Any

import numpy as np
from etils import epath

from experiments import cli, data, loop, report, splits
from experiments.samples import evaluate, figures, measures, methods, results, tasks

QUICK: dict[str, Any] = {
    "images": 16,
    "table_steps": 100,
    "table_truth": 400,
    "counts": methods.Counts((1, 4, 16), (32,), (24,), (128,)),
    "peer_counts": (4, 16),
    "rounds": 2,
}


def load(plan: evaluate.Plan, data_dir: epath.Path | None, quick: bool) -> list[tasks.Task]:
    """Tasks: the networks for images, and the regression sets."""
    examples = data.load("digits" if quick else "mnist", data_dir)
    rng = np.random.default_rng(plan.seed)
    others = rng.permuted(examples.x_test, axis=1) if quick else data.load_letters(data_dir)[0]
    sets = [splits.quick(plan.seed)] if quick else [splits.load(name, data_dir) for name in plan.sets]
    return tasks.of_images(examples, others, plan.images, plan.seed, quick) + [
        tasks.of_table(problem, plan.table_steps, plan.table_truth) for problem in sets
    ]


def run(plan: evaluate.Plan, made: list[tasks.Task], folder: epath.Path, setup: loop.Setup) -> None:
    """Measures every task and publishes the results."""
    shown = {task.name: (repr(task.model), task.steps, task.truth) for task in made}
    config = plan._asdict() | {"counts": plan.counts._asdict(), "tasks": shown}
    arrays = [(task.train, task.x, task.y) for task in made]
    with loop.resumable(folder, config, arrays) as checkpoints:
        started = time.monotonic()
        found = [evaluate.run(plan, task, checkpoints, setup) for task in made]
        ratios = {result.name: results.ratios(result) for result in found}
        goals = results.goals(ratios, [result.name for result in found if not result.classes])
        report.publish(
            folder,
            tables(found, ratios, goals),
            figures.figures(found),
            {"config": config, "tasks": {result.name: summary(result) for result in found}},
            started=started,
            about={
                "environment": report.environment(("torch",)),
                "times": {result.name: result.times for result in found},
                "ratios": named(ratios),
                "goals": [goal._asdict() | {"ratio": goal.ratio.show()} for goal in goals],
            },
        )


def tables(
    found: list[evaluate.Result], ratios: results.Ratios, goals: list[results.Goal]
) -> list[report.Table]:
    """Errors of each task, the time to equal error, and the goals."""
    shown = [table for result in found for table in results.error_tables(result)]
    return [*shown, *results.ratio_tables(found, ratios), results.goal_table(goals)]


def summary(result: evaluate.Result) -> dict[str, Any]:
    """Root mean squared errors with standard errors, AUROC of every repeat, refusals, and training losses."""
    errors = {
        label: {name: measures.root(squared) for name, squared in row.items()}
        for label, row in result.errors.items()
    }
    return {"errors": errors, "auroc": result.scores, "refused": result.refused, "losses": result.losses}


def named(ratios: results.Ratios) -> dict[str, Any]:
    """Ratios as a tree with plain names."""
    return {
        task: {
            method: {f"{measure}/{price}": ratio._asdict() for (measure, price), ratio in row.items()}
            for method, row in rows.items()
        }
        for task, rows in ratios.items()
    }


def main(
    data_dir: Annotated[epath.Path | None, cli.data_dir("mnist/, notmnist/ and uci/")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Compare ways to estimate what Monte-Carlo dropout estimates, by error and time.

    Writes metrics.json, run.json, table.md, images.png, outputs.png and regression.png to OUT/samples
    (samples-quick with --quick, which uses scikit-learn's digits and diabetes, and small networks). Times are
    in run.json.
    """
    setup = loop.make_setup(1, out, log_dir)
    if importlib.util.find_spec("torch") is None:
        cli.say("torch is not installed and is left out.")
    plan = evaluate.Plan(seed, **(QUICK if quick else {}))
    run(plan, load(plan, data_dir, quick), out / ("samples-quick" if quick else "samples"), setup)


if __name__ == "__main__":
    cli.run(main)
