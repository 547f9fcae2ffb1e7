"""Devices and hosts: the mesh that runs are divided over, and what hosts do together.

Every host runs the same command with the same data; the first one writes.
"""

import math
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import cli

RUNS = PartitionSpec("runs")
SHARED = PartitionSpec()


def mesh(devices: int | None, runs: int) -> Mesh | None:
    """Mesh of the devices that runs are divided over; None for one device.

    Args:
      devices: The number of devices, which must divide the number of runs. None: all devices of all hosts; on
        one host, as many of its GPUs as divide the runs, or one CPU.
      runs: The number of runs.

    Raises:
      BadInputError: If there are fewer devices, they do not divide the runs, or a host would have none.
    """
    there, many = jax.devices(), jax.process_count() > 1
    if devices is None:
        alone = 1 if there[0].platform == "cpu" else math.gcd(len(there), runs)
        devices = len(there) if many else alone
    if devices > len(there) or (many and devices < len(there)):
        most = (
            f"{len(there)}, the devices of all hosts" if many else f"at most {len(there)}, the devices there"
        )
        raise cli.BadInputError(f"`devices` must be {most}, got {devices}.")
    if runs % devices:
        raise cli.BadInputError(f"`devices` must divide the number of runs, {runs}, got {devices}.")
    return None if devices == 1 else Mesh(np.array(there[:devices]), tuple(RUNS))


def put(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Arrays on the devices of a mesh; each host has the whole of them."""
    sharding = NamedSharding(mesh, spec)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.jit(lambda tree: tree, out_shardings=sharding)(tree)


def whole(tree: Any) -> Any:
    """Arrays of NumPy from those on the devices of all hosts."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def is_first() -> bool:
    """Whether this is the host that writes."""
    return jax.process_index() == 0


def wait(what: str) -> None:
    """Waits until all hosts are there."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def agreed(choice: bool) -> bool:
    """The first host's choice, on all hosts."""
    return choice if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(choice))
