"""Whole data sets: batches, the ragged last one, progress, restarts, parts, and other libraries' loaders."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdrop import mc
from jaxdrop.mc import _accumulation
from tests.devices import make_mesh
from tests.mc import nets

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

ROOT = Path(__file__).parents[2]
KEY = jax.random.key(0)
PREDICT = nets.bound()
X, LABELS = np.asarray(nets.inputs(22)), np.asarray(nets.labels(22))
REDUCERS = {"moments": mc.Moments(), "quantiles": mc.Quantiles((0.5,)), "density": mc.CategoricalLogDensity()}
OPTIONS = {"batch_size": 8, "num_samples": 20, "reducers": REDUCERS, "targets": LABELS}


def run(**options) -> mc.Estimate:
    call = {"predict": PREDICT, "key": KEY, "data": X} | OPTIONS | options
    return mc.estimate_dataset(call.pop("predict"), call.pop("key"), call.pop("data"), **call)


def equal(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def whole() -> mc.Estimate:
    return run()


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A folder with all results."""
    folder = tmp_path_factory.mktemp("stored")
    run(folder=folder)
    return folder


def batches(data=X, targets=LABELS, size: int = 8):
    return ((data[i : i + size], targets[i : i + size]) for i in range(0, len(data), size))


@pytest.mark.slow
def test_each_batch_is_an_estimate(whole: mc.Estimate):
    assert whole.value["moments"]["mean"].shape == (22, nets.CLASSES)
    assert whole.value["quantiles"]["quantiles"].shape == (22, 1, nets.CLASSES)
    np.testing.assert_array_equal(whole.num_samples, np.full(22, 20))
    for number, rows in enumerate((slice(0, 8), slice(8, 16), slice(16, 22))):
        key = jax.random.fold_in(KEY, number)
        options = {"num_samples": 20, "reducers": REDUCERS, "targets": LABELS[rows]}
        alone = mc.estimate(PREDICT, key, X[rows], **options)
        part = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (whole.value, whole.standard_error))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            part,
            (alone.value, alone.standard_error),
        )


def test_a_batch_is_checked_after_the_next_was_started(monkeypatch: pytest.MonkeyPatch):
    """So the device does not wait for the host."""
    events, start, check = [], _accumulation.Call.estimate, _accumulation.Found.checked

    def started(call):
        events.append("start")
        return start(call)

    def checked(found, reducers):
        events.append("check")
        return check(found, reducers)

    monkeypatch.setattr(_accumulation.Call, "estimate", started)
    monkeypatch.setattr(_accumulation.Found, "checked", checked)
    run(reducers=mc.Moments(), targets=None)
    assert events[2:] == ["start", "start", "check", "start", "check", "check"]  # the types come first


def test_a_nan_is_reported_where_the_next_batch_was_started(tmp_path: Path):
    """With its examples, and with what can be done with the results that stay."""
    broken = X.copy()
    broken[9, 2] = np.nan
    options = {"reducers": mc.Moments(), "targets": None}
    stay = r"results of other batches stay in .*folder: the same call continues there once the data of this"
    with pytest.raises(
        FloatingPointError, match=rf"got NaN in sample 0\. This is in batch 1, examples 8 to 15\. The {stay}"
    ):
        run(data=broken, folder=tmp_path / "folder", **options)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "folder").iterdir()}
    assert sorted(kept) == ["batch-000000.npz", "manifest.json"]
    equal(run(folder=tmp_path / "folder", **options), run(**options))
    assert all((tmp_path / "folder" / name).stat().st_mtime_ns == time for name, time in kept.items())
    with pytest.raises(FloatingPointError, match=r"This is in batch 1, examples 8 to 15\.$"):
        run(data=broken, **options)


def test_a_nan_in_the_first_batch_leaves_no_folder(tmp_path: Path):
    """So the next call, with another predictor, needs no other folder."""
    options = {"reducers": mc.Moments(), "targets": None, "folder": tmp_path / "a" / "b"}
    with pytest.raises(FloatingPointError, match=r"in batch 0, examples 0 to 7\.$"):
        run(data=np.full_like(X, np.nan), **options)
    assert not (tmp_path / "a").exists()


