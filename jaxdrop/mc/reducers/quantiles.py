"""Quantiles of the outputs."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass

from jaxdrop import _checks, _predictions
from jaxdrop._types import PyTree
from jaxdrop.mc.reducers._grouped import Estimates, Summary

__all__ = ["Quantiles"]

# Standard deviations of a rank: a 95 % interval. Fewer would give a noisier width.
_WIDTH = 1.96


@partial(register_dataclass, data_fields=[], meta_fields=["levels", "capacity"])
@dataclass(frozen=True)
class Quantiles:
    """Quantiles of the outputs, from the first `capacity` samples.

    Gives "quantiles", `[B, Q, ...]` of outputs `[B, ...]`, interpolated between order statistics as in
    `numpy.quantile`. The samples are independent, so the first ones serve as well as any others. The
    standard error is the width of the 95 % interval between order statistics, which is valid for any
    distribution, divided by twice 1.96. It is that of the stored samples, and NaN if they are too few
    for such an interval: up to 3.84 (1 - q) / q for a level q below a half, 73 for 0.05.

    Attributes:
      levels: The levels of the quantiles, each in (0, 1): a tuple, or one number.
      capacity: How many samples are stored, at least 2; the memory is `capacity` times the outputs'.
    """

    levels: tuple[float, ...] = (0.05, 0.5, 0.95)
    capacity: int = 2048

    def __post_init__(self) -> None:
        if not isinstance(self.levels, tuple | float | int):
            object.__setattr__(self, "levels", tuple(np.asarray(self.levels).tolist()))

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks the levels and the capacity."""
        _checks.check_count(self.capacity, "capacity", 2)
        _predictions.check_level(self.levels, "levels")

    def check_values(self, values: Estimates) -> None:
        """Accepts all estimates."""

    def summarize(self, samples: PyTree, index: jax.Array, targets: PyTree) -> Summary:
        """Stores the samples; see `Reducer`."""
        order = jnp.argsort(index < 0, stable=True)[: self.capacity]
        room = max(self.capacity - order.shape[0], 0)
        kept = jax.tree.map(lambda y: jnp.pad(y[order], [(0, room)] + [(0, 0)] * (y.ndim - 1)), samples)
        return {"n": jnp.minimum((index >= 0).sum(), self.capacity).astype(jnp.int32), "kept": kept}

    def merge(self, a: Summary, b: Summary) -> Summary:
        """Appends the samples of the second state, up to the capacity."""
        place = jnp.arange(self.capacity, dtype=jnp.int32)
        mine, theirs = place < a["n"], jnp.clip(place - a["n"], 0)

        def both(x: jax.Array, y: jax.Array) -> jax.Array:
            return jnp.where(mine.reshape(-1, *[1] * (x.ndim - 1)), x, y[theirs])

        n = jnp.minimum(a["n"] + b["n"], self.capacity)
        return {"n": n, "kept": jax.tree.map(both, a["kept"], b["kept"])}

    def finish(self, state: Summary) -> tuple[Estimates, Estimates]:
        """Computes the quantiles, and their standard errors from intervals between order statistics."""
        levels = jnp.asarray(self.levels, jnp.float32)
        spread = _WIDTH * jnp.sqrt(levels * (1 - levels) / state["n"].astype(levels.dtype))
        ordered = jax.tree.map(partial(_sorted, state["n"]), state["kept"])

        def at(levels: jax.Array) -> PyTree:
            return jax.tree.map(lambda y: _quantiles(y, levels, state["n"]), ordered)

        up, down = at(levels + spread), at(levels - spread)
        within = (levels - spread >= 0) & (levels + spread <= 1)
        error = jax.tree.map(
            lambda x, y: jnp.where(
                within.reshape(1, -1, *[1] * (x.ndim - 2)), (x - y) / (2 * _WIDTH), jnp.nan
            ),
            up,
            down,
        )
        return {"quantiles": at(levels)}, {"quantiles": error}


def _sorted(n: jax.Array, kept: jax.Array) -> jax.Array:
    """Sorted along the first axis, with unused places at the end."""
    unused = jnp.arange(kept.shape[0], dtype=n.dtype).reshape(-1, *[1] * (kept.ndim - 1)) >= n
    return jnp.sort(jnp.where(unused, jnp.inf, kept.astype(jnp.float32)), axis=0)


def _quantiles(ordered: jax.Array, levels: jax.Array, n: jax.Array) -> jax.Array:
    place = jnp.clip(levels, 0, 1) * (n - 1).astype(levels.dtype)
    whole = jnp.floor(place)
    low = whole.astype(jnp.int32)
    high = jnp.minimum(low + 1, n - 1)
    share = (place - whole).reshape(-1, *[1] * (ordered.ndim - 1))
    below, above = ordered[low], ordered[high]
    # The difference of equal infinities would be NaN.
    found = jnp.where(below == above, below, below + share * (above - below))
    return jnp.moveaxis(found, 0, 1)
