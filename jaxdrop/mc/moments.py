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
      mean: The means, of the shape of the outputs, such as `[B, K]`.
      variance: The variances, of that shape.
      covariance: The covariances, `[B, K, K]` for K outputs of an example, or None.
      shares: The part of the variance that each site makes by itself, and the rest under "interactions",
        by name; of the shape of the outputs. They sum to the variance. Sites are named by the path of their
        module where the predictor lists it, else by the kind of draw and the line.
      rules: The approximate rules that were used, sorted. Without any, the moments are exact.
    """

    mean: jax.Array
    variance: jax.Array
    covariance: jax.Array | None
    shares: dict[str, jax.Array]
    rules: tuple[str, ...]


def moments(
    predict: Predict, x: PyTree, *, covariance: bool = True, chunk_size: int | None = None
) -> OutputMoments:
    """Mean and covariance of the outputs over the draws of Monte-Carlo dropout, without samples.

    The traced program is evaluated once for means and variances, and each output is pulled back to all
    sources of randomness. This is exact for programs that are linear between their draws, as for dropout
    before a last layer. Otherwise it is an approximation that takes sums of many random numbers as normal;
    `rules` lists the approximate rules that were used. It is meant for networks of at least about 30 units
    a layer: for masks of few units, use `estimate`. With n up to 5 masks of whole examples, the program is
    evaluated for all of their 2^n values, and with up to 8 for those that differ from the most probable
    one in one or two. Attention takes about 16 forward passes more, for covariances of arrays along fixed
    directions.

    The mean, the variance and the shares are those of `estimate` with `shared=True`, and for predictors
    that draw for each example alone also of that without. Half precision is analyzed in float32. Within
    `jax.shard_map` it needs `check_vma=False`.

    Args:
      predict: `predict(key, x) -> outputs`, a pure function to one floating-point array `[B, ...]`, of which
        each row depends on its own example. Draws are those of `jaxdrop`, of Flax, and of
        `jax.random.bernoulli`, `normal`, `uniform` and what is made of these. It is compiled once for as
        long as it exists. Bind weights by `jax.tree_util.Partial(f, params)`.
      x: A tree of arrays with a leading axis of examples, `[B, ...]`.
      covariance: Whether to compute covariances, or variances alone.
      chunk_size: The number of examples computed at once. An example needs about `4 * (K + 6) * S` bytes,
        with K outputs and S random numbers (decisions, and elements after nonlinear functions), and with
        attention 64 bytes for each element of a random array. None: as
        many as need 24 MiB. Where an example needs more than 1 GiB for its K outputs, they are computed in
        n blocks, at n + 1 times the price; without covariances they always are in blocks of 24 MiB, at no
        price. The check for coupled rows needs a forward pass of the whole batch.

    Returns:
      An `OutputMoments` in float32, sharded as the examples of `x`.

    Raises:
      TypeError: If `predict` is an `Indexed` predictor, or `chunk_size` is not an integer.
      ValueError: If a step or a draw has no rule, with its name and line: orders and order statistics, random
        indices and predicates, permutations, loops within loops; if more than 8 decisions are for whole
        examples; if the outputs are not one array with a row per example, do not depend on the key, or
        depend on other examples (under a trace they are NaN then); or if `chunk_size` is below 1.

    References:
      Wang and Manning, "Fast dropout training", 2013; Clark, "The greatest of a finite set of random
      variables", 1961.

    Examples:
      >>> import jaxdrop
      >>> found = moments(lambda key, x: jaxdrop.dropout(key, x, 0.5) @ jnp.ones((4, 1)), jnp.ones((1, 4)))
      >>> found.mean, found.covariance, found.rules
      (Array([[4.]], dtype=float32), Array([[[4.]]], dtype=float32), ())
    """
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
    _check_outputs(program.outputs(arrays, x))
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


def _check_outputs(outputs: PyTree) -> None:
    leaves = jax.tree.leaves(outputs)
    if len(leaves) != 1 or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise ValueError(
            "`predict` must return one floating-point array, got "
            f"{', '.join(str(leaf.dtype) + str(list(leaf.shape)) for leaf in leaves) or 'none'}."
        )
