"""The contests of single operations: who contends, and that the keys come from where they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark import ops, peers

SETTING, _ = peers.load(quick=True)


def test_contests():
    contests = list(ops.ops(SETTING))
    titles = [contest.title for contest in contests]
    assert len(set(titles)) == len(titles)
    for word in ("float32", "bfloat16", "in place", "spatial", "weights", "split", "NNX", "vmap"):
        assert any(word in title for title in titles)


def test_full_sizes():
    titles = [contest.title for contest in ops.ops(peers.Setting({}, None, quick=False))]
    for word in ("128x1024", "4096x4096", "8192x4096", "rate 0.1", "rate 0.5"):
        assert any(word in title for title in titles)


@pytest.mark.slow
def test_a_contest_has_all_who_are_there():
    programs = next(iter(ops.ops(SETTING))).build()
    names = {name for name, _ in programs}
    assert {ops.COPY, *SETTING.drops} <= names
    assert ("torch" in names) == (SETTING.torch is not None)
    for (name, _), program in programs.items():
        result = program.call()
        assert name == "torch" or np.isfinite(jax.tree.leaves(result)[0]).all()


def test_in_place_is_where_it_was():
    (contest,) = [contest for contest in ops.ops(SETTING) if "in place" in contest.title]
    for (name, _), program in contest.build().items():
        if name == "torch":
            assert program.call().data_ptr() == program.call().data_ptr()
            continue
        first = program.wait(program.call())
        place = first.unsafe_buffer_pointer()
        second = program.wait(program.call())
        assert first.is_deleted()
        assert second.unsafe_buffer_pointer() == place
        assert np.isfinite(second).all()


@pytest.mark.parametrize("name", sorted(ops.KEYS))
@pytest.mark.parametrize("contender", [peers.OURS, peers.FLAX])
def test_keys(name, contender):
    x = jnp.ones((8, 64))
    derive = ops.KEYS[name]
    first, second = (
        derive(SETTING.drops[contender], contender, jax.random.key(seed), x, 0.5) for seed in (0, 1)
    )
    assert first.shape == ((16, 8, 64) if "vmap" in name else (8, 64))
    assert 0.3 < (first == 0).mean() < 0.7
    assert (first != second).any()
