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
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from experiments import buckets, cli, hosts, logs
from jaxdrop import optim
from jaxdrop.training import Trainer, TrainState

SECONDS_BETWEEN_CHECKPOINTS = 20.0
_DIGESTS = "digests.json"


class Setup(NamedTuple):
    """How a training is carried out, on which its result does not depend.

    Attributes:
      devices: The devices to divide the runs over; see `hosts.mesh`.
      out: The folder of all results.
      log_dir: The folder of live curves, with the same folders in it as `out`; None for no curves.
      in_turn: Whether the runs of a device train one after another, from evaluation to evaluation. On a CPU
        it is faster where the weights of one run fit the cache and those of all runs do not.
    """

    devices: int | None = 1
    out: epath.Path = epath.Path()
    log_dir: epath.Path | None = None
    in_turn: bool = False

    def log_folder(self, checkpoints: epath.Path) -> epath.Path | None:
        """Folder of the curves of a training, by that of its checkpoints; None where none are written."""
        if self.log_dir is None or not hosts.is_first():
            return None
        return self.log_dir / epath.Path(checkpoints).relative_to(self.out)


# One device, and no live curves.
ALONE = Setup()


def make_setup(devices: int | None, out: epath.Path, log_dir: epath.Path | None) -> Setup:
    """Setup from the options of an experiment.

    Raises:
      BadInputError: If curves are asked for without tensorboardX.
    """
    if log_dir is not None:
        logs.check()
    return Setup(devices, epath.Path(out), log_dir and epath.Path(log_dir))


