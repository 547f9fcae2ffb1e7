"""The training loop: history, and resuming after an interruption with the same result."""

import errno
import os
import shutil
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils.epath import backend

import jaxdrop
from experiments import cli, loop
from jaxdrop import optim
from jaxdrop.training import Trainer, TrainState, grid, sweep
from tests.experiments import events
from tests.normals import standard_normal

BATCH = standard_normal(1, (16, 4))


def recipe(hyper):
    def loss_fn(params, key, x):
        return jnp.mean((jaxdrop.dropout(key, x, hyper["rate"]) @ params["kernel"] - 1) ** 2), ()

    return loss_fn, optax.adam(1e-2)


def evaluate(state, batch):
    assert batch.shape == BATCH.shape
    return jnp.abs(state.params["kernel"]).sum((1, 2))


def setup() -> tuple[Trainer, TrainState]:
    pair = sweep(recipe)
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"kernel": jax.vmap(lambda key: jax.random.normal(key, (4, 1)))(keys)}
    return pair, pair.init(keys, params, grid(rate=[0.0, 0.2, 0.5]))


def run(
    folder,
    evaluate=evaluate,
    setup=setup,
    save_every=loop.SECONDS_BETWEEN_CHECKPOINTS,
    steps=20,
    every=4,
    devices=1,
    log_dir=None,
    in_turn=False,
    batch=BATCH,
    own_batches=False,
):
    pair, state = setup()
    return loop.train(
        pair,
        state,
        batch,
        evaluate,
        steps=steps,
        every=every,
        title="test",
        checkpoints=folder,
        save_every=save_every,
        own_batches=own_batches,
        setup=loop.Setup(devices, folder.parent, log_dir, in_turn),
        curves=lambda metrics: {"loss/all": metrics},
    )


@pytest.mark.slow
def test_history_is_the_metrics_after_each_chunk(tmp_path):
    state, history = run(tmp_path / "a")
    assert history.shape == (5, 3)
    np.testing.assert_allclose(history[-1], evaluate(state, BATCH), rtol=1e-6)
    pair, expected = setup()
    for _ in range(20):
        expected, _ = pair.step(expected, BATCH)
    chex.assert_trees_all_close(state.params, expected.params, rtol=1e-5, atol=1e-6)


class Killed(BaseException):
    """What no `except Exception` takes."""


def stop_at(monkeypatch, chunk):
    """Ends the training after so many chunks, whatever it was about to do."""
    make = loop.cli.progress

    def progress(*args):
        bar, task = make(*args)
        update, calls = bar.advance, []

        def stop(*args):
            calls.append(args)
            if len(calls) == chunk:
                raise Killed
            update(*args)

        monkeypatch.setattr(bar, "advance", stop)
        return bar, task

    monkeypatch.setattr(loop.cli, "progress", progress)


def steps(folder):
    return sorted((path.name for path in folder.iterdir()), key=int)


def interrupted(folder, monkeypatch, **options):
    """A folder as it is left by a run that ended in its third chunk."""
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Killed):
            run(folder, save_every=0.0, **options)
    assert steps(folder) == ["4", "8"]


def check_same(one, other):
    chex.assert_trees_all_equal(one[0].params, other[0].params)
    np.testing.assert_array_equal(one[1], other[1])


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path, monkeypatch, capsys):
    interrupted(tmp_path / "cut", monkeypatch, log_dir=tmp_path / "logs")
    # The point of the chunk that was cut short is there, and comes again.
    assert [step for step, _ in events.points(tmp_path / "logs" / "cut")["loss/all"]] == [4, 8, 12]
    again = run(tmp_path / "cut", log_dir=tmp_path / "logs")
    assert "Resuming from step 8." in capsys.readouterr().out
    check_same(again, run(tmp_path / "whole"))
    steps, values = zip(*events.points(tmp_path / "logs" / "cut")["loss/all"], strict=True)
    assert steps == (4, 8, 12, 16, 20)
    np.testing.assert_allclose(values, again[1].mean(1), rtol=1e-6)


