"""Networks of their own weights and keys, and one of each seed with dropout."""

import jax
import numpy as np
import pytest

from experiments import data, loop
from experiments.ood import networks
from tests.experiments import events

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

PLAN = networks.Plan("digits", 3, 2, hidden=(8,), steps=10, members=2)


def test_the_last_network_of_each_seed_has_dropout():
    keys, params, hyper = networks.cells(PLAN, 6)
    np.testing.assert_allclose(hyper["rate"], [0, 0, 0.2, 0, 0, 0.2])
    kernel = np.asarray(params["params"]["Dense_0"]["kernel"])
    assert kernel.shape == (6, 6, 8)
    np.testing.assert_array_equal(kernel[0], kernel[2])
    assert len({row.tobytes() for row in kernel}) == 4
    assert len({row.tobytes() for row in np.asarray(jax.random.key_data(keys))}) == 4


def test_seeds_do_not_depend_on_how_many_there_are():
    one, two = (networks.cells(PLAN._replace(seeds=seeds), 6) for seeds in (1, 2))
    for few, many in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert (few == many[:3]).all()


@pytest.mark.slow
def test_networks_learn(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(100, dtype=np.int32) % 2
    x = (rng.normal(size=(100, 6)) + 3 * y[:, None]).astype(np.float32)
    examples = data.Dataset("digits", x, y, x, y)
    setup = loop.Setup(2, tmp_path, tmp_path)
    params, losses = networks.train(PLAN._replace(steps=50), examples, tmp_path / "run", setup)
    curves = events.points(tmp_path / "run")
    np.testing.assert_allclose(curves["train/ensemble"][-1], (50, losses[-1, :, :2].mean()), rtol=1e-6)
    np.testing.assert_allclose(curves["train/dropout"][-1], (50, losses[-1, :, 2].mean()), rtol=1e-6)
    assert losses.shape == (networks.CHUNKS, 2, 3)
    assert (losses[-1] < losses[0]).all()
    assert params["params"]["Dense_1"]["kernel"].shape == (2, 3, 8, 10)
