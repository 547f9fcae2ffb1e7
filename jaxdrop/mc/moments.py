"""Mean and covariance of a predictor's outputs over its masks, without samples."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxdrop import _checks
from jaxdrop._types import PyTree
from jaxdrop.mc import _devices, _program
from jaxdrop.mc._moments import analysis
from jaxdrop.mc._moments.walk import Registry
from jaxdrop.mc._program import Predict
from jaxdrop.mc.indexed import Indexed

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
    """Computes mean and covariance of a predictor's outputs over its draws, without samples."""
    if isinstance(predict, Indexed):
        raise TypeError(
            "`predict` must be a function of a key and inputs, got an `Indexed` predictor, whose samples are "
            "numbered: use `mc.estimate`."
        )
    _program.check_batch(x)
    if chunk_size is not None:
        _checks.check_count(chunk_size, "chunk_size")
    program, arrays = _program.split(predict)
    paths = tuple(site.path for site in getattr(predict, "sites", ()))
    options = {"paths": paths, "covariance": bool(covariance), "chunk_size": chunk_size}
    found, coupled = program.run(_sharded, arrays, x, **options)
    if _checks.is_concrete(coupled) and coupled.any():
        raise ValueError(
            "`predict` must treat each example by itself, got outputs that depend on the other examples of "
            "the batch; `mc.estimate` samples it."
        )
    return found


# The moments, and whether each example depends on others, `[B]`.
_Found = tuple[OutputMoments, jax.Array]


def _sharded(static: _program.Static, arrays: _program.Arrays, x: PyTree, **options: PyTree) -> _Found:
    """The moments, sharded as the examples."""
    predict, _ = static.bind(arrays)
    _check_outputs(jax.eval_shape(predict, jax.random.key(0), x), _program.check_batch(x))
    batch = PartitionSpec(*jax.typeof(jax.tree.leaves(x)[0]).sharding.spec[:1])
    return _devices.on_automatic_axes(partial(_moments, static, **options), arrays, x, out=batch)


def _moments(
    static: _program.Static,
    arrays: _program.Arrays,
    x: PyTree,
    *,
    paths: tuple[str, ...],
    covariance: bool,
    chunk_size: int | None,
) -> _Found:
    predict, _ = static.bind(arrays)
    study = analysis.Analysis(lambda key, x: jax.tree.leaves(predict(key, x))[0], x, Registry(paths))
    found = analysis.mapped(study, covariance, chunk_size)
    coupled = study.coupled()

    def shown(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.where(coupled, jnp.nan, array).reshape(len(array), *shape)

    shares = {name: shown(found.shares[:, i], study.shape) for i, name in enumerate(study.names)}
    result = OutputMoments(
        shown(found.mean, study.shape),
        shown(found.variance, study.shape),
        None if found.covariance is None else shown(found.covariance, found.covariance.shape[1:]),
        shares,
        tuple(sorted(study.registry.rules)),
    )
    return result, jnp.broadcast_to(coupled, len(found.mean))


def _check_outputs(outputs: PyTree, batch: int) -> None:
    leaves = jax.tree.leaves(outputs)
    if len(leaves) != 1 or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise ValueError(
            "`predict` must return one floating-point array, got "
            f"{', '.join(str(leaf.dtype) + str(list(leaf.shape)) for leaf in leaves) or 'none'}."
        )
    _program.check_rows(outputs, batch)
