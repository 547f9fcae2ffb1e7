"""Attention in blocks of queries, each with all its keys; a block's mask is drawn where the block is.

The scores of a block, `[..., H, block, S]`, exist one block at a time, forward and backward: the
backward pass computes them, and draws the mask, again. So memory is linear in the length. A block
sees whole rows. That keeps the softmax, and whatever else needs a row, plain code that JAX
differentiates, any number of times and in both directions.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from jaxdrop import _bits, _checks, _draw, _meshes, _parts
from jaxdrop._types import ArrayLike, Numeric, PyTree
from jaxdrop.drops._drop_key import some_kept


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["seed", "draw", "scale"],
    meta_fields=["shape", "of_keys"],
)
@dataclass(frozen=True)
class Dropping:
    """What is dropped.

    Attributes:
      seed: The words of a used key.
      draw: Its threshold broadcasts to the decisions.
      scale: Of the weights that are kept.
      shape: Shape of the decisions, of size 1 along the axes of the scores that share one.
      of_keys: Whether keys are hidden before the softmax, and not weights dropped after it.
    """

    seed: _bits.Seed
    draw: _checks.Draw
    scale: ArrayLike
    shape: tuple[int, ...]
    of_keys: bool

    def kept(self, start: Numeric, count: int) -> jax.Array:
        """The decisions of `count` queries from `start` on, a multiple of `count`."""
        if self.shape[-2] in (1, count):
            return _draw.draw_mask(self.seed, self.draw, self.shape)
        starts = (0,) * (len(self.shape) - 2) + (start, 0)
        part = (*self.shape[:-2], count, self.shape[-1])
        return _parts.draw_part(self.seed, self.draw, part, self.shape, starts)


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

    def visible(self, start: Numeric, count: int) -> jax.Array | None:
        """Which keys each of `count` queries from `start` on may attend to; None: all.

        Broadcasts to the scores of these queries. The arrays are those of these queries already.
        """
        conditions = [] if self.mask is None else [self.mask]
        rank = len(self.shape)
        query = lax.broadcasted_iota(np.int32, (1,) * (rank - 2) + (count, 1), rank - 2) + start
        key = lax.broadcasted_iota(np.int32, (1,) * (rank - 1) + self.shape[-1:], rank - 1)
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
    dtype, (length, heads) = queries.dtype, queries.shape[-3:-1]
    if dtype.itemsize < 2:
        queries, keys, values = (x.astype(np.float32) for x in (queries, keys, values))
    shared = keys.shape[-2]
    queries, keys, values = (jnp.swapaxes(x, -3, -2) for x in (queries, keys, values))
    queries = queries.reshape(*queries.shape[:-3], shared, heads // max(shared, 1), *queries.shape[-2:])
    if block_size == length:
        y = _of_block(queries, keys, values, how, 0, keeps_scores=True)
    else:
        y = _by_blocks(queries, keys, values, how, length, block_size)
    y = y.reshape(*y.shape[:-4], heads, length, y.shape[-1])
    return jnp.swapaxes(y, -3, -2).astype(dtype)


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

    leaves, structure = jax.tree.flatten(how)
    has_rows = [np.ndim(leaf) > 1 and leaf.shape[-2] == length for leaf in leaves]
    rows = [split(leaf) for leaf, by_row in zip(leaves, has_rows, strict=True) if by_row]

    def block(carry: None, part: PyTree) -> tuple[None, jax.Array]:
        start, queries, rows = part
        own = iter(rows)
        here = [next(own) if by_row else leaf for leaf, by_row in zip(leaves, has_rows, strict=True)]
        return carry, _of_block(queries, keys, values, jax.tree.unflatten(structure, here), start)

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
    if keeps_scores:
        total, norm = _unnormalized(queries, keys, values, how, start)
    else:
        # The maxima are stored beside the results.
        policy = jax.checkpoint_policies.save_only_these_names("maxima")
        total, norm = jax.checkpoint(_unnormalized, policy=policy)(queries, keys, values, how, start)
    return (total / jnp.where(norm == 0, 1, norm)).astype(queries.dtype)


def _unnormalized(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: Attention,
    start: Numeric,
) -> tuple[jax.Array, jax.Array]:
    """The sum of exponents times values, with dropout, and the sum of exponents, without."""
    precision = how.precision
    if precision is None and queries.dtype == jnp.bfloat16:
        # So products are those of bfloat16 backward, too, and accumulate in float32, as in `jax.nn`.
        precision = lax.DotAlgorithmPreset.BF16_BF16_F32
    wide = jnp.promote_types(queries.dtype, np.float32)
    product = partial(jnp.einsum, precision=precision, preferred_element_type=wide)
    scores = product("...krqd,...ksd->...krqs", queries, keys) * np.asarray(how.scale, wide)
    grouped = scores.shape
    scores = scores.reshape(*grouped[:-4], grouped[-4] * grouped[-3], *grouped[-2:])
    if how.soft_cap is not None:
        scores = how.soft_cap * jnp.tanh(scores / how.soft_cap)
    if how.bias is not None:
        scores = scores + how.bias.astype(wide)
    allowed = how.visible(start, queries.shape[-2])
    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    dropping, count = how.dropping, queries.shape[-2]
    if dropping is not None and dropping.of_keys:
        scores = jnp.where(some_kept(dropping.kept(start, count), scores), scores, -jnp.inf)
    largest = lax.stop_gradient(scores.max(-1, keepdims=True, initial=-jnp.inf))
    largest = checkpoint_name(jnp.where(largest == -jnp.inf, 0, largest), "maxima")
    exponents = jnp.exp(scores - largest)
    norm = exponents.sum(-1, keepdims=True)
    if dropping is None:
        weights = exponents
    elif dropping.of_keys:
        weights = _draw.nan_where_rate_invalid(exponents, dropping.draw.keep_prob)
    else:
        weights = _drop(exponents, dropping, start)
    total = product("...krqs,...ksd->...krqd", weights.astype(values.dtype).reshape(grouped), values)
    return total, norm.reshape(*grouped[:-1], 1)


@jax.checkpoint
def _drop(weights: jax.Array, dropping: Dropping, start: Numeric) -> jax.Array:
    kept = dropping.kept(start, weights.shape[-2])
    return _draw.select_and_scale(weights, kept, dropping.scale, dropping.draw.width)
