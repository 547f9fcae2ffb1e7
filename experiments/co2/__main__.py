"""Uncertainty away from the data: Figure 2 of Gal and Ghahramani, 2016.

Deep networks of ReLU or tanh with dropout learn a series of carbon dioxide and extrapolate it. Weight scaling
gives no sign of uncertainty. The mean of Monte-Carlo samples is no better, but with ReLU their
deviation grows away from the data; with tanh, which saturates, it does not.

Gal and Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning",
ICML 2016, section 5.1: 4 or 5 hidden layers of 1024 units, rates of .1 or .2, a million steps, 1000 samples.
Here 5 layers of 128 units and 40,000 steps on all points. The rate is .0137, which brings as much noise to a
layer of 128 as .1 to one of 1024: with .1 the small network never learns the series. The last 72 of the 272
points are held out to measure the error. Nothing is chosen by them.

    python -m experiments.co2 --data-dir DIR
    python -m experiments.co2 --rate 0.1 --data-dir DIR                      # too much noise for this width
    python -m experiments.co2 --width 1024 --steps 1000000 --data-dir DIR    # on a GPU
    python -m experiments.co2 --quick

MINUTES minutes on 2 CPU cores. Results: README.md in this folder.
"""

import time
from typing import Annotated, Any

import numpy as np
import typer
from etils import epath

from experiments import cli, data, hosts, loop, report
from experiments.co2 import networks, results

LAYERS = 5
QUICK: dict[str, Any] = {
    "hidden": (32, 32),
    "steps": 500,
    "rate": 0.1,
    "held_out": 20,
    "samples": 100,
    "points": 100,
}
CAPTION = (
    "Mean ± standard error over {} seeds. Coverage: the share (%) within two predictive deviations. "
    "Deviation: the mean of that of the sampled functions; far: in the last fifth of the plot."
)


def synthetic() -> tuple[np.ndarray, np.ndarray]:
    """Wave of 80 points with a trend and noise, for --quick."""
    x = np.linspace(-1.73, 1.73, 80)
    y = np.sin(6 * x) + 0.3 * x**2 + np.random.default_rng(0).normal(0, 0.1, len(x))
    return x.astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


def run(plan: networks.Plan, x: np.ndarray, y: np.ndarray, setup: loop.Setup, quick: bool) -> None:
    """Trains, predicts and publishes the results."""
    hosts.mesh(setup.devices, plan.seeds)
    folder = setup.out / ("co2-quick" if quick else "co2")
    config = plan._asdict() | {"learning_rate": networks.LEARNING_RATE}
    title = f"{plan.series}, {len(plan.hidden)} layers of {plan.hidden[0]}, dropout {plan.rate:.3g}"
    with loop.resumable(folder, config, (x, y)) as checkpoints:
        started = time.monotonic()
        grid = np.linspace(x[0], plan.end, plan.points, dtype=np.float32)
        series = results.Series(x, y, grid, len(x) - plan.held_out)
        curves = networks.run(plan, x, y, series.at(), checkpoints, setup)
        series, curves = series.in_units(), {name: results.in_ppm(found) for name, found in curves.items()}
        rows = {activation: results.summarize(series, found) for activation, found in curves.items()}
        claims = results.claims(rows)
        tables = [
            report.Table(plan.series, *results.table(rows), CAPTION.format(plan.seeds)),
            report.Table("Paired by seed; verdict at two standard errors", *results.claims_table(claims)),
        ]
        of_mean = f"{title}: mean ± standard error over {plan.seeds} seeds"
        figures = {
            "bands": results.plot(series, curves, f"{title}, {plan.samples} samples, seed {plan.seed}"),
            "training": results.plot_training(series, curves, plan.steps, of_mean),
        }
        learned = {name: found.learned for name, found in curves.items()}
        metrics = {"config": config, "networks": rows, "claims": claims, "learned": learned}
        report.publish(folder, tables, figures, metrics, started=started)


def main(
    data_dir: Annotated[epath.Path | None, cli.data_dir("co2/")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: cli.Seeds = 4,
    width: Annotated[int, typer.Option(min=1, help="Width of the hidden layers; 1024 in the paper.")] = 128,
    rate: Annotated[
        float | None,
        typer.Option(help="Dropout rate; by default as much noise per layer as .1 brings to 1024 units."),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(min=networks.CHUNKS, help="Training steps, a multiple of 20; 1,000,000 in the paper."),
    ] = 40_000,
    devices: cli.Devices = None,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Extrapolate a series beyond its data.

    Writes metrics.json, run.json, table.md, bands.png and training.png to OUT/co2 (co2-quick with --quick,
    which uses a synthetic series, small networks of rate .1 and at most 2 seeds).
    """
    setup = loop.make_setup(devices, out, log_dir)
    if rate is not None and not 0 < rate < 1:
        raise cli.BadInputError(f"`rate` must lie in (0, 1), got {rate:g}.")
    if steps % networks.CHUNKS:
        raise cli.BadInputError(f"`steps` must be a multiple of {networks.CHUNKS}, got {steps}.")
    x, y = synthetic() if quick else data.load_co2(data_dir)
    name = "a wave" if quick else "CO2 of Mauna Loa"
    rate = networks.matched_rate(width) if rate is None else rate
    full = {"hidden": (width,) * LAYERS, "steps": steps, "rate": rate}
    options: dict[str, Any] = QUICK if quick else full
    plan = networks.Plan(name, seed, min(seeds, 2) if quick else seeds, **options)
    if len(x) <= plan.held_out:
        raise cli.BadInputError(f"`co2` must have more than {plan.held_out} points, got {len(x)}.")
    run(plan, x, y, setup, quick)


if __name__ == "__main__":
    cli.run(main)
