"""Tuning: a grid of runs trains in one compiled program, and validation scores choose a setting."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import PyTree
from jaxdrop.training import _loss_fn, _rungs
from jaxdrop.training._rungs import BatchFn, Progress, Rung, ScoreFn, Step
from jaxdrop.training.choices import Choice, choose
from jaxdrop.training.trainer import TrainState

__all__ = ["BatchFn", "ScoreFn", "Tuned", "tune"]


class Tuned(NamedTuple):
    """A setting chosen by `tune`, its trained runs, and the table of all settings.

    Attributes:
      choice: The chosen setting and the last mean score of every setting, stopped ones included. The
        rank puts settings that were trained longer first.
      steps: Steps that each setting was trained, `[S]`.
      rung: The rung after which the runs of a setting stopped, `[S]`: from 0 to the number of rungs
        less 1, where training was complete.
      scores: Last score of each run, `[runs]`; NaN where the run failed.
      states: Trained states of the chosen setting, with a leading axis of its runs.
    """

    choice: Choice
    steps: np.ndarray
    rung: np.ndarray
    scores: np.ndarray
    states: TrainState


def tune(
    step: Step,
    states: TrainState,
    train: PyTree,
    valid: PyTree,
    *,
    score_fn: ScoreFn,
    steps: int | Sequence[int],
    batch_fn: BatchFn | None = None,
    factor: float = 2,
    over: str | None = "seed",
    simpler: str | Sequence[str] = (),
    progress: Progress | None = None,
) -> Tuned:
    """Trains a sweep in one compiled program, and chooses a setting by validation scores.

    With one number of `steps` every run is trained to the end. With several it is successive halving:
    after each rung but the last, the settings of the lowest mean score are trained on and the others
    are stopped. All runs of a setting are trained on or stopped together. Only settings that are
    trained to the end can be chosen, by the rule of `choose`. Strong regularization learns slowly, so a
    short first rung prefers weak regularization.

    A run fails at its first loss that is not finite, or if a parameter or the score is not finite. Its
    score is then NaN, and its setting is not chosen. Other runs are not affected.

    Runs that are divided over devices stay so while their number allows it; fewer are trained on every
    device.

    Never tune on test data: the best of many scores is too good by chance. Report the chosen setting on
    examples that neither `train` nor `valid` holds.

    Args:
      step: The step of a sweep.
      states: The states of a sweep before training, as `init` returns them, or after some steps of it.
        The hyper-parameters are arrays `[runs]` by name, such as from `grid`.
      train: Training data, a tree of arrays.
      valid: Validation data, a tree of arrays.
      score_fn: `score_fn(state, key, valid) -> score`: a scalar error or loss of one run; lower is
        better. `state` is the `TrainState` of the run, with its parameters, model state and
        hyper-parameters. The key, `fold_in(state.key, 2**32 - 1 - state.step)`, is not that of a step.
        All runs are scored at once; to save memory, use `jax.lax.map` over parts of `valid`.
      steps: Number of steps, or the numbers of steps of each rung: (100, 100, 200) with 8 settings
        trains 8 for 100 steps, 4 for 100 more and 2 for 200 more.
      batch_fn: `batch_fn(train, step) -> batch`, the batch of step number `step`, which all runs share;
        traced. Data outside of the memory come from `jax.pure_callback` in it. None: `train` is the
        batch of every step.
      factor: After a rung, ceil(settings / factor) settings are left; finite and above 1.
      over: Name whose values are repetitions of a setting, not a choice; None if there is none.
      simpler: Names whose larger values are simpler, the most important first, for the
        one-standard-error rule. Empty: the lowest mean score.
      progress: Called with the number of steps taken, up to about 100 times.

    Returns:
      A `Tuned`. The same arguments give the same result. A call that was stopped starts anew; to save
      long work in parts, use `sweep` and `choose`.

    Raises:
      TypeError: If `states` is not a `TrainState` with hyper-parameters by name, a function is not
        callable or does not take the arguments above, a number of steps is not an integer, or a score
        is not a real scalar.
      ValueError: If `states` is that of one run, its runs have taken different numbers of steps, a
        number of steps is below 1, settings differ in their number of runs, a setting has a value of
        `over` twice, `factor` is not finite and above 1, `simpler` is given and settings have a single
        run, or all settings failed.

    References:
      Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
      2016 (successive halving).

    Examples:
      >>> import jax.numpy as jnp, jaxdrop, optax
      >>> from jaxdrop.training import grid, sweep
      >>> def recipe(hyper):
      ...     def loss_fn(params, key, batch):
      ...         x = jaxdrop.dropout(key, batch["x"], hyper["rate"])
      ...         return jnp.mean((x @ params - batch["y"]) ** 2), {}
      ...     return loss_fn, optax.sgd(0.1)
      >>> x = jax.random.normal(jax.random.key(0), (32, 4))
      >>> train, valid = ({"x": part, "y": part.sum(-1)} for part in (x[:16], x[16:]))
      >>> hyper = grid(seed=[0, 1], rate=[0.0, 0.3, 0.6, 0.9])
      >>> init, step = sweep(recipe)
      >>> states = init(jax.vmap(jax.random.key)(hyper["seed"]), jnp.zeros((8, 4)), hyper)
      >>> def score_fn(state, key, valid):
      ...     return jnp.mean((valid["x"] @ state.params - valid["y"]) ** 2)
      >>> tuned = tune(step, states, train, valid, score_fn=score_fn, steps=(10, 20))
      >>> tuned.choice.setting, tuned.steps, tuned.states.params.shape
      ({'rate': 0.0}, array([30, 30, 10, 10]), (2, 4))
    """
    _check_functions(step=step, score_fn=score_fn)
    options = {"batch_fn": batch_fn, "progress": progress}
    _check_functions(**{name: one for name, one in options.items() if one is not None})
    lengths = _check_steps(steps)
    factor = _checks.check_number(_checks.check_real("factor", factor), "factor")
    if not 1 < factor < math.inf:
        raise ValueError(f"`factor` must be finite and above 1, got {factor:g}.")
    first = _check_states(states)
    hyper = {name: np.asarray(column) for name, column in states.hyper.items()}
    members = _members(hyper, over, simpler)
    counts = [len(members)]
    for _ in lengths[1:]:
        counts.append(math.ceil(counts[-1] / factor))
    program = _rungs.program(step, score_fn, batch_fn, tuple(map(Rung, counts, lengths)), progress)
    final, records = program(states, np.int32(first), members, train, valid)
    jax.effects_barrier()  # the last call of `progress`
    scores, rung_of_run = np.full(members.size, np.nan), np.zeros(members.size, int)
    for i, (runs, found) in enumerate(records):
        scores[runs], rung_of_run[runs] = found, i
    runs, rung = np.asarray(records[-1][0]), rung_of_run[members[:, 0]]
    last = {name: column[runs] for name, column in hyper.items()}
    setting = choose(last, scores[runs], over=over, simpler=simpler).setting
    table = choose(hyper, scores, over=over)
    order = np.lexsort((np.where(np.isfinite(table.mean), table.mean, np.inf), -rung))
    rank = np.empty_like(rung_of_run)
    rank[members] = np.argsort(order)[:, None]
    chosen = _settings(table).index(setting)
    return Tuned(
        table._replace(setting=setting, rank=rank),
        first + np.cumsum(lengths)[rung],
        rung,
        scores,
        _rungs.rows(final, np.searchsorted(runs, members[chosen])),
    )


def _check_functions(**functions: object) -> None:
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"`{name}` must be a function, got {type(function).__name__}.")
        try:
            hash(function)
        except TypeError:
            raise TypeError(
                f"`{name}` must be hashable, as functions are, got {type(function).__name__}."
            ) from None


def _check_steps(steps: int | Sequence[int]) -> list[int]:
    several = list(steps) if isinstance(steps, Sequence | np.ndarray) else [steps]
    if not several:
        raise ValueError("`steps` must hold the number of steps of one rung or more, got none.")
    return [_checks.check_count(number, "steps") for number in several]


def _check_states(states: TrainState) -> int:
    """The number of steps that the states of a sweep have taken."""
    if not isinstance(states, TrainState):
        raise TypeError(f"`states` must be the `TrainState` of a sweep, got {type(states).__name__}.")
    if np.ndim(states.step) != 1:
        raise ValueError("`states` must be those of a sweep, with a leading axis of runs, got one run.")
    if not isinstance(states.hyper, Mapping) or not states.hyper:
        raise TypeError(
            "`states` must have hyper-parameters by name, such as from `grid`, got "
            f"{_loss_fn.told(states.hyper)}."
        )
    taken = np.unique(np.asarray(states.step))
    if len(taken) != 1:
        numbers = ", ".join(map(str, taken))
        raise ValueError(f"`states` must have taken the same number of steps in all runs, got {numbers}.")
    return int(taken[0])


def _members(hyper: Mapping[str, np.ndarray], over: str | None, simpler: str | Sequence[str]) -> np.ndarray:
    """The runs of each setting, `[S, n]`, ascending; checks the names."""
    size = len(next(iter(hyper.values())))
    # Equal scores rank the settings in their order.
    of_run = choose(hyper, np.zeros(size), over=over).rank
    counts = np.bincount(of_run)
    if len(set(counts)) != 1:
        numbers = ", ".join(map(str, sorted(set(counts.tolist()))))
        raise ValueError(f"`states` must hold the same number of runs of each setting, got {numbers}.")
    members = np.argsort(of_run, kind="stable").reshape(len(counts), -1)
    if over is not None and any(len(set(row)) < len(row) for row in hyper[over][members].tolist()):
        raise ValueError(f"`states` must hold each setting once for each value of {over!r}, got one twice.")
    if simpler and counts[0] < 2:
        raise ValueError(
            "`states` must hold two or more runs of each setting for the one-standard-error rule, got 1."
        )
    choose(hyper, np.zeros(size), over=over, simpler=simpler)
    return members


def _settings(choice: Choice) -> list[Mapping[str, float]]:
    columns = {name: column.tolist() for name, column in choice.settings.items()}
    return [{name: columns[name][i] for name in columns} for i in range(len(choice.mean))]
