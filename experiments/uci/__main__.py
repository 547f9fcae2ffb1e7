"""Monte-Carlo dropout on the UCI regression sets, compared with its author's results split by split.

Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016, section 5.2, with the grid search
that Gal published in 2018 (github.com/yaringal/DropoutUncertaintyExps). One hidden layer of ReLUs, or more,
with dropout before every layer and at test time too. In each split, networks for a grid of dropout rates
and precisions tau are trained on the first 80 % of the training rows; the log-likelihood of the rest
chooses. A network with the chosen values is trained on all training rows and tested once with
10,000 samples. Expected test RMSE / test log-likelihood: Boston 2.90±.18 / -2.40±.04,
concrete 4.82±.16 / -2.93±.02, energy .54±.01 / -1.21±.01, kin8nm .08 / 1.14±.01, naval .00 / 4.45,
power plant 4.01±.04 / -2.80±.01, protein 4.27±.02 / -2.87. For two layers, the expected numbers and the
published rate and precision of each set are in README.md.

All splits and the whole grid, 240 networks, train in one compiled program.

    python -m experiments.uci --dataset bostonHousing --data-dir DIR
    python -m experiments.uci --dataset kin8nm --epochs 400 --data-dir DIR
    python -m experiments.uci --dataset kin8nm --layers 2 --rate 0.05 --tau 192.482910156 --data-dir DIR
    python -m experiments.uci --quick

3 to 5 minutes for a small set (Boston, energy, concrete) on 2 CPU cores; up to an hour for the larger sets,
or fewer epochs. Results: README.md in this folder.
"""

import time
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
from etils import epath

from experiments import cli, hosts, loop, own, parts, report, splits
from experiments.uci import compare, network, scores
from jaxdrop.training import TrainState

# The test uses as many as the original; fewer suffice to choose.
TEST_SAMPLES, VALIDATION_SAMPLES = 10_000, 1_000
QUICK_SAMPLES = 64
# Approximate number of evaluations during training.
CHUNKS = 40


class Plan(NamedTuple):
    """Configuration of a run; `seed` is the first of `seeds`."""

    dataset: str
    seed: int
    epochs: int
    validation_samples: int
    test_samples: int
    layers: int = 1
    seeds: int = 1


class Trained(NamedTuple):
    """Trained phase: its data, its runs, their precisions, and training errors during training."""

    part: splits.Part
    state: TrainState
    taus: np.ndarray
    curves: np.ndarray


