"""Which devices runs are divided over, and what is refused."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from experiments import cli, hosts


@pytest.fixture
def gpus(monkeypatch):
    """As if the eight devices were those of an accelerator."""

    class Device:
        platform = "gpu"

    there = [Device() for _ in range(8)]
    monkeypatch.setattr(hosts.jax, "devices", lambda: there)
    monkeypatch.setattr(hosts, "Mesh", lambda devices, names: devices)
    return there


def test_a_cpu_is_one_device_unless_more_are_asked_for():
    assert hosts.mesh(None, 8) is None
    assert hosts.mesh(1, 8) is None
    assert dict(hosts.mesh(4, 8).shape) == {"runs": 4}


def test_by_default_as_many_gpus_as_divide_the_runs(gpus):
    assert list(hosts.mesh(None, 24)) == gpus
    assert list(hosts.mesh(None, 12)) == gpus[:4]
    assert hosts.mesh(None, 5) is None


def test_what_cannot_be_divided_is_refused(monkeypatch):
    for devices, runs, message in (
        (9, 18, "`devices` must be at most 8, the devices there, got 9."),
        (4, 6, "`devices` must divide the number of runs, 6, got 4."),
    ):
        with pytest.raises(cli.BadInputError, match=re.escape(message)):
            hosts.mesh(devices, runs)
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 2)
    assert hosts.mesh(None, 16).size == 8
    with pytest.raises(cli.BadInputError, match="must be 8, the devices of all hosts, got 4"):
        hosts.mesh(4, 8)
    with pytest.raises(cli.BadInputError, match="must divide the number of runs, 12, got 8"):
        hosts.mesh(None, 12)


def test_arrays_are_divided_and_gathered():
    mesh = hosts.mesh(2, 4)
    whole = {"x": np.arange(8.0).reshape(4, 2)}
    put = hosts.put(whole, mesh, hosts.RUNS)
    assert put["x"].sharding.spec == PartitionSpec("runs")
    np.testing.assert_array_equal(hosts.whole(put)["x"], whole["x"])
    assert hosts.is_first()
    assert hosts.agreed(True)
    hosts.wait("here")
    assert jax.process_count() == 1