def test_a_run_in_a_bucket_is_resumed_from_its_copies(whole, bucket, monkeypatch, capsys):
    interrupted(bucket / "cut", monkeypatch)
    damaged = bucket / "cut" / "8" / "default" / "_METADATA"
    damaged.write_bytes(b"")
    result, shown = resumed(bucket / "cut", capsys)
    check_same(result, whole)
    assert f"`{damaged}` is damaged or missing; the checkpoint of step 8 is dropped." in shown
    assert "Resuming from step 4." in shown
    loop.forget(bucket / "cut")
    assert not (bucket / "cut").exists()


def with_a_model_state() -> tuple[Trainer, TrainState]:
    """Four runs whose state is the sum of their masks, times numbers that tell them apart."""

    def loss_fn(params, total, key, x):
        x = jaxdrop.dropout(key, x, 0.5)
        marks = jnp.where(x != 0, jnp.arange(x.size).reshape(x.shape) ** 2, 0)
        return jnp.mean((x @ params["kernel"] - 1) ** 2), ((), total + marks.sum())

    pair = sweep(lambda rate: (loss_fn, optax.adam(rate)))
    keys, params = jax.random.split(jax.random.key(0), 4), {"kernel": jnp.ones((4, 4, 1))}
    return pair, pair.init(keys, params, jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.zeros(4, jnp.int32))


def check_close(one, other):
    """The masks to the bit, all else to rounding."""
    np.testing.assert_array_equal(one[0].model_state, other[0].model_state)
    assert one[0].model_state.sum() > 0
    chex.assert_trees_all_close(one[0].params, other[0].params, rtol=1e-5)
    chex.assert_trees_all_close(one[0].opt_state, other[0].opt_state, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(one[1], other[1], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 4)])
def test_an_interrupted_run_is_resumed_on_another_number_of_devices(first, then, tmp_path, monkeypatch):
    interrupted(tmp_path / "cut", monkeypatch, setup=with_a_model_state, devices=first)
    again = run(tmp_path / "cut", setup=with_a_model_state, devices=then)
    assert {leaf.sharding.num_devices for leaf in jax.tree.leaves(again[0])} == {1}
    check_close(again, run(tmp_path / "whole", setup=with_a_model_state))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_runs_train_in_turn_as_they_do_together(devices, tmp_path, monkeypatch):
    interrupted(tmp_path / "cut", monkeypatch, setup=with_a_model_state)
    together = run(tmp_path / "whole", setup=with_a_model_state)
    for name in ("in turn", "cut"):
        in_turn = run(tmp_path / name, setup=with_a_model_state, devices=devices, in_turn=True)
        check_close(in_turn, together)


@pytest.mark.parametrize("in_turn", [False, True])
def test_runs_keep_their_own_batches(in_turn, tmp_path):
    pair, state = setup()
    state = state._replace(params=jnp.zeros(3))
    pair = pair._replace(step=lambda state, own: (state._replace(params=state.params + own.sum(1)), ()))
    batch = jnp.arange(6.0).reshape(3, 2)
    found, history = run(
        tmp_path / "a",
        lambda state, own: state.params * own[:, 1],
        lambda: (pair, state),
        batch=batch,
        own_batches=True,
        in_turn=in_turn,
    )
    np.testing.assert_array_equal(found.params, [20, 100, 180])
    np.testing.assert_array_equal(history[-1], [20, 300, 900])


def test_a_run_on_devices_that_diverges_is_named(tmp_path):
    with pytest.raises(cli.BadInputError, match=r"that of `layer/kernel` at step 9 of run 1\."):
        run(tmp_path, lambda state, batch: state.params["clock"], diverging, devices=3)


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_model_state(tmp_path, monkeypatch):
    interrupted(tmp_path / "cut", monkeypatch, setup=with_a_model_state)
    again = run(tmp_path / "cut", setup=with_a_model_state)
    whole = run(tmp_path / "whole", setup=with_a_model_state)
    check_same(again, whole)
    np.testing.assert_array_equal(again[0].model_state, whole[0].model_state)


