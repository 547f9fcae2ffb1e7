"""Networks that learn a curve, and curves that are the means of samples."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import loop
from experiments.co2 import networks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

PLAN = networks.Plan("a line", 3, 2, hidden=(16, 16), rate=0.2, steps=100, held_out=5, samples=300)
X = np.linspace(-1, 1, 20, dtype=np.float32)


@functools.cache
def found(folder: Path) -> dict[str, networks.Curves]:
    return networks.run(PLAN, X, 2 * X, X, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("curves")


@pytest.mark.slow
def test_every_activation_learns(folder):
    assert list(found(folder)) == list(networks.ACTIVATIONS)
    for curves in found(folder).values():
        assert all(values.shape == (2, 20) for values in curves[:3])
        assert curves.learned.shape == (2, networks.CHUNKS)
        seen = curves.scaled[:, :15] - 2 * X[:15]
        np.testing.assert_allclose(curves.learned[:, -1], np.sqrt((seen**2).mean(-1)), rtol=1e-4)
        assert ((curves.scaled[:, :15] - 2 * X[:15]) ** 2).mean() < 0.5 * (4 * X[:15] ** 2).mean()
        assert (curves.deviation > 0).all()
        assert not np.allclose(curves.mean[0], curves.mean[1], atol=1e-3)


@pytest.mark.slow
def test_the_points_held_out_are_not_seen(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "ACTIVATIONS", {"tanh": networks.ACTIVATIONS["tanh"]})
    y = 2 * X
    y[-5:] = 100
    other = networks.run(PLAN, X, y, X, tmp_path)
    # Two compilations may differ in rounding.
    np.testing.assert_allclose(other["tanh"].scaled, found(folder)["tanh"].scaled, atol=1e-4)


def test_a_matched_rate_brings_the_noise_of_the_papers_layers():
    assert networks.matched_rate(1024) == pytest.approx(0.1)
    for width in (32, 128, 4096):
        rate = networks.matched_rate(width)
        assert rate / (1 - rate) / width == pytest.approx(0.1 / 0.9 / 1024)


@pytest.mark.slow
def test_curves_are_the_moments_of_samples(tmp_path):
    params, _ = networks.train(PLAN, "ReLU", X, X, tmp_path, loop.Setup(devices=2))
    found = networks.curves(PLAN, "ReLU", params, jax.random.split(jax.random.key(8), 2), jnp.asarray(X))
    model, own = PLAN.model("ReLU"), jax.tree.map(lambda leaf: leaf[0], params)
    keys = jax.random.split(jax.random.key(9), 300)
    draw = jax.vmap(lambda key: model.apply(own, X[:, None], deterministic=False, rngs={"dropout": key}))
    drawn = np.asarray(draw(keys))[..., 0]
    error = drawn.std(0) / 300**0.5
    # Two means of 300 samples each.
    assert (np.abs(found.mean[0] - drawn.mean(0)) < 5 * 2**0.5 * error + 1e-6).all()
    np.testing.assert_allclose(found.deviation[0], drawn.std(0), rtol=0.35)
