"""Whole data sets: batches, the ragged last one, progress, and restarts after an interruption."""

import jax
import numpy as np
import pytest

from jaxdrop import mc
from tests.mc import nets

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
PREDICT = nets.bound()
X, LABELS = np.asarray(nets.inputs(22)), np.asarray(nets.labels(22))
REDUCERS = {"moments": mc.Moments(), "quantiles": mc.Quantiles((0.5,)), "density": mc.CategoricalLogDensity()}
OPTIONS = {"batch_size": 8, "num_samples": 20, "reducers": REDUCERS, "targets": LABELS}


def run(**options) -> mc.Estimate:
    return mc.estimate_dataset(options.pop("predict", PREDICT), KEY, X, **(OPTIONS | options))


def equal(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def whole() -> mc.Estimate:
    return run()


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


def test_shared_is_one_function_of_all_the_data():
    same = np.broadcast_to(X[:1], X.shape)
    options = OPTIONS | {"shared": True, "reducers": mc.Moments(), "targets": None}
    found = mc.estimate_dataset(PREDICT, KEY, same, **options)
    np.testing.assert_allclose(np.ptp(found.value["mean"], axis=0), 0, atol=1e-6)


def test_a_mesh_and_fewer_examples_than_a_batch():
    mesh = jax.make_mesh((4, 2), ("samples", "batch"))
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
    assert len(kept) == 2
    equal(run(folder=tmp_path), whole)
    assert len(list(tmp_path.iterdir())) == 3
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in kept.items())


def test_another_result_in_the_folder(tmp_path):
    run(folder=tmp_path)
    with pytest.raises(ValueError, match="`folder` must be new or hold results of this same call"):
        run(folder=tmp_path, reducers=mc.Moments())


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


def test_a_damaged_file_in_the_folder(tmp_path):
    run(folder=tmp_path)
    damaged = sorted(tmp_path.iterdir())[1]
    for content in (b"", damaged.read_bytes()[:100]):
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match=f"got a damaged one, to be removed: .*{damaged.name}"):
            run(folder=tmp_path)


def test_data_without_an_axis_of_examples():
    with pytest.raises(TypeError, match=r"must hold arrays with an axis of examples, got 1\.0"):
        mc.estimate_dataset(PREDICT, KEY, [[1.0, 2.0], [3.0, 4.0]], **OPTIONS)
