"""The arrays of the table of calls: batches of eight, so that four devices can share them."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxdrop._types import PyTree
from tests.normals import standard_normal


@dataclass(frozen=True)
class Call:
    """A small valid call: a function of arrays and keys that gives a tree of arrays."""

    run: Callable[..., PyTree]
    args: tuple[PyTree, ...] = ()
    # Whether it can be traced: not a function that reads values, as a loop over a data set does.
    traced: bool = True

    def fresh(self) -> tuple[PyTree, ...]:
        """The arguments, with keys that no call has used."""
        return jax.tree.map(lambda leaf: jax.random.clone(leaf) if is_key(leaf) else leaf, self.args)

    def __call__(self) -> PyTree:
        return self.run(*self.fresh())


def call(run: Callable[..., PyTree], *args: PyTree) -> Call:
    return Call(run, args)


def is_key(leaf: PyTree) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


KEY = jax.random.key(0)
X = standard_normal(1, (8, 4, 6))
KERNEL = standard_normal(2, (6, 3))
PARAMS = {"kernel": KERNEL, "bias": jnp.ones(3)}
RATE = jnp.float32(0.3)
LOGITS = standard_normal(3, (5, 8, 3))
LABELS = jnp.arange(8) % 3
