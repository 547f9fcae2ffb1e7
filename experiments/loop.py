"""The one training loop: chunks of steps in one compiled program, evaluated, shown, and resumable.

A run may be killed at any moment. A checkpoint is written in full under another name and then
renamed, and is removed only when there is a later one or the results are written; to write results
again, as the one who comes back does, changes nothing in them.
"""

import functools
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import cli
from jaxdrop import optim
from jaxdrop.training import Trainer, TrainState

SECONDS_BETWEEN_CHECKPOINTS = 20.0


def train(
    pair: Trainer,
    state: TrainState,
    batch: Any,
    evaluate: Callable[[TrainState, Any], jax.Array],
    *,
    steps: int,
    every: int,
    title: str,
    checkpoints: Path,
    save_every: float = SECONDS_BETWEEN_CHECKPOINTS,
) -> tuple[TrainState, np.ndarray]:
    """Trains a run or a sweep, `every` steps a call, and evaluates after each call.

    What has been done is saved now and then, atomically; a later call with the same checkpoint
    folder goes on from there and ends with the same result.

    Args:
      pair: The init/step pair; `init` has been called.
      state: The state to start from.
      batch: What each step is given.
      evaluate: From a state and the batch to an array of metrics; jitted here.
      steps: How many steps in all, a multiple of `every`.
      every: The steps between two evaluations.
      title: What the progress bar says.
      checkpoints: Where to save; see `checkpoint_folder`.
      save_every: The least seconds between two checkpoints; 0 saves after each chunk.

    Returns:
      The final state, and the metrics after each chunk with a leading axis of `steps / every`.

    Raises:
      BadInputError: If an optimizer under `optim.halt_on_nonfinite` has halted: with the parameter,
        the step and the run. The last checkpoint stays as it is.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def advance(state: TrainState, batch: Any) -> tuple[TrainState, jax.Array]:
        state, _ = jax.lax.scan(lambda s, _: (pair.step(s, batch)[0], None), state, length=every)
        return state, evaluate(state, batch)

    shape = jax.eval_shape(evaluate, state, batch)
    history = np.full((steps // every, *shape.shape), np.nan, np.float32)
    with _manager(checkpoints) as manager:
        state, history = _restore(manager, state, history)
        first = int(np.max(state.step)) // every
        bar, task = cli.progress(title, steps, first * every)
        with bar:
            saved = time.monotonic()
            for chunk in range(first, steps // every):
                state, history[chunk] = advance(state, batch)
                _check_finite(state)
                bar.advance(task, every)
                if time.monotonic() - saved >= save_every:
                    manager.save((chunk + 1) * every, args=ocp.args.StandardSave(_saved(state, history)))
                    saved = time.monotonic()
    return state, history


def checkpoint_folder(out: Path, config: dict[str, Any], arrays: Any = ()) -> Path:
    """A folder of its own for each configuration and data, so that only the same run is resumed."""
    digest = hashlib.blake2b(json.dumps(config | {"jax": jax.__version__}, sort_keys=True).encode())
    for array in jax.tree.leaves(arrays):
        digest.update(np.ascontiguousarray(array).data)
    return out / f"checkpoints-{digest.hexdigest()[:12]}"


def forget(checkpoints: Path) -> None:
    """Removes the checkpoints of a run that has ended and whose results are written."""
    # Under another name first: what is left if this is killed is not taken for a checkpoint.
    gone = checkpoints.with_name(f".gone-{checkpoints.name}")
    shutil.rmtree(gone, ignore_errors=True)
    if checkpoints.exists():
        checkpoints.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _check_finite(state: TrainState) -> None:
    try:
        optim.raise_if_halted(state.opt_state)
    except FloatingPointError as error:
        raise cli.BadInputError(str(error)) from None


def _manager(folder: Path) -> ocp.CheckpointManager:
    logging.getLogger("absl").setLevel(logging.ERROR)
    # Not in the background: the state is donated to the next chunk, which writes over it.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _saved(state: TrainState, history: np.ndarray) -> dict[str, Any]:
    """What moves; the keys and hyper-parameters are the caller's, who makes them again."""
    return {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "history": history,
    }


def _restore(
    manager: ocp.CheckpointManager, state: TrainState, history: np.ndarray
) -> tuple[TrainState, np.ndarray]:
    step = manager.latest_step()
    if step is None:
        return state, history
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, _saved(state, history))
    saved = dict(manager.restore(step, args=ocp.args.StandardRestore(like)))
    cli.console.print(f"Resuming from step {step}.")
    history = np.array(saved.pop("history"))
    return state._replace(**saved), history
