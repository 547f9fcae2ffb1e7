"""Meshes of several devices, on any machine."""

import math

import jax
from jax.sharding import AxisType, Mesh


def make_mesh(
    sizes: tuple[int, ...], names: tuple[str, ...], axis_types: tuple[AxisType, ...] | None = None
) -> Mesh:
    """`jax.make_mesh` of the CPU's eight devices, also where the default device is a GPU."""
    return jax.make_mesh(sizes, names, axis_types, devices=jax.devices("cpu")[: math.prod(sizes)])
