"""Tasks: their rows and targets, and a network that learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data, splits
from experiments.samples import networks, tasks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def test_rows_are_those_in_distribution_then_others():
    x = np.random.default_rng(0).uniform(size=(30, 64)).astype(np.float32)
    y = np.arange(30, dtype=np.int32) % 10
    examples = data.Dataset("digits", x + 5, y, x, y)
    made = tasks.of_images(examples, x + 10, 8, 0, quick=True)
    assert [task.name for task in made] == ["MLP", "residual", "CNN", "LSTM", "ViT"]
    for task in made:
        assert task.classes
        assert task.x.shape == (16, 64)
        assert task.x[:8].max() <= 1 < 10 <= task.x[8:].min()
        rows = [int(np.flatnonzero((x == row).all(1))[0]) for row in task.x[:8]]
        np.testing.assert_array_equal(task.y, y[rows])
        assert task.steps % tasks.CHUNKS == 0


@pytest.mark.slow
def test_a_regression_network_learns_standardized_targets(tmp_path):
    task = tasks.of_table(splits.quick(0), 50, 100)
    assert not task.classes
    assert task.model == networks.MLP((tasks.UNITS,), 1, (tasks.RATE, tasks.RATE))
    assert np.shape(task.y) == task.x.shape[:1]
    assert abs(task.train[1].mean()) < 1e-5
    assert task.train[1].std() == pytest.approx(1, rel=1e-5)
    trained = tasks.train(task, 0, tmp_path)
    assert trained.losses[-1] < trained.losses[0]
    assert trained.precision == pytest.approx(1 / trained.losses[-1])
    predict = tasks.predictor(task, trained)
    shape = jax.eval_shape(predict, jax.random.key(0), jnp.asarray(task.x)).shape
    assert shape == (len(task.x), 1)
