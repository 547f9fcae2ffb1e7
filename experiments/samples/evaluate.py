"""Errors and times of all methods for one task; every part is cached."""

import hashlib
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from experiments import cli, loop, parts, timing
from experiments.samples import measures, methods, peers, tasks

# What a number of samples is repeated for, at most `MOST_REPEATS` times: small numbers are noisy and cheap.
REPEATED_SAMPLES, MOST_REPEATS = 2_000, 16
# Independent samples whose mean and covariance are also timed alone.
ALONE = "independent outputs"
AUROC, REFERENCE = "auroc", "reference"


class Plan(NamedTuple):
    """Configuration of the comparison.

    Attributes:
      seed: The seed of weights, noise and images.
      images: The number of images in distribution, and out of it.
      sets: The regression sets.
      table_steps: The training steps on a regression set.
      table_truth: The number of samples of the reference of a regression set.
      counts: The numbers of samples of each method.
      peer_counts: The numbers of samples of the loops of Flax and torch.
      rounds: The interleaved rounds of timing.
    """

    seed: int
    images: int = 64
    sets: tuple[str, ...] = ("bostonHousing", "concrete", "energy")
    table_steps: int = 2_000
    table_truth: int = 100_000
    counts: methods.Counts = methods.Counts()
    peer_counts: tuple[int, ...] = (10, 100)
    rounds: int = 7


class Result(NamedTuple):
    """Results of one task.

    Attributes:
      name: The name of the task.
      classes: Whether it has classes.
      samples: The number of samples of each method by label; 0 for none.
      refused: Labels of the methods that refuse the network.
      errors: Squared errors of examples by label and measure, means over repeats, `[B]`.
      floors: Noise of the reference by measure.
      scores: AUROC by label, of every repeat, and of the reference; empty for regression.
      times: Milliseconds of each round by label, with those of the peers.
      losses: The training losses.
    """

    name: str
    classes: bool
    samples: dict[str, int]
    refused: list[str]
    errors: dict[str, dict[str, np.ndarray]]
    floors: dict[str, float]
    scores: dict[str, np.ndarray]
    times: dict[str, np.ndarray]
    losses: np.ndarray


def repeats(count: int) -> int:
    """Number of repeats of a method of `count` samples."""
    return min(max(REPEATED_SAMPLES // count, 1), MOST_REPEATS) if count else 1


def key_of(seed: int, name: str, index: int) -> jax.Array:
    """Key of a repeat of a method, or of a half of the reference."""
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") >> 1
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), number), index)


def run(plan: Plan, task: tasks.Task, folder: epath.Path, setup: loop.Setup = loop.ALONE) -> Result:
    """Trains the network of a task, and measures the errors and the times of all methods."""
    trained = tasks.train(task, plan.seed, folder / task.name, setup)
    predict = tasks.predictor(task, trained)
    made = methods.make(task, predict, trained.precision, plan.counts, task.x, task.y)
    # The reference first: it is the longest part.
    reference = methods.of_samples(task, predict, trained.precision, task.truth // 2, *_rows(task))
    bar, task_id = cli.progress(f"{task.name}: methods", 2 + len(made))
    errors: dict[str, dict[str, np.ndarray]] = {}
    scores: dict[str, np.ndarray] = {}
    with bar:
        halves = []
        for i in range(2):
            key = key_of(plan.seed, "reference", i)
            name = f"{task.name}-reference-{i}"
            halves.append(parts.kept(folder, name, lambda key=key: methods.arrays(reference(key))))
            bar.advance(task_id)
        for method in made:
            name = f"{task.name}-{method.label}"
            found = parts.kept(folder, name, lambda of=method: _measured(plan, task, of, halves))
            if AUROC in found:
                scores[method.label] = found.pop(AUROC)
            if found:
                errors[method.label] = found
            bar.advance(task_id)
    refused = [method.label for method in made if method.label not in errors]
    made = [method for method in made if method.label in errors]
    if task.classes:
        information = (halves[0]["mutual_information"] + halves[1]["mutual_information"]) / 2
        scores[REFERENCE] = np.array([measures.auroc(information, len(task.y))])
    times = parts.kept(folder, f"{task.name}-times", lambda: _times(plan, task, trained, predict, made))
    samples = {method.label: method.samples for method in made}
    floors = measures.floors((halves[0], halves[1]))
    return Result(task.name, task.classes, samples, refused, errors, floors, scores, times, trained.losses)


def _rows(task: tasks.Task) -> tuple[jax.Array, jax.Array]:
    return jax.numpy.asarray(task.x), jax.numpy.asarray(task.y)


def _measured(plan: Plan, task: tasks.Task, method: methods.Method, halves: list) -> dict[str, np.ndarray]:
    """Squared errors, means over repeats, and the AUROC of every repeat; nothing if the method refuses."""
    rows, scores = [], []
    for i in range(repeats(method.samples)):
        try:
            found = methods.arrays(method.estimate(key_of(plan.seed, method.label, i)))
        except ValueError as error:
            cli.say(f"{task.name}: {method.label} is left out: {error}")
            return {}
        rows.append(measures.squared_errors(found, (halves[0], halves[1])))
        if "mutual_information" in found:
            scores.append(measures.auroc(found["mutual_information"], len(task.y)))
    means = {name: np.mean([row[name] for row in rows], 0) for name in rows[0]}
    return means | ({AUROC: np.array(scores)} if scores else {})


def _times(
    plan: Plan, task: tasks.Task, trained: tasks.Trained, predict: object, made: list[methods.Method]
) -> dict[str, np.ndarray]:
    """Interleaved times of all methods, of independent samples without classes, and of the peers."""
    key = jax.random.key(plan.seed)
    programs = {method.label: timing.Program(lambda of=method: of.estimate(key)) for method in made}
    count = max(count for count in plan.counts.independent if count <= max(plan.peer_counts))
    alone = methods.of_outputs(predict, count, *_rows(task)[:1])
    programs[peers.label(ALONE, count)] = timing.Program(lambda: alone(key))
    programs |= peers.loops(task, trained, plan.peer_counts)
    return timing.interleave(programs, plan.rounds, title=f"{task.name}: rounds of timing")
