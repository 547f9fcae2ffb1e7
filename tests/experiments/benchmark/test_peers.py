"""The peers: dropouts all, and left out by name where they are not installed."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import report
from experiments.benchmark import peers

SETTING, MISSING = peers.load(quick=True)


@pytest.mark.parametrize("name", sorted(SETTING.drops))
@pytest.mark.parametrize("dims", [(), (1, 2)])
def test_a_peer_drops_at_the_rate(name, dims):
    x = jnp.ones((16, 8, 8, 64))
    if name == "equinox" and dims:
        with pytest.raises(NotImplementedError, match="shares no decisions"):
            SETTING.drops[name](jax.random.key(0), x, 0.25, dims)
        return
    y = np.asarray(SETTING.drops[name](jax.random.key(0), x, 0.25, dims))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
    n = y.size // 64 if dims else y.size
    assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n)
    if dims:
        assert (y == y[:, :1, :1]).all()


def test_a_torch_without_the_gpu_is_named(monkeypatch):
    torch = types.SimpleNamespace(
        set_num_threads=lambda count: None, cuda=types.SimpleNamespace(is_available=lambda: False)
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert peers.load(quick=True)[0].torch is torch
    monkeypatch.setattr(report, "device", lambda: types.SimpleNamespace(platform="gpu"))
    setting, missing = peers.load(quick=True)
    assert setting.torch is None
    assert "torch for this GPU" in missing


def test_who_is_not_installed_is_named(monkeypatch):
    for name in ("equinox", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    setting, missing = peers.load(quick=True)
    assert {"equinox", "torch"} <= set(missing)
    assert setting.torch is None
    assert "equinox" not in setting.drops
    assert peers.OURS in setting.drops