def test_shared_is_one_function_of_all_the_data():
    same = np.broadcast_to(X[:1], X.shape)
    options = OPTIONS | {"shared": True, "reducers": mc.Moments(), "targets": None}
    found = mc.estimate_dataset(PREDICT, KEY, same, **options)
    np.testing.assert_allclose(np.ptp(found.value["mean"], axis=0), 0, atol=1e-6)


def test_a_mesh_and_fewer_examples_than_a_batch():
    mesh = make_mesh((4, 2), ("samples", "batch"))
    options = OPTIONS | {"targets": None, "reducers": mc.Moments()}
    found = mc.estimate_dataset(PREDICT, KEY, X[:3], **options, mesh=mesh)
    assert found.value["mean"].shape == (3, nets.CLASSES)


def test_progress():
    seen = []
    run(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(8, 22), (16, 22), (22, 22)]


def test_stopped_and_resumed(whole: mc.Estimate, tmp_path):
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 16:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(folder=tmp_path, progress=stop)
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(kept) == ["batch-000000.npz", "batch-000001.npz", "manifest.json"]
    equal(run(folder=tmp_path), whole)
    assert len(list(tmp_path.iterdir())) == 4
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in kept.items())


CHANGED = X.copy()
CHANGED[20] += 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": jax.random.key(1)}, "results that differ in key"),
        ({"num_samples": 21}, "results that differ in num_samples"),
        ({"num_samples": mc.Until(0.1, 20)}, "results that differ in num_samples"),
        ({"reducers": REDUCERS | {"moments": mc.Moments(groups=16)}}, "results that differ in reducers"),
        ({"shared": True}, "results that differ in shared"),
        ({"batch_size": 4}, "results that differ in batch size"),
        (
            {"predict": nets.bound(lambda *args: 2 * nets.logits(*args))},
            "results that differ in program of `predict`",
        ),
        ({"predict": jax.tree.map(lambda w: 2 * w, PREDICT)}, "results that differ in weights of `predict`:"),
        ({"data": X + 1}, "results that differ in data:"),
        ({"targets": LABELS[::-1]}, "results that differ in targets:"),
        ({"data": CHANGED}, "results of other data or targets in batch 2"),
        ({"data": X[:20], "targets": LABELS[:20]}, "results of other data or targets in batch 2"),
    ],
)
def test_results_of_another_call_are_refused(changes: dict, message: str, stored: Path):
    with pytest.raises(
        ValueError, match=f"`folder` must be new or hold results of this same call, got {message}"
    ):
        run(folder=stored, **changes)


@pytest.mark.slow
def test_chunks_meshes_and_more_data_are_accepted(stored: Path, whole: mc.Estimate, tmp_path: Path):
    mesh = make_mesh((2,), ("batch",))
    equal(run(folder=stored, chunk_size=3), whole)
    equal(run(folder=stored, mesh=mesh), whole)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(near, run(mesh=mesh)[:2], whole[:2])
    found = run(folder=tmp_path, data=X[:16], targets=LABELS[:16])
    assert found.num_samples.shape == (16,)
    equal(run(folder=tmp_path), whole)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0."),
        (
            {"targets": LABELS[:5]},
            "`data` and `targets` must share one number of examples, at least 1, got 5, 22.",
        ),
    ],
)
def test_bad_input(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        run(**wrong)


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (1, TypeError, r"`part` must be a pair \(index, number of parts\), got 1"),
        ((0.5, 2), TypeError, r"`part\[0\]` must be an integer, got 0.5"),
        ((2, 2), ValueError, r"`part` must have an index below the number of parts, 2, got 2"),
        ((0, 2), ValueError, r"`folder` must be given with `part`"),
    ],
)
def test_bad_parts(part, error: type, message: str):
    with pytest.raises(error, match=message):
        run(part=part)


def test_a_damaged_file_in_the_folder(tmp_path):
    run(folder=tmp_path)
    damaged = sorted(tmp_path.iterdir())[1]
    for content in (b"", damaged.read_bytes()[:100]):
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match=f"got a damaged one, to be removed: .*{damaged.name}"):
            run(folder=tmp_path)


