"""A ResNet with batch normalization and drop path: three ways to train it, and a sweep of its regularizers.

Do Flax's own loop, `training.trainer` and `training.sweep` take the same steps, in Linen and in NNX? One run
is trained in all six ways from the same weights, batches and keys, and the loss curves are compared. Does
drop path help? Drop rates and weight decays train with several seeds in one compiled program,
the setting is chosen on a validation part by the one-standard-error rule, and the test part is scored once.

    python -m experiments.resnet --data-dir DIR
    python -m experiments.resnet --quick

He et al., "Identity mappings in deep residual networks", 2016; Huang et al., "Deep networks with stochastic
depth", 2016 (CIFAR-10, 110 layers, 500 epochs: 6.41 % to 5.25 % test error). Here 10 layers and 2000 images
of Fashion-MNIST, for 2 CPU cores: 7 minutes of CPU time. Results:
README.md in this folder.
"""

import time
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from etils import epath

from experiments import cli, data, loop, report
from experiments.resnet import grid, networks, ways

WAYS: dict[str, Any] = {"steps": 100, "rate": 0.2, "decay": 1e-3}
QUICK: dict[str, Any] = {
    "shape": networks.Shape((4, 8), 1),
    "rates": (0.0, 0.2),
    "decays": (0.0, 1e-3),
    "train_size": 300,
    "valid_size": 200,
    "steps": 20,
    "chunks": 2,
}
QUICK_WAYS: dict[str, Any] = WAYS | {"steps": 10}


def images(examples: data.Dataset) -> tuple[grid.Images, grid.Images]:
    """Development and test part, standardized by one mean and deviation of the development part."""
    side = round(examples.x.shape[1] ** 0.5)
    mean, deviation = examples.x.mean(), examples.x.std()
    parts = (examples.x, examples.y), (examples.x_test, examples.y_test)
    pool, test = (
        grid.Images(jnp.asarray((x - mean) / deviation).reshape(-1, side, side, 1), jnp.asarray(y))
        for x, y in parts
    )
    return pool, test


def problem(plan: grid.Plan, pool: grid.Images, steps: int, rate: float, decay: float) -> ways.Problem:
    """One run of the first seed, for the comparison of the ways."""
    rows = np.random.default_rng(plan.seed).integers(len(pool.x), size=(steps, grid.BATCH))
    first = networks.init(plan.shape, plan.seed, pool.x.shape[1])
    key = jax.random.key(plan.seed)
    return ways.Problem(plan.shape, rate, decay, plan.learning_rate, *first, key, pool.x[rows], pool.y[rows])


def main(
    data_dir: Annotated[epath.Path | None, cli.data_dir("fashion-mnist/")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds, at least 2.")] = 5,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Train a ResNet in three ways, and choose its drop rate and weight decay.

    Writes metrics.json, run.json, table.md, ways.png and sweep.png to OUT/resnet/fashion-mnist
    (digits-quick with --quick, which uses a small network and 2 seeds). The rule needs at least 2 seeds.
    """
    setup = loop.make_setup(1, out, log_dir)
    plan = grid.Plan(seed, 2 if quick else seeds, **(QUICK if quick else {}))
    options = QUICK_WAYS if quick else WAYS
    examples = data.load("digits" if quick else "fashion-mnist", data_dir)
    pool, test = images(examples)
    config = {"dataset": examples.name, **plan._asdict(), "batch": grid.BATCH, "ways": options}
    folder = out / "resnet" / ("digits-quick" if quick else "fashion-mnist")
    with loop.resumable(folder, config, (pool, test)) as checkpoints:
        started = time.monotonic()
        curves = ways.train(problem(plan, pool, **options), checkpoints / "ways")
        found = grid.run(plan, pool, test, checkpoints / "sweep", setup)
        rows = ways.summarize(curves)
        report.publish(
            folder,
            [ways.table(rows), *grid.tables(plan, found)],
            {"ways": ways.plot(curves), "sweep": grid.plot(plan, found)},
            {
                "config": config,
                "ways": rows,
                "hyper": found.hyper,
                "valid_by_run": found.valid,
                "settings": grid.summarize(found),
            },
            started=started,
        )


if __name__ == "__main__":
    cli.run(main)