def chunk(epochs: int) -> int:
    """Epochs between two evaluations: the most that divide `epochs` and give at least `CHUNKS` of them."""
    return next(n for n in range(max(1, epochs // CHUNKS), 0, -1) if epochs % n == 0)


def train(
    plan: Plan,
    problem: splits.Problem,
    phase: str,
    rates: np.ndarray,
    taus: np.ndarray,
    checkpoints: epath.Path,
    setup: loop.Setup,
) -> Trained:
    """Trains runs of rates `[S, R]` and precisions `[S, T]`; `phase` is "grid" or "chosen".

    Splits are divided over the devices.
    """
    grid = phase == "grid"
    names = [f"rate {rate:g}" for rate in rates[0]] if grid else ["chosen"]
    part = splits.part(problem, grid)
    trainer = network.trainer(problem.hidden, plan.layers)
    # Each split and phase has its own weights, batches and noise.
    seeds = [(plan.seed, int(grid), split) for split in range(len(taus))]
    cells = network.hyper(rates, taus, part.size)
    state, curves = loop.train(
        trainer,
        trainer.init(_keys(plan.seed, grid, len(taus)), seeds, cells, part.x.shape[-1]),
        jax.tree.map(jnp.asarray, part),
        network.training_error,
        steps=plan.epochs,
        every=chunk(plan.epochs),
        title=f"{problem.name}: {phase}, {cells.strength.size} networks, epochs",
        checkpoints=checkpoints / phase,
        own_batches=True,
        setup=setup,
        curves=lambda metrics: {f"train/{name}": metrics[:, i].ravel() for i, name in enumerate(names)},
    )
    _check_finite(curves[-1], rates, taus)
    return Trained(part, state, taus, curves)


def score(plan: Plan, trained: Trained, samples: int, title: str) -> scores.Scores:
    """Scores the runs on held-out rows, with keys that training did not use."""
    keys = jax.vmap(lambda key: jax.random.fold_in(key, plan.epochs))(trained.state.key)
    return scores.score(trained.state, trained.part, trained.taus, keys, samples, title)


def search(
    plan: Plan, problem: splits.Problem, checkpoints: epath.Path, setup: loop.Setup = loop.ALONE
) -> dict[str, Any]:
    """Trains the grid and chooses a rate and a precision for each split; with a single pair, trains nothing.

    Returns:
      "chosen_rate" and "chosen_tau", `[S]`; of a grid also its validation scores, `[S, R, T]`.
    """
    count = len(problem.train)
    rates, taus = (np.tile(values, (count, 1)) for values in (problem.rates, problem.taus))
    if rates.shape[1] == taus.shape[1] == 1:
        return {"chosen_rate": rates[:, 0], "chosen_tau": taus[:, 0]}
    trained = train(plan, problem, "grid", rates, taus, checkpoints, setup)
    scored = score(plan, trained, plan.validation_samples, "validation: splits")
    rate, tau = np.unravel_index(scored.ll.reshape(count, -1).argmax(1), scored.ll.shape[1:])
    chosen = {"chosen_rate": np.array(problem.rates)[rate], "chosen_tau": np.array(problem.taus)[tau]}
    return chosen | scored._asdict() | {"training_error": trained.curves[-1]}


def test(
    plan: Plan,
    problem: splits.Problem,
    chosen: dict[str, Any],
    checkpoints: epath.Path,
    setup: loop.Setup,
) -> dict[str, Any]:
    """Trains the chosen values on the whole training part and tests them."""
    rates, taus = chosen["chosen_rate"][:, None], chosen["chosen_tau"][:, None]
    trained = train(plan, problem, "chosen", rates, taus, checkpoints, setup)
    scored = score(plan, trained, plan.test_samples, "test: splits")
    found = {f"test_{name}": values.ravel() for name, values in scored._asdict().items()}
    return found | {"curves": trained.curves[..., 0, 0]}


def of_seed(
    plan: Plan, problem: splits.Problem, checkpoints: epath.Path, setup: loop.Setup
) -> dict[str, Any]:
    """Searches and tests with one seed, or reads what is finished; "seconds" are those of the search."""
    folder = checkpoints / f"seed-{plan.seed}"

    def timed_search() -> dict[str, Any]:
        started = time.monotonic()
        return search(plan, problem, folder, setup) | {"seconds": time.monotonic() - started}

    chosen = parts.kept(folder, "search", timed_search)
    tested = parts.kept(folder, "test", lambda: test(plan, problem, chosen, folder, setup))
    found: dict[str, Any] = {name: chosen.pop(name) for name in ("chosen_rate", "chosen_tau", "seconds")}
    return found | ({"validation": chosen} if chosen else {}) | tested


def run(plan: Plan, problem: splits.Problem, folder: epath.Path, setup: loop.Setup) -> None:
    """Searches and tests with each seed, and publishes the results."""
    hosts.mesh(setup.devices, len(problem.train))
    grid = {"rates": problem.rates, "taus": problem.taus, "hidden": problem.hidden}
    # What an ordinary run has once is not written.
    ordinary = {name for name in ("layers", "seeds") if getattr(plan, name) == 1}
    config = {name: value for name, value in plan._asdict().items() if name not in ordinary}
    config |= {"protocol_epochs": problem.epochs, "batch": network.BATCH} | grid
    arrays = (problem.x, problem.y, problem.train, problem.test)
    with loop.resumable(folder, config, arrays) as checkpoints:
        started = time.monotonic()
        each = [plan._replace(seed=plan.seed + i) for i in range(plan.seeds)]
        runs = [of_seed(one, problem, checkpoints, setup) for one in each]
        about = {"grid_seconds": sum(float(one.pop("seconds")) for one in runs)}
        found = runs[0] if plan.seeds == 1 else jax.tree.map(lambda *values: np.stack(values), *runs)
        summary = compare.summarize(found, problem.reference)
        same = compare.agreement(found["chosen_tau"], problem.reference)
        title = compare.title(problem, plan.layers, plan.epochs)
        caption = compare.caption(len(problem.train), plan.test_samples, summary, same, plan.seeds)
        table = report.Table(title, compare.HEADER, compare.body(summary), caption)
        figures = {problem.name: compare.plot(problem, found, title)}
        metrics = config | found | {"summary": summary, "same_tau": same}
        report.publish(folder, [table], figures, metrics, started=started, about=about)


def _keys(seed: int, grid: bool, count: int) -> jax.Array:
    phase = jax.random.fold_in(jax.random.key(seed), int(grid))
    return jax.vmap(lambda split: jax.random.fold_in(phase, split))(jnp.arange(count))


def _check_finite(errors: np.ndarray, rates: np.ndarray, taus: np.ndarray) -> None:
    """Checks that no network has diverged."""
    for split, rate, tau in np.argwhere(~np.isfinite(errors))[:1]:
        raise cli.BadInputError(
            f"`training error` must be finite, got {errors[split, rate, tau]} in split {split} at rate "
            f"{rates[split, rate]:g} and tau {taus[split, tau]:g}."
        )


def main(
    dataset: Annotated[
        str | None, typer.Option(help="The name of its folder, such as energy; by default bostonHousing.")
    ] = None,
    own_data: cli.Data = None,
    data_dir: Annotated[epath.Path | None, cli.data_dir("uci/NAME/", "--quick and --data need none.")] = None,
    out: cli.Out = cli.RESULTS,
    seed: cli.Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds; each repeats the whole run.")] = 1,
    layers: Annotated[int, typer.Option(min=1, help="Hidden layers, of equal widths.")] = 1,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Training epochs; by default those of the protocol.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Dropout rate instead of a search, with --tau.")] = None,
    tau: Annotated[float | None, typer.Option(help="Precision instead of a search, with --rate.")] = None,
    devices: cli.Devices = None,
    log_dir: cli.LogDir = None,
    quick: cli.Quick = False,
) -> None:
    """Repeat Gal's UCI regression experiments with Monte-Carlo dropout.

    Writes metrics.json, run.json, table.md and DATASET.png to OUT/uci/DATASET; what differs from the
    protocol is appended, as in DATASET-2-layers, DATASET-EPOCHS or DATASET-4-seeds. --quick uses
    scikit-learn's diabetes, a small grid and few epochs.
    """
    if own_data is not None and dataset is not None:
        raise cli.BadInputError(f"`dataset` must be left out with `data`, got {dataset}.")
    pair = _pair(rate, tau)
    setup = loop.make_setup(devices, out, log_dir)
    if own_data is not None:
        problem = own.regression(own_data, quick)
    else:
        problem = splits.quick(seed) if quick else splits.load(dataset or "bostonHousing", data_dir, layers)
    samples = (QUICK_SAMPLES, QUICK_SAMPLES) if quick else (VALIDATION_SAMPLES, TEST_SAMPLES)
    plan = Plan(problem.name, seed, epochs or problem.epochs, *samples, layers, seeds)
    differences = {
        "-quick": quick,
        f"-{layers}-layers": layers > 1,
        f"-{plan.epochs}": plan.epochs != problem.epochs,
        f"-rate-{rate}-tau-{tau}": bool(pair),
        f"-{seeds}-seeds": seeds > 1,
    }
    name = problem.name + "".join(text for text, there in differences.items() if there)
    run(plan, problem._replace(**pair), out / "uci" / name, setup)


def _pair(rate: float | None, tau: float | None) -> dict[str, tuple[float]]:
    """Grid of one pair; empty if none is given."""
    if rate is None and tau is None:
        return {}
    if rate is None or tau is None:
        raise cli.BadInputError(f"`rate` and `tau` must be given together, got {rate} and {tau}.")
    if not 0 <= rate < 1:
        raise cli.BadInputError(f"`rate` must lie in [0, 1), got {rate:g}.")
    least, most = 1 / splits.LARGEST, splits.LARGEST
    if not least <= tau <= most:
        raise cli.BadInputError(f"`tau` must lie in [{least:g}, {most:g}], got {tau:g}.")
    return {"rates": (rate,), "taus": (tau,)}


if __name__ == "__main__":
    cli.run(main)