def test_rows_in_a_list_are_refused():
    with pytest.raises(TypeError, match=r"got a list: pass `numpy\.stack\(rows\)` for rows"):
        run(data=[[1.0, 2.0], [3.0, 4.0]])


def test_the_batches_are_bitwise_those_of_estimate(whole: mc.Estimate):
    options = {"num_samples": 20, "reducers": REDUCERS}
    for number in range(2):
        rows = slice(8 * number, 8 * number + 8)
        alone = mc.estimate(
            PREDICT, jax.random.fold_in(KEY, number), X[rows], targets=LABELS[rows], **options
        )
        equal(jax.tree.map(lambda leaf, rows=rows: leaf[rows], whole[:2]), alone[:2])


def test_an_iterable_of_batches(whole: mc.Estimate, tmp_path: Path):
    seen = []
    options = {"batch_size": None, "targets": None, "progress": lambda *now: seen.append(now)}
    equal(run(data=batches(), **options), whole)
    assert seen == [(8, None), (16, None), (22, None)]
    for _ in range(2):
        equal(run(data=batches(), folder=tmp_path, **options), whole)
    equal(run(folder=tmp_path), whole)  # the same batches, of arrays
    with pytest.raises(ValueError, match="results of other data or targets in batch 2"):
        run(data=batches(CHANGED), folder=tmp_path, **options)


def test_a_small_batch_in_the_middle_is_padded():
    options = OPTIONS | {"batch_size": None, "targets": None, "reducers": mc.Moments()}
    found = mc.estimate_dataset(PREDICT, KEY, iter([X[:8], X[8:11], X[11:19]]), **options)
    assert found.value["mean"].shape == (19, nets.CLASSES)
    alone = mc.estimate(PREDICT, jax.random.fold_in(KEY, 2), X[11:19], num_samples=20, reducers=mc.Moments())
    equal(found.value["mean"][11:], alone.value["mean"])


def test_an_error_of_the_loader_is_raised(tmp_path: Path):
    def broken():
        yield from itertools.islice(batches(), 2)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run(data=broken(), batch_size=None, targets=None, folder=tmp_path)
    assert len(list(tmp_path.glob("batch-*"))) == 2


@pytest.mark.parametrize("of_arrays", [True, False])
def test_parts_meet_in_a_folder(of_arrays: bool, whole: mc.Estimate, tmp_path: Path):
    seen, own = [], {} if of_arrays else {"batch_size": None, "targets": None}

    def part(index: int, parts: int = 2) -> mc.Estimate:
        data = X if of_arrays else batches()
        progress = lambda *now: seen.append(now)  # noqa: E731
        return run(data=data, folder=tmp_path, part=(index, parts), progress=progress, **own)

    first = part(0)
    assert sorted(path.name for path in tmp_path.glob("batch-*")) == ["batch-000000.npz", "batch-000002.npz"]
    assert first.num_samples.shape == (22,)
    equal(first.value["moments"]["mean"][16:], whole.value["moments"]["mean"][16:])
    with pytest.raises(FileNotFoundError, match="batch 1 is missing: run the other parts"):
        np.asarray(first.num_samples)
    equal(part(1), whole)
    equal(first, whole)  # the other part has come since
    equal(part(2, 3), whole)
    total = 14 if of_arrays else None
    assert seen[:2] == [(8, total), (14, total)]


def test_a_part_reads_its_own_batches_alone(tmp_path: Path):
    class Rows:
        shape, dtype, ndim = X.shape, X.dtype, 2
        read: list[int] = []  # noqa: RUF012

        def __len__(self):
            return len(X)

        def __getitem__(self, rows):
            self.read.append(rows.start)
            return X[rows]

    run(data=Rows(), part=(1, 3), folder=tmp_path)
    assert Rows.read == [0, 8]