def test_a_checkpoint_of_a_run_without_a_model_state_is_refused(tmp_path, monkeypatch):
    interrupted(tmp_path / "cut", monkeypatch)
    with pytest.raises(cli.BadInputError, match=r"must be a checkpoint of this run, got"):
        run(tmp_path / "cut", setup=with_a_model_state)


@pytest.mark.slow
def test_what_a_kill_leaves_half_written_or_half_removed_is_not_taken_for_a_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "cut"
    interrupted(folder, monkeypatch)
    # A later checkpoint that was being written, and an earlier one that was being removed.
    shutil.rmtree(folder / "4")
    (folder / "12.orbax-checkpoint-tmp-1").mkdir()
    (folder / "12.orbax-checkpoint-tmp-1" / "default").mkdir()
    (folder / "4" / "default").mkdir(parents=True)
    check_same(run(folder, save_every=0.0), run(tmp_path / "whole"))
    assert steps(folder) == ["16", "20"]


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def delete(path):
    path.unlink()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole") / "a")


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / "a"
    with pytest.MonkeyPatch.context() as patch:
        interrupted(folder, patch)
    return folder


def resumed(folder, capsys):
    """The result of a resumed run, and what it printed in one line."""
    capsys.readouterr()
    result = run(folder)
    return result, " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("damage", [flip, truncate, empty, delete])
def test_each_file_of_a_checkpoint_is_compared_with_its_digest(cut, damage, tmp_path):
    count = len(files(cut / "8"))
    assert count > 5
    for i in range(count):
        shutil.copytree(cut, folder := tmp_path / str(i))
        assert loop._damaged(folder / "8") is None
        path = files(folder / "8")[i]
        damage(path)
        assert loop._damaged(folder / "8") == path


@pytest.mark.parametrize("damage", [flip, truncate, empty, delete])
def test_a_damaged_checkpoint_is_named_and_the_one_before_resumed(cut, whole, damage, tmp_path, capsys):
    shutil.copytree(cut, folder := tmp_path / "a")
    path = max(files(folder / "8" / "default"), key=lambda path: path.stat().st_size)
    damage(path)
    result, shown = resumed(folder, capsys)
    check_same(result, whole)
    assert f"`{path}` is damaged or missing; the checkpoint of step 8 is dropped." in shown
    assert "Resuming from step 4." in shown


def empty_folder(path):
    shutil.rmtree(path)
    path.mkdir()


def file_in_its_place(path):
    shutil.rmtree(path)
    path.write_text("8")


@pytest.mark.parametrize("damage", [empty_folder, file_in_its_place])
@pytest.mark.parametrize("both", [False, True])
def test_without_an_intact_checkpoint_a_run_starts_anew(cut, whole, damage, both, tmp_path, capsys):
    shutil.copytree(cut, folder := tmp_path / "a")
    for step in ("4", "8")[not both :]:
        damage(folder / step)
    result, shown = resumed(folder, capsys)
    check_same(result, whole)
    assert "8/digests.json` is damaged or missing" in shown
    assert ("starting from step 0." if both else "Resuming from step 4.") in shown


