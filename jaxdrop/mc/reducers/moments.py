"""Mean, variance and covariance of the outputs."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop.mc.reducers._grouped import GROUPS, Grouped, State, average


@partial(register_dataclass, data_fields=[], meta_fields=["covariance", "groups"])
@dataclass(frozen=True)
class Moments(Grouped):
    """Mean and variance of the outputs, a tree of arrays `[B, ...]`.

    Gives "mean" and "variance", of the shapes of the outputs, float32, and with `covariance` also
    "covariance", `[B, D, D]` of the D outputs of an example. Variance and covariance are the
    unbiased ones, NaN for one sample. Sums run about the mean, so nothing cancels. The standard
    error of the mean is the root of the variance over the number of samples; those of variance and
    covariance come from groups of samples.

    Attributes:
      covariance: Whether to estimate the covariance of the outputs of an example too.
      groups: How many groups; with 0 the mean alone has a standard error.

    References:
      Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
    """

    covariance: bool = False
    groups: int = GROUPS

    def summary(self, samples: Any, weights: jax.Array, targets: Any) -> State:
        """See `Grouped`."""
        n = weights.sum()
        mean = jax.tree.map(partial(average, weights), samples)
        off = jax.tree.map(lambda y, m: _gap(m[None], y.astype(jnp.float32)), samples, mean)
        return {"n": n, "mean": mean, "scatter": jax.tree.map(partial(self._scatter, weights), off)}

    def join(self, a: State, b: State) -> State:
        """See `Grouped`."""
        n = a["n"] + b["n"]
        gap = jax.tree.map(_gap, a["mean"], b["mean"])
        mean = jax.tree.map(lambda x, d: x + d * (b["n"] / n), a["mean"], gap)
        share = (a["n"] * b["n"] / n)[None]
        between = jax.tree.map(lambda d: self._scatter(share, d[None]), gap)
        scatter = jax.tree.map(lambda x, y, z: x + y + z, a["scatter"], b["scatter"], between)
        return {"n": n, "mean": mean, "scatter": scatter}

    def values(self, state: State) -> State:
        """See `Grouped`."""
        spread = jax.tree.map(
            lambda s: s / jnp.where(state["n"] > 1, state["n"] - 1, jnp.nan), state["scatter"]
        )
        if not self.covariance:
            return {"mean": state["mean"], "variance": spread}
        diagonals = jax.tree.map(lambda s: jnp.diagonal(s, axis1=-2, axis2=-1), spread)
        variance = jax.tree.map(lambda v, m: v.reshape(m.shape), diagonals, state["mean"])
        return {"mean": state["mean"], "variance": variance, "covariance": spread}

    def finish(self, state: State) -> tuple[State, State]:
        """See `Grouped`; but the error of the mean is known without groups."""
        value, error = super().finish(state)
        n = state["n"].sum()
        return value, error | {"mean": jax.tree.map(lambda v: jnp.sqrt(v / n), value["variance"])}

    def _scatter(self, weights: jax.Array, off: jax.Array) -> jax.Array:
        """The weighted sum of squares, or of outer products, over the first axis."""
        if not self.covariance:
            return jnp.tensordot(weights, off**2, 1, precision="highest")
        flat = off.reshape(*off.shape[:2], -1)
        return jnp.einsum("c,cbi,cbj->bij", weights, flat, flat, precision="highest")


def _gap(a: jax.Array, b: jax.Array) -> jax.Array:
    """`b - a`; none between equal infinities, such as the logits of a class that is masked."""
    return jnp.where(a == b, 0, b - a)
