"""Attention in blocks of queries, each with all its keys; a block's mask is drawn where the block is.

The scores of a block, `[..., H, block, S]`, exist one block at a time, forward and backward: the
backward pass computes them, and draws the mask, again. So memory is linear in the length. A block
sees whole rows. That keeps the softmax, and whatever else needs a row, plain code that JAX
differentiates, any number of times and in both directions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from jaxdrop import _checks, _draw, _meshes
from jaxdrop._types import Numeric, PyTree
from jaxdrop.drops._attention_dropping import Dropping
from jaxdrop.drops._drop_key import some_kept


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "bias",
        "mask",
        "query_segments",
        "key_segments",
        "query_lengths",
        "key_lengths",
        "dropping",
    ],
    meta_fields=["is_causal", "window", "scale", "soft_cap", "precision", "shape"],
)
@dataclass(frozen=True)
class Attention:
    """What attention does between its two products.

    The arrays broadcast to the scores, `[..., H, T, S]`, and have their rank.

    Attributes:
      bias: Is added to the scores.
      mask: True where a query may attend to a key.
      query_segments: Segment of each query, `[..., 1, T, 1]`.
      key_segments: Segment of each key, `[..., 1, 1, S]`.
      query_lengths: Number of queries, `[..., 1, 1, 1]`.
      key_lengths: Number of keys, `[..., 1, 1, 1]`.
      dropping: What is dropped; None without dropout.
      is_causal: Whether a query sees no later key.
      window: How many keys before and after its own place a query sees.
      scale: Multiplies the products.
      soft_cap: Bound of the scores, by tanh.
      precision: Of both products.
      shape: Shape of the scores.
    """

    bias: jax.Array | None
    mask: jax.Array | None
    query_segments: jax.Array | None
    key_segments: jax.Array | None
    query_lengths: jax.Array | None
    key_lengths: jax.Array | None
    dropping: Dropping | None
    is_causal: bool
    window: tuple[int, int] | None
    scale: float
    soft_cap: float | None
    precision: lax.PrecisionLike
    shape: tuple[int, ...]

    def visible(
        self, start: Numeric, count: int, first: Numeric = 0, places: int | None = None
    ) -> jax.Array | None:
        """Which of `places` keys from `first` on `count` queries from `start` on may attend to; None: all.

        Broadcasts to these scores. The arrays are those of these queries and keys already. By default,
        all keys.
        """
        conditions = [] if self.mask is None else [self.mask]
        rank = len(self.shape)
        query = lax.broadcasted_iota(np.int32, (1,) * (rank - 2) + (count, 1), rank - 2) + start
        columns = self.shape[-1] if places is None else places
        key = lax.broadcasted_iota(np.int32, (1,) * (rank - 1) + (columns,), rank - 1) + first
        if self.is_causal:
            conditions.append(key <= query)
        if self.window is not None:
            before, after = self.window
            conditions += [key >= query - before, key <= query + after]
        if self.query_lengths is not None:
            conditions.append(query < self.query_lengths)
        if self.key_lengths is not None:
            conditions.append(key < self.key_lengths)
        if self.query_segments is not None and self.key_segments is not None:
            conditions.append(self.query_segments == self.key_segments)
        if not conditions:
            return None
        allowed = conditions[0]
        for condition in conditions[1:]:
            allowed = allowed & condition
        return allowed


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: Attention,
    *,
    block_size: int,
) -> jax.Array:
    """Attention, `block_size` queries at a time.

    Args:
      queries: `[..., T, H, D]`.
      keys: `[..., S, K, D]`, where K divides H.
      values: `[..., S, K, E]`.
      how: What happens between the products.
      block_size: At most T. If it is T, the scores are kept for the backward pass.

    Returns:
      Array `[..., T, H, E]` of the dtype of the queries.
    """
    leading, features = _meshes.partition(queries)[:-1], _meshes.partition(values)[-1:]
    used = {axis for axes in leading for axis in _meshes.names_of(axes)}
    free = (() if used & set(_meshes.names_of(axes)) else axes for axes in features)
    out = PartitionSpec(*leading, *(axes or None for axes in free))
    run = partial(_attend, block_size=block_size)
    return _meshes.on_automatic_axes(run, queries, keys, values, how, out=out)


@partial(jax.jit, static_argnames="block_size")
def _attend(
    queries: jax.Array, keys: jax.Array, values: jax.Array, how: Attention, *, block_size: int
) -> jax.Array:
    dtype, length = queries.dtype, queries.shape[-3]
    queries, keys, values = grouped(queries, keys, values)
    if block_size == length:
        y = _of_block(queries, keys, values, how, 0, keeps_scores=True)
    else:
        y = _by_blocks(queries, keys, values, how, length, block_size)
    return ungrouped(y, dtype)


def grouped(queries: jax.Array, keys: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries `[..., K, R, T, D]`, keys `[..., K, S, D]` and values `[..., K, S, E]`: heads before places."""
    if queries.dtype.itemsize < 2:
        queries, keys, values = (x.astype(np.float32) for x in (queries, keys, values))
    heads, shared = queries.shape[-2], keys.shape[-2]
    queries, keys, values = (jnp.swapaxes(x, -3, -2) for x in (queries, keys, values))
    queries = queries.reshape(*queries.shape[:-3], shared, heads // max(shared, 1), *queries.shape[-2:])
    return queries, keys, values


def ungrouped(y: jax.Array, dtype: np.dtype) -> jax.Array:
    """Results `[..., K, R, T, E]` as `[..., T, H, E]`."""
    y = y.reshape(*y.shape[:-4], y.shape[-4] * y.shape[-3], *y.shape[-2:])
    return jnp.swapaxes(y, -3, -2).astype(dtype)


def cut_rows(
    how: Attention, length: int, split: Callable[[jax.Array], jax.Array]
) -> tuple[list[jax.Array], Callable[[Sequence[jax.Array]], Attention]]:
    """The arrays of `how` with a row per query, split; and `how` made again from those of a block."""
    leaves, structure = jax.tree.flatten(how)
    has_rows = [np.ndim(leaf) > 1 and leaf.shape[-2] == length for leaf in leaves]

    def of_block(rows: Sequence[jax.Array]) -> Attention:
        own = iter(rows)
        here = [next(own) if by_row else leaf for leaf, by_row in zip(leaves, has_rows, strict=True)]
        return jax.tree.unflatten(structure, here)

    return [split(leaf) for leaf, by_row in zip(leaves, has_rows, strict=True) if by_row], of_block


def _by_blocks(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: Attention,
    length: int,
    block_size: int,
) -> jax.Array:
    count = -(-length // block_size)
    size = -(-length // count)  # blocks of equal sizes

    def split(x: jax.Array) -> jax.Array:
        """The rows of an array, `[..., T, n]`, by blocks: `[blocks, ..., size, n]`."""
        # Rows beyond the end repeat the last one, so that they are finite; their results are dropped.
        # Their gradients are zero, and adding these to the last row's would need communication.
        missing = (*x.shape[:-2], count * size - length, x.shape[-1])
        last = jnp.broadcast_to(lax.stop_gradient(x[..., -1:, :]), missing)
        padded = jnp.concatenate([x, last], -2) if missing[-2] else x
        return jnp.moveaxis(padded.reshape(*x.shape[:-2], count, size, x.shape[-1]), -3, 0)

    rows, of_block = cut_rows(how, length, split)

    def block(carry: None, part: PyTree) -> tuple[None, jax.Array]:
        start, queries, rows = part
        return carry, _of_block(queries, keys, values, of_block(rows), start)

    starts = jnp.arange(count, dtype=np.int32) * size
    y = jnp.moveaxis(lax.scan(block, None, (starts, split(queries), rows))[1], 0, -3)
    return y.reshape(*y.shape[:-3], count * size, y.shape[-1])[..., :length, :]


def _of_block(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: Attention,
    start: Numeric,
    keeps_scores: bool = False,
) -> jax.Array:
    """Attention of a block of queries, `[..., K, R, block, D]`, from `start` on; rows that see nothing: 0."""
    unnormalized = _unnormalized
    if not keeps_scores:  # but only the maxima, beside the results
        policy = jax.checkpoint_policies.save_only_these_names("maxima")
        unnormalized = jax.checkpoint(_unnormalized, policy=policy)
    total, norm = unnormalized(queries, keys, values, how, start)
    return divided(total, norm).astype(queries.dtype)


def divided(total: jax.Array, norm: jax.Array) -> jax.Array:
    """The weighted mean of the values, `[..., K, R, block, E]`, from the sums; zeros without weights."""
    norm = norm.reshape(*total.shape[:-1], 1)
    return total / jnp.where(norm == 0, 1, norm)


def _unnormalized(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: Attention,
    start: Numeric,
) -> tuple[jax.Array, jax.Array]:
    """The sum of exponents times values, with dropout, and the sum of exponents, without."""
    scores = scores_of(queries, keys, how, start)
    dropping = how.dropping
    if dropping is not None and dropping.of_keys:
        kept = some_kept(dropping.kept(start, queries.shape[-2]), scores)
        scores = jnp.where(kept, scores, -jnp.inf)
    largest = lax.stop_gradient(scores.max(-1, keepdims=True, initial=-jnp.inf))
    largest = checkpoint_name(jnp.where(largest == -jnp.inf, 0, largest), "maxima")
    return sums_of(scores, largest, values, how, start)


def scores_of(
    queries: jax.Array, keys: jax.Array, how: Attention, start: Numeric, first: Numeric = 0
) -> jax.Array:
    """Scores of queries from `start` on with keys from `first` on, `[..., H, block, S]`; -inf if hidden."""
    wide = _checks.widened(queries.dtype)
    scores = _product(how, queries)("...krqd,...ksd->...krqs", queries, keys) * np.asarray(how.scale, wide)
    scores = scores.reshape(*scores.shape[:-4], scores.shape[-4] * scores.shape[-3], *scores.shape[-2:])
    if how.soft_cap is not None:
        scores = how.soft_cap * jnp.tanh(scores / how.soft_cap)
    if how.bias is not None:
        scores = scores + how.bias.astype(wide)
    allowed = how.visible(start, queries.shape[-2], first, keys.shape[-2])
    return scores if allowed is None else jnp.where(allowed, scores, -jnp.inf)


def sums_of(
    scores: jax.Array,
    largest: jax.Array,
    values: jax.Array,
    how: Attention,
    start: Numeric,
    first: Numeric = 0,
) -> tuple[jax.Array, jax.Array]:
    """The sum of exponents times values, with dropout, and the sum of exponents, without.

    Args:
      scores: Those of `scores_of`, `[..., H, block, S]`.
      largest: Finite number for each query, which is subtracted from its scores.
      values: `[..., K, S, E]`.
      how: What happens between the products.
      start: Place of the first query.
      first: Place of the first key.

    Returns:
      Sums `[..., K, R, block, E]` and `[..., H, block, 1]`.
    """
    exponents, dropping = jnp.exp(scores - largest), how.dropping
    norm = exponents.sum(-1, keepdims=True)
    if dropping is None:
        weights = exponents
    elif dropping.of_keys:
        weights = _draw.nan_where_rate_invalid(exponents, dropping.draw.keep_prob)
    else:
        weights = _drop(exponents, dropping, start, first)
    *batch, heads, rows, places = weights.shape
    shared = values.shape[-3]
    weights = weights.astype(values.dtype).reshape(*batch, shared, heads // max(shared, 1), rows, places)
    total = _product(how, values)("...krqs,...ksd->...krqd", weights, values)
    return total if dropping is None or dropping.excess is None else total * dropping.excess, norm


def _product(how: Attention, x: jax.Array) -> Callable[..., jax.Array]:
    """A product of arrays of the dtype of `x`, which accumulates in float32 or wider."""
    precision = how.precision
    if precision is None and x.dtype == jnp.bfloat16:
        # So products are those of bfloat16 backward, too, and accumulate in float32, as in `jax.nn`.
        precision = lax.DotAlgorithmPreset.BF16_BF16_F32
    wide = _checks.widened(x.dtype)
    return partial(jnp.einsum, precision=precision, preferred_element_type=wide)


@jax.checkpoint
def _drop(weights: jax.Array, dropping: Dropping, start: Numeric, first: Numeric) -> jax.Array:
    kept = dropping.kept(start, weights.shape[-2], first, weights.shape[-1])
    return _draw.select_and_scale(weights, kept, dropping.scale, dropping.draw.width)
