"""The program of a tuner: runs are trained and scored, and the best settings are trained on."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxdrop import _meshes
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.training import _loss_fn
from jaxdrop.training.trainer import TrainState

# Scores the state of one run: `score_fn(state, key, valid) -> score`.
ScoreFn = Callable[[TrainState, Key, PyTree], jax.Array]
# The batch of a step: `batch_fn(train, step) -> batch`.
BatchFn = Callable[[PyTree, jax.Array], PyTree]
# The step of a sweep.
Step = Callable[[TrainState, PyTree], tuple[TrainState, tuple[jax.Array, PyTree]]]
# Called with the number of steps taken.
Progress = Callable[[int], None]
# The runs that took part in a rung, and their scores.
_Record = tuple[jax.Array, jax.Array]
# Calls of `progress` in a program.
_CALLS = 100


class Rung(NamedTuple):
    """Part of the training; static.

    Attributes:
      settings: Number of settings that take part.
      steps: Number of steps.
    """

    settings: int
    steps: int


# Kept for other values of the same grid; a program holds no data.
@lru_cache(maxsize=8)
def program(
    step: Step,
    score_fn: ScoreFn,
    batch_fn: BatchFn | None,
    rungs: tuple[Rung, ...],
    progress: Progress | None,
) -> Callable[..., tuple[TrainState, list[_Record]]]:
    """The compiled training.

    Args:
      step: The step of a sweep.
      score_fn: The score of a run.
      batch_fn: The batch of a step; None for all data.
      rungs: The rungs.
      progress: Called with the number of steps taken.

    Returns:
      `run(states, first, members, train, valid) -> (states, records)`, where `first` is the number of
      the first step and `members` are the runs of each setting, `[S, n]`. A record holds the runs of a
      rung and their scores; the states are those of the last.
    """
    total = sum(rung.steps for rung in rungs)
    every = max(total // _CALLS, 1)

    def tell(done: jax.Array) -> None:
        if progress is None:
            return
        due, call = (done % every == 0) | (done == total), progress
        jax.lax.cond(due, lambda: jax.debug.callback(lambda done: call(int(done)), done), lambda: None)

    def run(
        states: TrainState, first: jax.Array, members: jax.Array, train: PyTree, valid: PyTree
    ) -> tuple[TrainState, list[_Record]]:
        def one(states: TrainState, done: jax.Array) -> tuple[TrainState, jax.Array]:
            batch = train if batch_fn is None else _batch(batch_fn, train, first + done)
            states, (losses, _) = step(states, batch)
            tell(done + 1)
            return states, jnp.isfinite(losses)

        runs, done, records = jnp.arange(members.size), 0, []
        for i, rung in enumerate(rungs):
            if i:
                best = members[_order(records[-1][1][members])[: rung.settings]]
                kept = jnp.sort(best.ravel())
                states, runs, members = rows(states, kept), runs[kept], jnp.searchsorted(kept, best)
            states, finite = jax.lax.scan(one, states, jnp.arange(done, done + rung.steps, dtype=jnp.int32))
            scores = jax.vmap(partial(_score, score_fn), in_axes=(0, None))(states, valid)
            scores = jnp.where(finite.all(0), scores, jnp.nan)
            records.append((runs, _meshes.on_automatic_axes(lambda scores: scores, scores)))
            done += rung.steps
        return states, records

    return jax.jit(run)


def rows(tree: PyTree, places: ArrayLike) -> PyTree:
    """Rows of all leaves; on an explicit mesh they stay sharded where their number allows it."""

    def of_leaf(leaf: jax.Array) -> jax.Array:
        axes, *rest = _meshes.partition(leaf)
        whole = axes is not None and np.size(places) % _meshes.shards(axes, leaf)
        spec = PartitionSpec(None if whole else axes, *rest)
        return _meshes.on_automatic_axes(lambda leaf, places: leaf[places], leaf, places, out=spec)

    return jax.tree.map(of_leaf, tree)


def _batch(batch_fn: BatchFn, train: PyTree, number: jax.Array) -> PyTree:
    _loss_fn.check_takes(batch_fn, (train, number), "`(train, step)`", "batch_fn")
    return batch_fn(train, number)


def _score(score_fn: ScoreFn, state: TrainState, valid: PyTree) -> jax.Array:
    """The score of a run; NaN if it or a parameter is not finite."""
    # Steps are below 2**31, so no step has this key.
    key = jax.random.fold_in(state.key, (~state.step).astype(jnp.uint32))
    _loss_fn.check_takes(score_fn, (state, key, valid), "`(state, key, valid)`", "score_fn")
    score = score_fn(state, key, valid)
    if not isinstance(score, jax.Array | np.ndarray | np.generic | float | int):
        raise TypeError(f"`score_fn` must return a scalar score, got {_loss_fn.told(score)}.")
    if jnp.shape(score) != ():
        raise ValueError(f"`score_fn` must return a scalar score, got shape {jnp.shape(score)}.")
    dtype = jnp.result_type(score)
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"`score_fn` must return a real score, got {dtype}.")
    leaves = [leaf for leaf in jax.tree.leaves(state.params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    finite = jnp.array([jnp.isfinite(leaf).all() for leaf in (score, *leaves)]).all()
    return jnp.where(finite, jnp.asarray(score, jnp.result_type(float)), jnp.nan)


def _order(scores: jax.Array) -> jax.Array:
    """Settings by the mean of their scores `[S, n]`, the lowest first and failures last, as `choose` does.

    In float64, as there: in float32 ties and near ties would be ordered otherwise.
    """
    with jax.enable_x64(True):
        mean = scores.astype(jnp.float64).mean(1)
        order = jnp.argsort(jnp.where(jnp.isfinite(mean), mean, jnp.inf), stable=True)
        return order.astype(jnp.int32)