def train(
    pair: Trainer,
    state: TrainState,
    batch: Any,
    evaluate: Callable[[TrainState, Any], jax.Array],
    *,
    steps: int,
    every: int,
    title: str,
    checkpoints: epath.Path,
    save_every: float = SECONDS_BETWEEN_CHECKPOINTS,
    own_batches: bool = False,
    setup: Setup = ALONE,
    curves: Callable[[np.ndarray], logs.Curves] = lambda metrics: {"evaluation/all": metrics},
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
      own_batches: Whether the batch too has a leading axis of runs; otherwise all runs share it.
      setup: The devices to divide the runs over, and the folder of live curves.
      curves: From the metrics of an evaluation to live curves, each with an axis of runs.

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

    if setup.in_turn:
        advance = _in_turn(advance, own_batches)
    shape = jax.eval_shape(evaluate, state, batch)
    history = np.full((steps // every, *shape.shape), np.nan, np.float32)
    alone, checkpoints = setup.devices == 1, epath.Path(checkpoints)
    first, mesh = state, None if alone else hosts.mesh(setup.devices, len(state.step))
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
    with buckets.local(checkpoints) as folder, _manager(folder) as manager:
        step = manager.latest_step()
        if step is not None:
            if step > steps or step % every:
                raise _foreign(checkpoints / str(step), f"one of {step} steps")
            state, history = _restore(manager, step, checkpoints, state, history)
        done = (step or 0) // every
        bar, task = cli.progress(title, steps, done * every)
        with bar, logs.writer(setup.log_folder(checkpoints)) as log:
            for chunk in range(done):
                log((chunk + 1) * every, curves(history[chunk]))
            saved = time.monotonic()
            for chunk in range(done, steps // every):
                state, metrics = advance(state, batch)
                history[chunk] = hosts.whole(metrics)
                log((chunk + 1) * every, curves(history[chunk]))
                _check_finite(state)
                bar.advance(task, every)
                if hosts.agreed(time.monotonic() - saved >= save_every):
                    _save(manager, (chunk + 1) * every, checkpoints, state, history)
                    saved = time.monotonic()
    if mesh is not None:
        state = first._replace(**jax.tree.map(jnp.asarray, hosts.whole(_changing(state))))
    return state, history


def checkpoint_folder(out: epath.Path, config: dict[str, Any], arrays: Any = ()) -> epath.Path:
    """Checkpoint folder named after a hash of configuration and data, so that only the same run resumes."""
    digest = hashlib.blake2b(json.dumps(config | {"jax": jax.__version__}, sort_keys=True).encode())
    for array in jax.tree.leaves(arrays):
        array = np.ascontiguousarray(array)
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    return epath.Path(out) / f"checkpoints-{digest.hexdigest()[:12]}"


@contextlib.contextmanager
def resumable(out: epath.Path, config: dict[str, Any], arrays: Any = ()) -> Iterator[epath.Path]:
    """Yields the checkpoint folder of a run, and removes it once the run has ended and is published."""
    checkpoints = checkpoint_folder(out, config, arrays)
    yield checkpoints
    forget(checkpoints)


def forget(checkpoints: epath.Path) -> None:
    """Removes the checkpoints of a finished run."""
    if not hosts.is_first():
        return
    checkpoints = epath.Path(checkpoints)
    if cli.in_bucket(checkpoints):  # to rename is to copy; the digests tell a half-removed checkpoint
        checkpoints.rmtree(missing_ok=True)
        return
    # Rename first: a half-removed folder must not be taken for checkpoints.
    gone = checkpoints.with_name(f".gone-{checkpoints.name}")
    gone.rmtree(missing_ok=True)
    if checkpoints.exists():
        checkpoints.rename(gone)
        gone.rmtree(missing_ok=True)


def _in_turn(advance: Callable, own_batches: bool) -> Callable:
    """Advances each run of a sweep as a sweep of one, after the one before."""

    def advance_all(state: TrainState, batch: Any) -> tuple[TrainState, jax.Array]:
        def one(run: Any) -> tuple[TrainState, jax.Array]:
            state, own = run
            return advance(state, own if own_batches else batch)

        alone = jax.tree.map(lambda leaf: leaf[:, None], (state, batch if own_batches else None))
        return jax.tree.map(lambda leaf: leaf[:, 0], jax.lax.map(one, alone))

    return advance_all


def _check_finite(state: TrainState) -> None:
    parts = jax.tree.leaves(state.opt_state, is_leaf=lambda part: isinstance(part, optim.HaltState))
    if not any(isinstance(part, optim.HaltState) for part in parts):
        return  # an optimizer that does not halt
    try:
        optim.raise_if_halted(hosts.whole(state.opt_state))
    except FloatingPointError as error:
        raise cli.BadInputError(str(error)) from None


def _manager(folder: epath.Path) -> ocp.CheckpointManager:
    # What goes wrong is said by `train`, in one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # Save synchronously: the state is donated to the next chunk, which overwrites it.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(folder, options=options)


def _changing(state: TrainState) -> dict[str, Any]:
    """Parts of the state that change; the caller makes keys and hyperparameters again."""
    parts = {"step": state.step, "params": state.params, "opt_state": state.opt_state}
    return parts if state.model_state is None else parts | {"model_state": state.model_state}


def _saved(state: TrainState, history: np.ndarray) -> dict[str, Any]:
    return _changing(state) | {"history": history}


def _save(
    manager: ocp.CheckpointManager, step: int, folder: epath.Path, state: TrainState, history: np.ndarray
) -> None:
    own = epath.Path(manager.directory) / str(step)
    try:
        manager.save(step, args=ocp.args.StandardSave(_saved(state, history)))
        if hosts.is_first():
            found = _digests(own)
            (own / _DIGESTS).write_text(json.dumps(found | {_DIGESTS: _digest(found)}))
            if cli.in_bucket(folder):
                buckets.upload(own.parent, folder, _DIGESTS)
    except Exception as error:  # Orbax reports a full disk as an error of many types.
        raise OSError(
            f"`{folder}` must take the checkpoint of step {step}, got: {_first_line(error)}. Earlier "
            "checkpoints are kept; the same command resumes from them."
        ) from error


def _restore(
    manager: ocp.CheckpointManager, step: int, folder: epath.Path, state: TrainState, history: np.ndarray
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


def _drop_damaged(folder: epath.Path) -> None:
    """Removes damaged checkpoints that are later than the last intact one, and names them."""
    paths = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    for path in sorted(paths, key=lambda path: int(path.name), reverse=True):
        damaged = _damaged(path)
        if damaged is None:
            return
        cli.say(f"`{damaged}` is damaged or missing; the checkpoint of step {path.name} is dropped.")
        path.rmtree()  # of a file too
    if paths:
        cli.say("No earlier checkpoint; starting from step 0.")


def _damaged(path: epath.Path) -> epath.Path | None:
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


def _digests(path: epath.Path) -> dict[str, str]:
    """Digest of each file of a checkpoint, under its name in the folder of the checkpoints."""
    found = {}
    for file in buckets.files(path):
        if file.name != _DIGESTS:
            name = file.relative_to(path.parent).as_posix()
            with file.open("rb") as content:
                found[name] = hashlib.file_digest(cast(Any, content), "blake2b").hexdigest()
    return found


def _foreign(path: epath.Path, got: str) -> cli.BadInputError:
    return cli.BadInputError(
        f"`{path}` must be a checkpoint of this run, got {got}. Delete `{path.parent}` to start anew."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