def test_settings_of_the_calling_thread():
    """Batches are read by another thread, to which JAX's own settings do not pass."""
    data = np.linspace(0, 1, 12).reshape(4, 3)
    with jax.enable_x64(True):
        # Nothing is dropped, so the reducer sees the inputs.
        found = mc.estimate_dataset(
            jax.tree_util.Partial(lambda key, x: x * 1e8 % 1),
            KEY,
            data,
            batch_size=2,
            num_samples=2,
            reducers=mc.Moments(),
            allow_deterministic=True,
        )
    np.testing.assert_allclose(found.value["mean"], data * 1e8 % 1, atol=1e-6)


def test_keys_are_used_once(tmp_path: Path):
    with jax.debug_key_reuse(True):
        run(folder=tmp_path, reducers=mc.Moments(), targets=None)


def load_torch():
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X.copy()), torch.from_numpy(LABELS.copy()))
    return torch.utils.data.DataLoader(pairs, batch_size=8)


def load_tensorflow():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(8)


def load_tensorflow_as_numpy():
    return load_tensorflow().as_numpy_iterator()


def load_grain():
    grain = pytest.importorskip("grain")
    return grain.MapDataset.range(len(X)).map(lambda i: (X[i], LABELS[i])).batch(8)


def load_hugging_face():
    datasets = pytest.importorskip("datasets")
    found = datasets.Dataset.from_dict({"x": X, "label": LABELS}).with_format("numpy")
    return ((batch["x"], batch["label"]) for batch in found.iter(8))


@pytest.mark.parametrize(
    "load", [load_torch, load_tensorflow, load_tensorflow_as_numpy, load_grain, load_hugging_face]
)
def test_loaders_of_other_libraries(load, whole: mc.Estimate):
    equal(run(data=load(), batch_size=None, targets=None), whole)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path):
    """Of NumPy and Python, at the peak; the results are read by rows."""
    predict, batch = jax.tree_util.Partial(lambda key, x: x), np.ones((50, 400), np.float32)
    options = {"num_samples": 2, "reducers": mc.Moments(groups=0), "allow_deterministic": True}

    def peak(count: int) -> int:
        tracemalloc.start()
        data = (batch * i for i in range(count))
        found = mc.estimate_dataset(predict, KEY, data, **options, folder=tmp_path / str(count))
        assert found.value["mean"][-1][0] == count - 1
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(4)
    assert peak(100) - peak(10) < 20 * batch.nbytes


PROCESS = """
import sys, time
import jax, numpy as np
from jaxdrop import mc
from tests.mc import nets
folder, index = sys.argv[1], int(sys.argv[2])
options = {"batch_size": 8, "num_samples": 20, "reducers": mc.Moments()}
rows, predict = np.cos(np.arange(960.0)).reshape(160, 6), nets.bound()
jax.config.update("jax_disable_most_optimizations", True)  # as for the tests, but not for the weights
mc.estimate_dataset(
    predict, jax.random.key(0), rows, **options, folder=folder, part=(index, 2),
    progress=lambda done, total: time.sleep(0.02 if done < 64 else 600),
)
"""


@pytest.mark.slow
def test_processes_killed_at_random_give_the_bytes_of_one_run(tmp_path: Path):
    chance, folder, once = random.Random(0), tmp_path / "killed", tmp_path / "once"
    command = [sys.executable, "-c", PROCESS, str(folder)]
    running = [subprocess.Popen([*command, str(index)], cwd=ROOT, env=os.environ) for index in range(2)]

    def files() -> int:
        return len(list(folder.glob("batch-*")))

    for process in running:
        # Either process alone writes 8 files before it waits to be killed.
        goal, stop = min(files() + chance.randint(1, 5), 8), time.monotonic() + 120
        while files() < goal and process.poll() is None and time.monotonic() < stop:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
    assert 1 <= files() <= 16
    options = {"data": np.cos(np.arange(960.0)).reshape(160, 6), "targets": None, "reducers": mc.Moments()}
    run(folder=folder, part=(0, 2), **options)
    equal(run(folder=folder, part=(1, 2), **options), run(folder=once, **options))
    names = sorted(path.name for path in once.iterdir())
    assert len(names) == 21
    for name in names:
        assert (folder / name).read_bytes() == (once / name).read_bytes()
