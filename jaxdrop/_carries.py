"""Carries of loops within `shard_map`, where the first and the later ones must vary over the same axes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdrop._types import PyTree


def varying(body: Callable[[PyTree], PyTree], carry: PyTree) -> PyTree:
    """The first carry of a loop, which varies over the mesh axes that `body` makes it vary over."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return carry
    carry = jax.tree.map(jnp.asarray, carry)
    # What varies grows with every pass, and never beyond the axes of the mesh.
    while True:
        missing = jax.tree.map(_missing, carry, jax.eval_shape(body, carry))
        if not any(map(bool, jax.tree.leaves(missing, is_leaf=_is_axes))):
            return carry
        carry = jax.tree.map(cast, carry, missing)


def axes_of(leaf: jax.Array) -> frozenset[str]:
    """The mesh axes that an array varies over."""
    return _axes(jax.typeof(leaf))


def cast(leaf: jax.Array, axes: frozenset[str]) -> jax.Array:
    """An array that varies over more mesh axes, with its values."""
    return jax.lax.pcast(leaf, tuple(sorted(axes)), to="varying") if axes else leaf


def _missing(leaf: jax.Array, result: jax.ShapeDtypeStruct) -> frozenset[str]:
    return _axes(result) - axes_of(leaf)


def _axes(kind: PyTree) -> frozenset[str]:
    return frozenset(getattr(kind.manual_axis_type, "varying", None) or ())


def _is_axes(node: PyTree) -> bool:
    return isinstance(node, frozenset)