def test_a_checkpoint_under_another_step_is_damaged(cut, whole, tmp_path, capsys):
    shutil.copytree(cut, folder := tmp_path / "a")
    (folder / "8").rename(folder / "16")
    result, shown = resumed(folder, capsys)
    check_same(result, whole)
    assert "Resuming from step 4." in shown


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(tmp_path, save_every=0.0)
    before = content(tmp_path)
    for changed, message in (
        ({"steps": 12}, r"20` must be a checkpoint of this run, got one of 20 steps\."),
        ({"every": 10}, r"20` must be a checkpoint of this run, got arrays of other shapes\."),
        ({"setup": diverging, "evaluate": lambda state, _: state.params["clock"]}, "got one that fails with"),
    ):
        with pytest.raises(cli.BadInputError, match=message) as error:
            run(tmp_path, **changed)
        assert "\n" not in str(error.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("kind", [OSError, ValueError])
def test_a_full_disk_is_one_line_and_keeps_the_earlier_checkpoints(whole, kind, tmp_path, monkeypatch):
    save = loop.ocp.CheckpointManager.save

    def full(manager, step, **kwargs):
        if step == 12:
            text = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, text) if kind is OSError else ValueError(f"{text}\nwriting")
        return save(manager, step, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop.ocp.CheckpointManager, "save", full)
        with pytest.raises(
            OSError, match=r"must take the checkpoint of step 12, got: .*No space left"
        ) as error:
            run(tmp_path, save_every=0.0)
    assert "\n" not in str(error.value)
    assert steps(tmp_path) == ["4", "8"]
    check_same(run(tmp_path), whole)


def test_a_run_that_was_through_is_not_trained_again(tmp_path, monkeypatch):
    done = run(tmp_path / "a", save_every=0.0)
    stop_at(monkeypatch, 1)
    check_same(run(tmp_path / "a"), done)


def test_checkpoints_are_as_far_apart_as_is_said(tmp_path):
    run(tmp_path / "a", save_every=1e9)
    assert not list((tmp_path / "a").iterdir())


def test_forgetting_that_was_cut_short_leaves_no_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    done = run(folder, save_every=0.0)

    def cut_short(_, path):
        if os.path.exists(path):
            files(Path(path))[0].unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(backend._OsPathBackend, "rmtree", cut_short)
        with pytest.raises(Killed):
            loop.forget(folder)
    assert not folder.exists()
    check_same(run(folder, save_every=0.0), done)
    loop.forget(folder)
    assert not list(tmp_path.iterdir())
    loop.forget(folder)


def diverging():
    """Three runs with a clock that each update moves on by 1; the gradient of run 1 is NaN from step 9 on."""

    def recipe(hyper):
        def loss_fn(params, key, x):
            late = jax.lax.stop_gradient(params["clock"]) >= hyper["end"]
            size = jnp.mean((x @ params["layer"]["kernel"] - 1) ** 2) * 1e-3
            return jnp.where(late, jnp.nan, 1.0) * size - params["clock"], ()

        return loss_fn, optim.halt_on_nonfinite(optax.sgd(1.0))

    pair = sweep(recipe)
    params = {"clock": jnp.zeros(3), "layer": {"kernel": jnp.ones((3, 4, 1))}}
    hyper = {"end": jnp.array([99.0, 9.0, 99.0])}
    return pair, pair.init(jax.random.split(jax.random.key(0), 3), params, hyper)


def test_a_gradient_that_is_not_finite_ends_the_training_and_no_checkpoint_is_overwritten(tmp_path):
    message = r"NaN or infinity in that of `layer/kernel` at step 9 of run 1\."
    before = None
    for _ in range(2):
        with pytest.raises(cli.BadInputError, match=message):
            run(tmp_path, lambda state, batch: state.params["clock"], diverging, save_every=0.0)
        assert steps(tmp_path) == ["4", "8"]
        before = before or content(tmp_path)
        assert content(tmp_path) == before


def test_a_configuration_has_its_own_folder(tmp_path):
    folders = {loop.checkpoint_folder(tmp_path, {"seed": seed, "steps": 5}) for seed in (0, 0, 1)}
    arrays = [np.full(3, 0), np.full(3, 0), np.full(3, 1), np.full((3, 1), 0), np.full(3, 0, np.uint64)]
    folders |= {loop.checkpoint_folder(tmp_path, {"seed": 0}, [array]) for array in arrays}
    assert len(folders) == 6
