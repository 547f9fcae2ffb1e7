"""The contests that only a GPU day runs: the contenders compute the same."""

from functools import partial

import jax
import numpy as np
import pytest

from experiments.benchmark import cards, models, peers
from tests.normals import standard_normal

pytestmark = pytest.mark.slow

SETTING = peers.load(quick=True)[0]


@pytest.mark.usefixtures("compiled_in_haste")
def test_samples_are_those_of_a_vmap():
    ours = peers.Setting({peers.OURS: peers.ours}, None, quick=True)
    (contest,) = cards.samples(ours)
    assert "8 samples" in contest.title
    results = {name: program.call() for (name, _), program in contest.build().items()}
    mean, variance = results[contest.floor]
    assert set(results) == {
        contest.floor,
        "mc.sample",
        "mc.sample in jit",
        "mc.estimate",
        "mc.estimate in jit",
    }
    close = partial(np.testing.assert_allclose, atol=5e-3)
    close(results["mc.sample"].mean(0), mean)
    close(results["mc.sample in jit"][0], mean)
    close(results["mc.sample in jit"][1], variance)
    for name in ("mc.estimate", "mc.estimate in jit"):
        close(results[name].value["mean"], mean)
    assert variance.max() > 0


def test_steps_have_all_who_are_there(monkeypatch):
    """Programs are traced, not compiled."""
    shapes = {}

    def traced(loss, params, x):
        shapes[len(shapes)] = jax.eval_shape(loss, params, jax.random.key(0), x)

    monkeypatch.setattr(models, "trained", traced)
    monkeypatch.setattr(cards, "_by_trainer", lambda params, x: None)
    (contest,) = cards.transformer(SETTING)
    names = {name for name, _ in contest.build()}
    expected = {peers.NONE, *SETTING.drops, cards.REDRAWN, cards.BLOCKS, cards.TRAINER}
    assert names == expected
    assert all(shape.shape == () for shape in shapes.values())
    assert len(shapes) == len(names) - 1


@pytest.mark.usefixtures("compiled_in_haste")
def test_attention_of_either_layout_is_the_same():
    params = models.block_params(jax.random.key(2), 8, 2)
    x = standard_normal(1, (2, 4, 8))

    def attend(key, queries, keys, values):
        return jax.nn.dot_product_attention(queries, keys, values)

    heads_first, own = (
        jax.jit(partial(models.block, peers.no_drop, attend=way))(params, jax.random.key(0), x)
        for way in (None, attend)
    )
    np.testing.assert_allclose(own, heads_first, rtol=1e-4, atol=1e-5)
