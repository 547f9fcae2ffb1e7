"""SWAG: a Gaussian of the weights, from the iterates of stochastic gradient descent."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes
from jaxdrop._types import Key, Numeric, PyTree
from jaxdrop.mc import _designs

__all__ = ["SWAG", "swag"]


class SWAG(NamedTuple):
    """The moments of iterates, from which SWAG draws weights: a pytree of arrays, which can be a model state.

    `SWAG.begin(params)` makes an empty one, and `swag.update(params)` adds the weights of a step: a pure
    function. With a learning rate that stays high, add one per epoch, or every few dozen steps, after the
    weights have converged. Under `jax.vmap` it collects for the runs of a sweep.

    Attributes:
      num_iterates: The number n of iterates added; int32.
      mean: Their mean, in float32 at least.
      scatter: The sum of squared deviations from the mean, in float32 at least.
      deviations: The last K iterates minus the mean at that time, `[K, ...]`.

    References:
      Maddox et al., "A simple baseline for Bayesian uncertainty in deep learning", 2019.

    Examples:
      >>> iterates = jax.random.normal(jax.random.key(0), (50, 3))
      >>> swag = SWAG.begin({"kernel": iterates[0]}, rank=10)
      >>> for iterate in iterates:
      ...     swag = swag.update({"kernel": iterate})
      >>> swag.sample(jax.random.key(1))["kernel"].shape
      (3,)
    """

    num_iterates: jax.Array
    mean: PyTree
    scatter: PyTree
    deviations: PyTree

    @classmethod
    def begin(cls, params: PyTree, *, rank: int = 20) -> "SWAG":
        """Makes an empty state.

        Args:
          params: A tree of floating-point weights, of which only the types are used.
          rank: The number K of deviations that are kept, the rank of the covariance besides its diagonal: at
            least 2, or 0 for the diagonal alone. The memory is 2 + K times that of the weights.

        Returns:
          A state without iterates.

        Raises:
          TypeError: If a weight is not floating-point, or the rank is not an integer.
          ValueError: If `params` holds no weight, or the rank is negative or 1.
        """
        if _checks.check_count(rank, "rank", 0) == 1:
            raise ValueError("`rank` must be 0 or at least 2, got 1: one deviation has no variance.")
        leaves = jax.tree.leaves(params)
        if not leaves:
            raise ValueError("`params` must hold arrays, got none.")
        for leaf in leaves:
            _checks.check_floating(leaf, "params")

        still = jax.tree.map(lambda leaf: _zeros(leaf)[0], params)
        deviations = jax.tree.map(lambda leaf: _zeros(leaf, rank), params)
        return cls(jnp.zeros((), jnp.int32), still, still, deviations)

    def update(self, params: PyTree) -> "SWAG":
        """Adds an iterate; a pure function.

        Args:
          params: Weights of the structure and shapes of those given to `begin`.

        Returns:
          The new state.

        Raises:
          ValueError: If the structure or a shape differs.
        """
        # Not compared as trees: modules of NNX are equal to themselves only.
        (shapes, structure), (expected, of) = (_kinds(tree) for tree in (params, self.mean))
        if structure != of or shapes != expected:
            told = (
                (f"{expected} in {of}", f"{shapes} in {structure}") if structure != of else (expected, shapes)
            )
            raise ValueError(f"`params` must have the shapes of those of `begin`, {told[0]}, got {told[1]}.")
        number = self.num_iterates
        wide = jax.tree.map(lambda mean, leaf: jnp.asarray(leaf).astype(mean.dtype), self.mean, params)
        off = jax.tree.map(jnp.subtract, wide, self.mean)
        mean = jax.tree.map(lambda mean, d: mean + d / (number + 1).astype(d.dtype), self.mean, off)
        new = jax.tree.map(jnp.subtract, wide, mean)
        scatter = jax.tree.map(lambda scatter, a, b: scatter + a * b, self.scatter, off, new)

        def put(kept: jax.Array, one: jax.Array) -> jax.Array:
            rank = kept.shape[0]
            if not rank:
                return kept
            return jax.lax.dynamic_update_index_in_dim(kept, one, number % rank, 0)

        return SWAG(number + 1, mean, scatter, jax.tree.map(put, self.deviations, new))

    def sample(self, key: Key, *, scale: Numeric = 1.0) -> PyTree:
        """Draws weights: `mean + sqrt(scale / 2) (sqrt(variance) z + deviations u / sqrt(K - 1))`.

        z and u are standard normal, and K is the number of deviations so far. So the covariance is `scale`
        times half the diagonal of the iterates' variances plus half the covariance of the last deviations.
        With rank 0 it is `scale` times the diagonal. Statistics of BatchNorm do not fit drawn weights, and
        must be computed anew for each draw: see `swag`.

        Args:
          key: A PRNG key.
          scale: The factor of the covariance, at least 0; may be traced. The official code's scale of 0.5 is
            1 here.

        Returns:
          Weights in the dtypes of the state, float32 at least; NaN for fewer than two iterates.

        Raises:
          ValueError: If there are known to be fewer than two iterates, the state is a stack of several, or
            the scale is negative.
        """
        scale = _check(self, scale)
        means, structure = jax.tree.flatten(self.mean)
        scatters, deviations = jax.tree.leaves(self.scatter), jax.tree.leaves(self.deviations)
        rank = deviations[0].shape[0]
        keys = jax.random.split(key, len(means) + 1)
        few = jnp.minimum(self.num_iterates, rank) - 1
        u = jax.random.normal(keys[-1], (rank,), jnp.float32)
        drawn = []
        for place, (mean, scatter, kept) in enumerate(zip(means, scatters, deviations, strict=True)):
            n, dtype = self.num_iterates.astype(mean.dtype), mean.dtype
            variance = jnp.where(n > 1, scatter.clip(0) / n, jnp.nan)
            noise = jax.random.normal(keys[place], mean.shape, dtype)
            off = jnp.sqrt(variance) * _meshes.like(noise, mean)
            if rank:
                along = jnp.tensordot(u.astype(dtype), kept, 1, precision="highest")
                off = (off + along / jnp.sqrt(few.astype(dtype))) / jnp.sqrt(jnp.asarray(2, dtype))
            drawn.append(mean + jnp.sqrt(scale).astype(dtype) * off)
        return structure.unflatten(drawn)


def swag(
    predict: Callable[[PyTree, Key, PyTree], PyTree], state: SWAG, *, scale: Numeric = 1.0
) -> jax.tree_util.Partial:
    """SWAG as a predictor: each sample is of weights drawn from the Gaussian of a state.

    Samples are independent, so standard errors are those of any predictor. They are errors of the mean over
    the Gaussian, which itself is an approximation of the posterior that few iterates tell.

    BatchNorm: the statistics of a drawn network are not those of any iterate. Either draw some weights by
    `SWAG.sample`, compute the statistics of each by a pass over the training set, and give them to
    `ensemble`; or let `predict` normalize by the statistics of one batch that it is bound to.

    Args:
      predict: `predict(params, key, x) -> outputs`, a network with a tree of arrays `[B, ...]`. One that is
        not stochastic itself ignores the key, which is independent of the weights.
      state: A `SWAG` with at least two iterates. Several of different runs, stacked, are members of an
        `ensemble` (MultiSWAG).
      scale: The factor of the covariance, at least 0; may be traced.

    Returns:
      A predictor `predict(key, x)`. Those of one function `predict` share compiled programs.

    Raises:
      TypeError: If `predict` cannot be called.
      ValueError: If there are known to be fewer than two iterates, `state` is a stack of several, or the
        scale is negative.

    References:
      Maddox et al., "A simple baseline for Bayesian uncertainty in deep learning", 2019; Wilson and
      Izmailov, "Bayesian deep learning and a probabilistic perspective of generalization", 2020 (MultiSWAG).

    Examples:
      >>> from jaxdrop import mc
      >>> state = SWAG.begin(jnp.zeros((4, 2)), rank=5)
      >>> for kernel in jax.random.normal(jax.random.key(0), (10, 4, 2)):
      ...     state = state.update(kernel)
      >>> predict = swag(lambda kernel, key, x: x @ kernel, state)
      >>> mc.sample(predict, jax.random.key(1), jnp.ones((3, 4)), num_samples=8).shape
      (8, 3, 2)
    """
    of = _designs.as_partial(predict, "a function (params, key, x)")
    return jax.tree_util.Partial(_with_weights, of, state, _check(state, scale))


def _zeros(leaf: jax.Array, rows: int = 1) -> jax.Array:
    """Rows of zeros in the shape of weights, sharded like them."""
    one = jnp.zeros_like(leaf, dtype=_checks.widened(jnp.result_type(leaf)))[None]
    return jnp.broadcast_to(one, (rows, *one.shape[1:]))


def _kinds(tree: PyTree) -> tuple[list[tuple[int, ...]], PyTree]:
    """The shapes and the structure of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    return [jnp.shape(leaf) for leaf in leaves], structure


def _check(state: SWAG, scale: Numeric) -> jax.Array:
    """The scale; raises if it is negative, or for a stack of states or one known to have few iterates."""
    if np.ndim(state.num_iterates):
        got = np.shape(state.num_iterates)
        raise ValueError(
            f"`state` must be one (`ensemble` and `jax.vmap` take several), got a stack of {got}."
        )
    if _checks.is_concrete(state.num_iterates) and np.asarray(state.num_iterates) < 2:
        count = int(state.num_iterates)
        raise ValueError(f"`update` must have added at least 2 iterates to the state, got {count}.")
    return jnp.asarray(_checks.check_nonnegative(_checks.check_scalar(scale, "scale"), "scale"))


def _with_weights(
    predict: Callable[..., PyTree], state: SWAG, scale: jax.Array, key: Key, x: PyTree
) -> PyTree:
    weights, own = jax.random.split(key)
    return predict(state.sample(weights, scale=scale), own, x)
