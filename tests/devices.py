"""Meshes of several devices, and several processes, on any machine."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
from jax.sharding import AxisType, Mesh

ROOT = Path(__file__).parents[1]


def make_mesh(
    sizes: tuple[int, ...], names: tuple[str, ...], axis_types: tuple[AxisType, ...] | None = None
) -> Mesh:
    """`jax.make_mesh` of the CPU's eight devices, also where the default device is a GPU."""
    return jax.make_mesh(sizes, names, axis_types, devices=jax.devices("cpu")[: math.prod(sizes)])


def run_two_processes(code: str, out: Path) -> None:
    """Runs code as two processes of two CPU devices each.

    Its arguments are the number of the process, the coordinator's address, and the folder to write to.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    running = [
        subprocess.Popen([*command, str(number), address, f"{out}/"], cwd=ROOT, env=env)
        for number in range(2)
    ]
    try:
        assert [process.wait(timeout=240) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
