"""Training loop: chunks of steps in one compiled program, with evaluation, progress bar and checkpoints.

A run may be killed at any moment. A checkpoint is written under another name and then renamed. It is removed
only when there is a later one or the results are written. Writing the results again does not change them.
"""

import contextlib
import functools
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
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
    """Trains a run or a sweep, `every` steps per call, and evaluates after each call.

    Checkpoints are saved atomically. A later call with the same folder resumes from the last one and ends
    with the same result.

    Args:
      pair: The init/step pair.
      state: The initial state.
      batch: The batch of every step.
      evaluate: `evaluate(state, batch)`, an array of metrics; jitted here.
      steps: The number of steps, a multiple of `every`.
      every: The steps between two evaluations.
      title: The title of the progress bar.
      checkpoints: The folder of the checkpoints; see `checkpoint_folder`.
      save_every: The least seconds between two checkpoints; 0 saves after each chunk.

    Returns:
      The final state, and the metrics after each chunk with a leading axis of `steps / every`.

    Raises:
      BadInputError: If an optimizer under `optim.halt_on_nonfinite` has halted; the message names the
        parameter, the step and the run. The last checkpoint is kept.
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
    """Checkpoint folder named after a hash of configuration and data, so that only the same run resumes."""
    digest = hashlib.blake2b(json.dumps(config | {"jax": jax.__version__}, sort_keys=True).encode())
    for array in jax.tree.leaves(arrays):
        digest.update(np.ascontiguousarray(array).data)
    return out / f"checkpoints-{digest.hexdigest()[:12]}"


@contextlib.contextmanager
def resumable(out: Path, config: dict[str, Any], arrays: Any = ()) -> Iterator[Path]:
    """Yields the checkpoint folder of a run, and removes it once the run has ended and is published."""
    checkpoints = checkpoint_folder(out, config, arrays)
    yield checkpoints
    forget(checkpoints)


def forget(checkpoints: Path) -> None:
    """Removes the checkpoints of a finished run."""
    # Rename first: a half-removed folder must not be taken for checkpoints.
    gone = checkpoints.with_name(f".gone-{checkpoints.name}")
    shutil.rmtree(gone, ignore_errors=True)
    if checkpoints.exists():
        checkpoints.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _check_finite(state: TrainState) -> None:
    parts = jax.tree.leaves(state.opt_state, is_leaf=lambda part: isinstance(part, optim.HaltState))
    if not any(isinstance(part, optim.HaltState) for part in parts):
        return  # an optimizer that does not halt
    try:
        optim.raise_if_halted(state.opt_state)
    except FloatingPointError as error:
        raise cli.BadInputError(str(error)) from None


def _manager(folder: Path) -> ocp.CheckpointManager:
    logging.getLogger("absl").setLevel(logging.ERROR)
    # Save synchronously: the state is donated to the next chunk, which overwrites it.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _saved(state: TrainState, history: np.ndarray) -> dict[str, Any]:
    """Parts of the state that change; the caller makes keys and hyperparameters again."""
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
