"""Training loop: chunks of steps in one compiled program, with evaluation, progress bar and checkpoints.

A run may be killed at any moment. A checkpoint is written under another name and then renamed. The last two
are kept until the results are written. Writing the results again does not change them. A checkpoint holds the
digests of its files; a damaged one is dropped, and the run resumes from the one before or starts anew.

Runs may be divided over devices, of several hosts too. They train without communication; a checkpoint is of
all runs, and another number of devices resumes it.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments import cli, hosts
from jaxdrop import optim
from jaxdrop.training import Trainer, TrainState

SECONDS_BETWEEN_CHECKPOINTS = 20.0
_DIGESTS = "digests.json"


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
    devices: int | None = 1,
    own_batches: bool = False,
) -> tuple[TrainState, np.ndarray]:
    """Trains a run or a sweep, `every` steps per call, and evaluates after each call.

    Checkpoints are saved atomically. A later call with the same folder resumes from the last intact one and
    ends with the same result.

    Args:
      pair: The init/step pair.
      state: The initial state.
      batch: The batch of every step.
      evaluate: `evaluate(state, batch)`, an array of metrics; jitted here. On several devices, `[runs, ...]`.
      steps: The number of steps, a multiple of `every`.
      every: The steps between two evaluations.
      title: The title of the progress bar.
      checkpoints: The folder of the checkpoints; see `checkpoint_folder`.
      save_every: The least seconds between two checkpoints; 0 saves after each chunk.
      devices: The devices to divide the runs over; see `hosts.mesh`.
      own_batches: Whether the batch too has a leading axis of runs; otherwise all runs share it.

    Returns:
      The final state, on one device, and the metrics after each chunk with a leading axis of
      `steps / every`.

    Raises:
      BadInputError: If an optimizer under `optim.halt_on_nonfinite` has halted; the message names the
        parameter, the step and the run. The last checkpoints are kept. Or if a checkpoint is of another run.
      OSError: If a checkpoint cannot be written; the earlier ones are kept.
    """

    def advance(state: TrainState, batch: Any) -> tuple[TrainState, jax.Array]:
        state, _ = jax.lax.scan(lambda s, _: (pair.step(s, batch)[0], None), state, length=every)
        return state, evaluate(state, batch)

    shape = jax.eval_shape(evaluate, state, batch)
    history = np.full((steps // every, *shape.shape), np.nan, np.float32)
    first, mesh = state, None if devices == 1 else hosts.mesh(devices, len(state.step))
    if mesh is not None:
        of_batch = hosts.RUNS if own_batches else hosts.SHARED
        state, batch = hosts.put(state, mesh, hosts.RUNS), hosts.put(batch, mesh, of_batch)
        advance = jax.shard_map(
            advance, mesh=mesh, in_specs=(hosts.RUNS, of_batch), out_specs=hosts.RUNS, check_vma=False
        )
    advance = jax.jit(advance, donate_argnums=0)
    if hosts.is_first():
        _drop_damaged(checkpoints)
    hosts.wait("checked")
    with _manager(checkpoints) as manager:
        step = manager.latest_step()
        if step is not None:
            if step > steps or step % every:
                raise _foreign(checkpoints / str(step), f"one of {step} steps")
            state, history = _restore(manager, step, checkpoints, state, history)
        done = (step or 0) // every
        bar, task = cli.progress(title, steps, done * every)
        with bar:
            saved = time.monotonic()
            for chunk in range(done, steps // every):
                state, metrics = advance(state, batch)
                history[chunk] = hosts.whole(metrics)
                _check_finite(state)
                bar.advance(task, every)
                if hosts.agreed(time.monotonic() - saved >= save_every):
                    _save(manager, (chunk + 1) * every, checkpoints, state, history)
                    saved = time.monotonic()
    if mesh is not None:
        state = first._replace(**jax.tree.map(jnp.asarray, hosts.whole(_changing(state))))
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
    if not hosts.is_first():
        return
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
        optim.raise_if_halted(hosts.whole(state.opt_state))
    except FloatingPointError as error:
        raise cli.BadInputError(str(error)) from None


def _manager(folder: Path) -> ocp.CheckpointManager:
    # What goes wrong is said by `train`, in one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # Save synchronously: the state is donated to the next chunk, which overwrites it.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _changing(state: TrainState) -> dict[str, Any]:
    """Parts of the state that change; the caller makes keys and hyperparameters again."""
    parts = {"step": state.step, "params": state.params, "opt_state": state.opt_state}
    return parts if state.model_state is None else parts | {"model_state": state.model_state}


def _saved(state: TrainState, history: np.ndarray) -> dict[str, Any]:
    return _changing(state) | {"history": history}


def _save(
    manager: ocp.CheckpointManager, step: int, folder: Path, state: TrainState, history: np.ndarray
) -> None:
    own = folder / str(step)
    try:
        manager.save(step, args=ocp.args.StandardSave(_saved(state, history)))
        if hosts.is_first():
            found = _digests(own)
            (own / _DIGESTS).write_text(json.dumps(found | {_DIGESTS: _digest(found)}))
    except Exception as error:  # Orbax reports a full disk as an error of many types.
        raise OSError(
            f"`{folder}` must take the checkpoint of step {step}, got: {_first_line(error)}. Earlier "
            "checkpoints are kept; the same command resumes from them."
        ) from error


def _restore(
    manager: ocp.CheckpointManager, step: int, folder: Path, state: TrainState, history: np.ndarray
) -> tuple[TrainState, np.ndarray]:
    own = _saved(state, history)
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, own)
    try:
        saved = dict(manager.restore(step, args=ocp.args.StandardRestore(like)))
    except Exception as error:  # The files are intact, so the state must be another one.
        raise _foreign(folder / str(step), f"one that fails with: {_first_line(error)}") from error
    # Orbax does not compare the shapes of NumPy arrays.
    if jax.tree.map(np.shape, saved) != jax.tree.map(np.shape, own):
        raise _foreign(folder / str(step), "arrays of other shapes")
    cli.say(f"Resuming from step {step}.")
    history = np.array(saved.pop("history"))
    return state._replace(**saved), history


def _drop_damaged(folder: Path) -> None:
    """Removes damaged checkpoints that are later than the last intact one, and names them."""
    paths = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    for path in sorted(paths, key=lambda path: int(path.name), reverse=True):
        damaged = _damaged(path)
        if damaged is None:
            return
        cli.say(f"`{damaged}` is damaged or missing; the checkpoint of step {path.name} is dropped.")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if paths:
        cli.say("No earlier checkpoint; starting from step 0.")


def _damaged(path: Path) -> Path | None:
    """First file of a checkpoint that is missing or not as it was written, if any."""
    own = path / _DIGESTS
    try:
        written = dict(json.loads(own.read_text()))
        of_itself = written.pop(_DIGESTS, None)
    except (OSError, TypeError, ValueError):
        return own
    if of_itself != _digest(written):
        return own
    found = _digests(path)
    wrong = [name for name in written | found if written.get(name) != found.get(name)]
    return path.parent / wrong[0] if wrong else None


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digests(path: Path) -> dict[str, str]:
    """Digest of each file of a checkpoint, under its name in the folder of the checkpoints."""
    found = {}
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != _DIGESTS:
            with file.open("rb") as content:
                name = file.relative_to(path.parent).as_posix()
                found[name] = hashlib.file_digest(content, "blake2b").hexdigest()
    return found


def _foreign(path: Path, got: str) -> cli.BadInputError:
    return cli.BadInputError(
        f"`{path}` must be a checkpoint of this run, got {got}. Delete `{path.parent}` to start anew."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
