"""Mean, variance and covariance of the outputs."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop._types import PyTree
from jaxdrop.mc.reducers._grouped import (
    GROUPS,
    Estimates,
    Grouped,
    Summary,
    average,
    gap,
    pooled,
    pooled_counts,
    scaled,
)

__all__ = ["Moments"]


@partial(register_dataclass, data_fields=[], meta_fields=["covariance", "groups"])
@dataclass(frozen=True)
class Moments(Grouped):
    """Mean and variance of the outputs, a tree of arrays `[B, ...]`.

    Gives "mean" and "variance", of the shapes of the outputs, in float32. With `covariance` it also gives
    "covariance", `[B, D, D]` of the D outputs of an example. Variance and covariance are the unbiased
    estimates, NaN for one sample. Sums are taken about the mean, so nothing cancels. The standard
    error of the mean is the root of the variance over the number of samples. Those of variance and
    covariance come from groups of samples.

    Attributes:
      covariance: Whether to estimate the covariance of the outputs of an example, too.
      groups: The number of groups of samples for the standard errors; with 0 only the mean has one.

    References:
      Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
    """

    covariance: bool = False
    groups: int = GROUPS

    def summary(self, samples: PyTree, weights: jax.Array, targets: PyTree) -> Summary:
        """See `Grouped`."""
        n = weights.sum()
        mean = jax.tree.map(partial(average, weights), samples)
        off = jax.tree.map(partial(_off, weights), samples, mean)
        return {"n": n, "mean": mean, "scatter": jax.tree.map(partial(self._scatter, weights), off)}

    def join(self, a: Summary, b: Summary) -> Summary:
        """See `Grouped`."""
        n = a["n"] + b["n"]
        gaps = jax.tree.map(gap, a["mean"], b["mean"])
        mean = jax.tree.map(lambda x, d: x + d * (b["n"] / n), a["mean"], gaps)
        share = (a["n"] * b["n"] / n)[None]
        between = jax.tree.map(lambda d: self._scatter(share, d[None]), gaps)
        scatter = jax.tree.map(lambda x, y, z: x + y + z, a["scatter"], b["scatter"], between)
        return {"n": n, "mean": mean, "scatter": scatter}

    def _pool(self, state: Summary) -> Summary:
        """See `Grouped`; squares are taken about the mean of all, so that no correction is large."""
        n = pooled_counts(state["n"])
        inverse = 1 / n.clip(1)
        shares = state["n"] * inverse[0]
        start = jax.tree.map(lambda m: m[state["n"].argmax()], state["mean"])
        # About one of the means: the center of equal means is exactly that.
        off = jax.tree.map(partial(_off, state["n"]), state["mean"], start)
        center = jax.tree.map(lambda c, d: c + jnp.tensordot(shares, d, 1, precision="highest"), start, off)
        off = jax.tree.map(partial(_off, state["n"]), state["mean"], center)
        sums = jax.tree.map(lambda d: pooled(scaled(state["n"], d)), off)
        mean = jax.tree.map(lambda c, total: c[None] + scaled(inverse, total), center, sums)
        scatter = jax.tree.map(
            lambda s, d, total: pooled(s + self._squares(state["n"], d)) - self._squares(inverse, total),
            *(state["scatter"], off, sums),
        )
        if not self.covariance:
            scatter = jax.tree.map(lambda s: s.clip(0), scatter)
        return {"n": n, "mean": mean, "scatter": scatter}

    def values(self, state: Summary) -> Estimates:
        """See `Grouped`."""
        spread = jax.tree.map(
            lambda s: s / jnp.where(state["n"] > 1, state["n"] - 1, jnp.nan), state["scatter"]
        )
        if not self.covariance:
            return {"mean": state["mean"], "variance": spread}
        diagonals = jax.tree.map(lambda s: jnp.diagonal(s, axis1=-2, axis2=-1), spread)
        variance = jax.tree.map(lambda v, m: v.reshape(m.shape), diagonals, state["mean"])
        return {"mean": state["mean"], "variance": variance, "covariance": spread}

    def _errors(self, sizes: jax.Array, values: Estimates) -> Estimates:
        """See `Grouped`; the error of the mean needs no groups."""
        error = super()._errors(sizes, {name: value for name, value in values.items() if name != "mean"})
        return error | {"mean": jax.tree.map(lambda v: jnp.sqrt(v[0] / sizes.sum()), values["variance"])}

    def _scatter(self, weights: jax.Array, off: jax.Array) -> jax.Array:
        """The weighted sum of squares, or of outer products, over the first axis."""
        if not self.covariance:
            return jnp.tensordot(weights, off**2, 1, precision="highest")
        flat = off.reshape(*off.shape[:2], -1)
        return jnp.einsum("c,cbi,cbj->bij", weights, flat, flat, precision="highest")

    def _squares(self, weights: jax.Array, off: jax.Array) -> jax.Array:
        """The weighted squares, or outer products, of each row."""
        if not self.covariance:
            return scaled(weights, off**2)
        flat = off.reshape(*off.shape[:2], -1)
        return scaled(weights, flat)[..., None] * flat[:, :, None]


def _off(weights: jax.Array, samples: jax.Array, mean: jax.Array) -> jax.Array:
    """How far samples are from a mean; 0 for those of weight 0, which may have any value."""
    counted = weights.reshape(-1, *[1] * mean.ndim) > 0
    return jnp.where(counted, gap(mean[None], samples.astype(jnp.float32)), 0)
