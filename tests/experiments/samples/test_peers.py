"""Loops that find the moments of their samples, with Flax's dropout and with torch's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.samples import networks, peers, tasks

pytestmark = pytest.mark.usefixtures("compiled_in_haste")
X = np.random.default_rng(0).uniform(size=(4, 64)).astype(np.float32)
MODEL = networks.MLP((8,), networks.CLASSES, (0.2, 0.5))
TASK = tasks.Task("MLP", MODEL, 5, 10, (X, np.zeros(4)), X, np.zeros(2, np.int32))


@pytest.mark.slow
def test_flax_loop_has_the_statistics_of_its_samples():
    trained = tasks.Trained(MODEL.init(jax.random.key(0), jnp.asarray(X)), 1.0, np.zeros(5))
    programs = peers.loops(TASK, trained, (6,))
    mean, covariance, probs, total, expected = programs[peers.label(peers.FLAX, 6)].call()
    flax = MODEL.clone(drop=nn.Dropout)
    y = np.stack(
        [
            flax.apply(trained.variables, X, deterministic=False, rngs={"dropout": key})
            for key in jax.random.split(jax.random.key(0), 6)
        ]
    )
    p = np.exp(y) / np.exp(y).sum(-1, keepdims=True)
    np.testing.assert_allclose(mean, y.mean(0), atol=1e-5)
    np.testing.assert_allclose(covariance[1], np.cov(y[:, 1].T), atol=1e-5)
    np.testing.assert_allclose(probs, p.mean(0), atol=1e-5)
    np.testing.assert_allclose(total, -(p.mean(0) * np.log(p.mean(0))).sum(-1), atol=1e-4)
    np.testing.assert_allclose(expected, -(p * np.log(p)).sum(-1).mean(0), atol=1e-4)


@pytest.mark.parametrize("name", tasks.image_models(True))
def test_torch_networks_draw_logits(name):
    torch = pytest.importorskip("torch")
    model, *_ = tasks.image_models(True)[name]
    found = peers.torch_loop(torch, TASK._replace(model=model))(5)
    assert [tuple(part.shape) for part in found] == [(4, 10), (4, 10, 10), (4, 10), (4,), (4,)]
    assert all(np.isfinite(part.numpy()).all() for part in found)
    assert (np.diagonal(found[1].numpy(), axis1=1, axis2=2) > 0).any()


def test_torch_is_left_out_if_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    trained = tasks.Trained({}, 1.0, np.zeros(5))
    assert set(peers.loops(TASK, trained, (3, 5))) == {"Flax loop, T=3", "Flax loop, T=5"}
