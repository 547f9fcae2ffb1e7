"""Mean and covariance of a predictor's outputs over its masks, without samples."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _visible
from jaxdrop._types import PyTree
from jaxdrop.mc import _program
from jaxdrop.mc._moments import program, pullbacks
from jaxdrop.mc._moments.values import KeyValue
from jaxdrop.mc._moments.walk import INTERACTIONS, Registry, Walk
from jaxdrop.mc._program import Predict

__all__ = ["OutputMoments", "moments"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mean", "variance", "covariance", "shares"],
    meta_fields=["rules"],
)
@dataclass(frozen=True)
class OutputMoments:
    """Moments of the outputs of a predictor over its draws.

    Attributes:
      mean: The means, `[B, K]`.
      variance: The variances, `[B, K]`.
      covariance: The covariances, `[B, K, K]`, or None.
      shares: The part of the variance that each site makes by itself, `[B, K]` by name, and the rest under
        "interactions". They sum to the variance.
      rules: The approximate rules that were used. Without any, the moments are exact.
    """

    mean: jax.Array
    variance: jax.Array
    covariance: jax.Array | None
    shares: dict[str, jax.Array]
    rules: tuple[str, ...]


def moments(
    predict: Predict, x: PyTree, *, covariance: bool = True, chunk_size: int | None = None
) -> OutputMoments:
    """Mean and covariance of the outputs over all masks, without samples."""
    _program.check_batch(x)
    split, arrays = _program._split(predict)
    paths = tuple(site.path for site in getattr(predict, "sites", ()))
    return split.run(_moments, arrays, x, paths=paths, covariance=covariance, chunk_size=chunk_size)


def _moments(
    static: _program.Static,
    arrays: _program.Arrays,
    x: PyTree,
    *,
    paths: tuple[str, ...],
    covariance: bool,
    chunk_size: int | None,
) -> OutputMoments:
    predict, _ = static.bind(arrays)
    registry = Registry(paths)
    with jax.ensure_compile_time_eval():
        key = _visible.key()

    def alone(key: jax.Array, row: PyTree) -> PyTree:
        return jax.tree.map(lambda y: y[0], predict(key, jax.tree.map(lambda leaf: leaf[None], row)))

    row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)
    closed, like = jax.make_jaxpr(alone, return_shape=True)(key, row)

    def path(row: PyTree, deltas: list[jax.Array] | None) -> tuple[jax.Array, Walk]:
        walk = Walk(program.run, registry, True, deltas)
        outputs = program.run(walk, closed.jaxpr, closed.consts, [KeyValue(key), *jax.tree.leaves(row)])
        found = program.output(walk, outputs[0])
        return found.mean.reshape(-1), walk

    found_sources = []

    def shapes(row):
        _, walk = path(row, None)
        found_sources.extend((np.shape(s.variance), registry.site(s.draws)) for s in walk.sources)

    jax.eval_shape(shapes, row)
    names = [*dict.fromkeys(name for _, name in found_sources if name != INTERACTIONS), INTERACTIONS]
    groups = [names.index(name) for _, name in found_sources]

    def one(row):
        def traced(deltas):
            mean, walk = path(row, deltas)
            return mean, [jnp.asarray(s.variance) for s in walk.sources]

        return pullbacks.moments(traced, [shape for shape, _ in found_sources], groups, covariance)

    found = jax.vmap(one)(x) if chunk_size is None else jax.lax.map(one, x, batch_size=chunk_size)
    shares = {name: found.shares[:, i] for i, name in enumerate(names)}
    if INTERACTIONS not in [name for _, name in found_sources]:
        shares[INTERACTIONS] = jnp.zeros_like(found.mean)
    return OutputMoments(found.mean, found.variance, found.covariance, shares, tuple(registry.rules))
