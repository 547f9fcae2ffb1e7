"""Execution: the size of the chunks, and processes that share a mesh."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc import _program
from tests.mc import nets

ROOT = Path(__file__).parents[2]
KEY = jax.random.key(0)


def chunk(units: int, num_samples: int, chunk_size: int | None = None) -> int:
    def predict(key, x):
        return jaxdrop.dropout(key, jnp.broadcast_to(x, (len(x), units)), 0.5)

    return _program.plan(predict, KEY, jnp.ones((8, 1)), num_samples, chunk_size=chunk_size).execution.chunk


def test_the_chunks_fit_the_cache_and_are_of_one_size():
    assert chunk(4, 100) == 100  # little: all at once
    assert chunk(10_000_000, 100) == 1  # much: one at a time
    between = chunk(2**14, 100)
    assert 1 < between < 100
    assert -(-100 // between) * between < 100 + between
    assert chunk(4, 100, 7) == 7
    assert chunk(4, 5, 7) == 5


def test_a_mesh_divides_every_chunk():
    mesh = jax.make_mesh((8,), ("samples",))
    assert _program.plan(nets.bound(), KEY, nets.inputs(), 20, chunk_size=5, mesh=mesh).execution.chunk == 8


PROCESS = """
import pathlib, sys
import jax, numpy as np
number, address, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(address, num_processes=2, process_id=number)
from jax.sharding import NamedSharding, PartitionSpec
from jaxdrop import mc
from tests.mc import nets
mesh = jax.make_mesh((2, 2), ("samples", "batch"))
rows = np.asarray(nets.inputs())
sharded = NamedSharding(mesh, PartitionSpec("batch"))
x = jax.make_array_from_callback(rows.shape, sharded, lambda place: rows[place])
reducers = {"moments": mc.Moments(), "classes": mc.Categorical()}
found = mc.estimate(nets.bound(), jax.random.key(0), x, num_samples=40, reducers=reducers, mesh=mesh)
whole = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))(found[:2])
np.savez(out + str(number), *map(np.asarray, jax.tree.leaves(whole)))


# Data sets with a local or a common folder; if one process has lost a file, both compute the batch again.
options = {"batch_size": 6, "num_samples": 40, "reducers": reducers["moments"], "mesh": mesh}
run = lambda folder: mc.estimate_dataset(nets.bound(), jax.random.key(0), rows, **options, folder=folder)
run(out + f"own-{number}")
if number:
    (pathlib.Path(out) / "own-1" / "batch-000001-of-000002.npz").unlink()
for folder in (f"own-{number}", "both"):
    found = run(out + folder)
    np.savez(out + f"dataset-{folder}-{number}", *jax.tree.leaves(found[:2]))
"""


def test_two_processes_give_what_one_gives(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROCESS]
    running = [
        subprocess.Popen([*command, str(number), address, f"{tmp_path}/"], cwd=ROOT, env=env)
        for number in range(2)
    ]
    try:
        assert [process.wait(timeout=240) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    reducers = {"moments": mc.Moments(), "classes": mc.Categorical()}
    alone = mc.estimate(nets.bound(), KEY, nets.inputs(), num_samples=40, reducers=reducers)
    rows, moments = np.asarray(nets.inputs()), reducers["moments"]
    dataset = mc.estimate_dataset(nets.bound(), KEY, rows, batch_size=6, num_samples=40, reducers=moments)
    assert len(list((tmp_path / "both").iterdir())) == 2
    for number in range(2):
        for name, expected in (("", alone), (f"dataset-own-{number}-", dataset), ("dataset-both-", dataset)):
            with np.load(tmp_path / f"{name}{number}.npz") as file:
                leaves = [file[f"arr_{i}"] for i in range(len(file.files))]
            for leaf, value in zip(leaves, jax.tree.leaves(expected[:2]), strict=True):
                np.testing.assert_allclose(leaf, value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_programs_are_kept_by_the_function(shared: bool):
    traces = []

    def predict(key, x):
        traces.append(None)
        return jaxdrop.dropout(key, x, 0.5)

    for seed in range(3):
        mc.sample(predict, jax.random.key(seed), nets.inputs(), num_samples=4, shared=shared)
    assert len(traces) == 2  # one look, one program
