"""Programs compiled for the description of an H100, which needs no GPU: their kernels and loops."""

import contextlib
import functools
import importlib.util
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, Mesh, NamedSharding, PartitionSpec

_TARGET = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 patch: 0 }
runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# What runs no kernel.
_FREE = frozenset(
    {
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "while",
        "call",
        "conditional",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "add-dependency",
        "async-start",
        "async-done",
        "copy-done",
    }
)

# Those of a user, whatever the tests' own are.
_OPTIONS = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}

needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None, reason="needs the extra `cuda`"
)


class Kernel(NamedTuple):
    """An instruction that runs on the device: its name, operation, and arrays that it writes."""

    name: str
    operation: str
    shapes: tuple[tuple[int, ...], ...]

    @property
    def largest(self) -> int:
        return max((math.prod(shape) for shape in self.shapes), default=0)


class Program(NamedTuple):
    """A compiled program.

    Attributes:
      kernels: Those outside loops.
      loops: The kernels of each loop's body.
      temporary_bytes: Memory beyond arguments and results.
      text: The optimized HLO.
    """

    kernels: list[Kernel]
    loops: list[list[Kernel]]
    temporary_bytes: int
    text: str

    def writers(self, size: int) -> list[Kernel]:
        """The kernels that write an array of at least `size` elements."""
        return [kernel for kernel in self.kernels if kernel.largest >= size]


def described_for_pallas() -> contextlib.AbstractContextManager:
    """For programs with kernels of Pallas, which is told the device in another way."""
    device = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    return jax.sharding.use_abstract_mesh(AbstractMesh((), (), abstract_device=device))


@functools.cache
def _sharding() -> NamedSharding:
    described = topologies.get_topology_desc("", "cuda", topology="1x1x1", target_config=_TARGET)
    return NamedSharding(Mesh(np.array(described.devices), "x"), PartitionSpec())


def _lowered(fun: Callable, *args) -> jax.stages.Lowered:
    def on_gpu(leaf):
        leaf = jax.eval_shape(lambda: leaf) if isinstance(leaf, int | float) else leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding())

    with jax.default_matmul_precision("default"):
        return jax.jit(fun).lower(*jax.tree.map(on_gpu, args))


def compiled(fun: Callable, *args) -> Program:
    """The program of `fun` for arguments of these shapes and dtypes."""
    found = _lowered(fun, *args).compile(_OPTIONS)
    memory = found.memory_analysis()
    return _read(found.as_text(), memory.temp_size_in_bytes if memory else 0)


def assembly(fun: Callable, *args) -> str:
    """The kernels of `fun` in PTX, the assembly language before registers are assigned."""
    with tempfile.TemporaryDirectory() as folder:
        _lowered(fun, *args).compile(_OPTIONS | {"xla_dump_to": folder, "xla_dump_emitter_re": ".*"})
        return "".join(path.read_text() for path in sorted(Path(folder).rglob("*.ptx")))


def _read(text: str, temporary_bytes: int) -> Program:
    bodies = {}
    for part in re.split(r"\n(?=(?:ENTRY )?%?[\w.\-]+ (?:\([^\n]*)?\{?)", text):
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(", part)
        if head:
            bodies["ENTRY" if head[1] else head[2]] = part.splitlines()[1:]
    kernels, loops = [], []

    def walk(name: str, into: list[Kernel]) -> None:
        for line in bodies[name]:
            found = re.match(r"\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(", line)
            if not found:
                continue
            _, result, operation = found.groups()
            if operation == "while":
                loops.append([])
                walk(re.search(r"body=%?([\w.\-]+)", line)[1], loops[-1])
            elif operation == "call":
                walk(re.search(r"to_apply=%?([\w.\-]+)", line)[1], into)
            elif operation not in _FREE:
                shapes = re.findall(r"\w+\[([\d,]*)\]", result)
                sizes = tuple(tuple(int(n) for n in shape.split(",") if n) for shape in shapes)
                into.append(Kernel(found[1], operation, sizes))

    walk("ENTRY", kernels)
    return Program(kernels, loops, temporary_bytes, text)
