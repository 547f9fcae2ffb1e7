"""Attention with dropout as two GPU kernels, with the mask of every other form drawn inside them.

Written in Pallas for Triton, and only for NVIDIA. Of the three ways to write a kernel in JAX:

* Pallas's Triton back end is deprecated since jax 0.11, but in jax from 0.10.2 to 0.12. It is
  interpreted on a CPU, so the numbers are tested without a GPU, and compiles for a described GPU.
* `jax_triton` wants Triton itself, jax 0.11 and Python 3.12, and cannot be interpreted. It is the
  next home of these kernels, whose bodies carry over line by line.
* Pallas's Mosaic GPU places barriers, copies and warps by hand, for Hopper and later. A mistake there
  is a race that no interpreter on a CPU is sure to show.

A Threefry block serves several neighboring keys. So the keys are taken by lanes: lane l holds the
keys `lanes * place + l`. A kernel computes a block once per place and query, for one product per
lane, and no value moves between threads.

Masks are drawn twice, once per kernel. The backward kernel holds a block of keys and goes through
the queries; it works on transposed scores. It adds the gradient of the queries to a float32 array in
memory. Programs that run at the same time have an array each, so that sums have one order and two
runs are equal; atomic additions would not be. Their number is bounded, and so is the memory.
"""

import math
from collections.abc import Callable
from functools import partial, wraps
from operator import attrgetter
from types import ModuleType
from typing import NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdrop import _balanced, _bits, _checks
from jaxdrop._types import PyTree
from jaxdrop.drops import _attention_kernels
from jaxdrop.drops._attention import Attention, Dropping
from jaxdrop.drops._attention_kernels import Form

_HEAD_SIZES = (32, 64, 128)
_DTYPES = ("bfloat16", "float16", "float32")
# Names of precisions at which products of float32 may round their factors.
_TF32 = (None, "default", "fastest", "bfloat16", "high", "bfloat16_3x", "tensorfloat32")
# Programs of the backward pass that run at once, about one per core of an H100.
_PROGRAMS = 128
_BLOCK = 64  # queries
_LEAST = 16  # the smallest side of a product


class Drop(NamedTuple):
    """What is drawn.

    Attributes:
      words: The words of the key, `[2]`.
      bases: Row of the mask of each example's and head's first query, `[B * H]`.
      limit: Largest random word that keeps, its bits at the high end, `[1]`.
      scale: Of the weights that are kept, `[1]`; 0 where none is.
    """

    words: jax.Array
    bases: jax.Array
    limit: jax.Array
    scale: jax.Array


def _check(queries: jax.Array, values: jax.Array, how: Attention, dropping: Dropping) -> None:
    """Refuses the options that the kernels do not have."""
    unsupported = {
        "`bias`": how.bias is not None,
        "`mask`": how.mask is not None,
        "`local_window_size`": how.window is not None,
        "sequence lengths": how.query_lengths is not None or how.key_lengths is not None,
        "segment ids": how.query_segments is not None,
        "`logits_soft_cap`": how.soft_cap is not None,
        "`precision`": how.precision is not None,
        "`drop_key`": dropping.of_keys,
        "an array of rates": np.ndim(dropping.draw.threshold) > 0,
        "keys of balanced samples": _balanced.is_balanced(dropping.seed.words),
        "rates above 0.99996 in float16": isinstance(dropping.excess, np.floating),
        "`bits=32`": dropping.draw.width == _checks.FLAX_WIDTH,
        "decisions shared by all keys, or one key": dropping.shape[-1] == 1,
        "a `scale` that is traced or not positive": not _is_positive(how.scale),
        f"queries of {queries.dtype}": queries.dtype.name not in _DTYPES,
        "values of another size than keys": values.shape[-1] != queries.shape[-1],
        f"heads of size {queries.shape[-1]}, which is not {', '.join(map(str, _HEAD_SIZES))}":
            queries.shape[-1] not in _HEAD_SIZES,
        "arrays sharded over explicit axes, unless in `jax.shard_map`":
            any(name is not None for name in jax.typeof(queries).sharding.spec),
        "sizes that are 0 or symbolic": not all(isinstance(size, int) and size for size in how.shape),
    }  # fmt: skip
    for option, is_given in unsupported.items():
        if is_given:
            raise ValueError(f"`implementation` must be 'xla' or None with {option}, got 'triton'.")


def _is_positive(scale: float) -> bool:
    return _checks.is_concrete(scale) and np.ndim(scale) == 0 and 0 < float(scale) < math.inf


def _check_device(dtype: np.dtype) -> None:
    """Refuses a device other than a GPU, and float32 products that its matrix units do not have."""
    described = jax.sharding.get_abstract_mesh().abstract_device  # to compile without the device
    platform = jax.default_backend() if described is None else described.platform
    if platform != "gpu":
        raise ValueError(
            f"`implementation` must be None or 'xla' on a {platform.upper()}, got 'triton', "
            "which needs an NVIDIA GPU."
        )
    precision = attrgetter("jax_default_matmul_precision")(jax.config)  # an attribute that no stub declares
    if dtype == np.float32 and precision not in _TF32:
        raise ValueError(
            f"`implementation` must be None or 'xla' for float32 at the matmul precision {precision!r}, got "
            "'triton', whose products are of tf32."
        )


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: Attention,
    dropping: Dropping,
    *,
    interprets: bool = False,
) -> jax.Array:
    """Attention with dropout, as by `_attention.attend`; refuses options that the kernels do not have.

    Args:
      queries: `[..., T, H, D]`.
      keys: `[..., S, K, D]`, where K divides H.
      values: `[..., S, K, D]`.
      how: What happens between the products.
      dropping: What is dropped, as in `how`.
      interprets: Whether to interpret the kernels, on any device.

    Returns:
      Array of the shape and dtype of the queries.
    """
    _check(queries, values, how, dropping)
    if not interprets:
        _check_device(queries.dtype)
    return _checked(queries, keys, values, how, dropping, interprets=interprets)


@partial(jax.jit, static_argnames="interprets")
def _checked(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    how: Attention,
    dropping: Dropping,
    *,
    interprets: bool,
) -> jax.Array:
    width, (length, heads, size) = dropping.draw.width, queries.shape[-3:]
    form = Form(
        lanes=_bits.lanes(width),
        width=width,
        keys=keys.shape[-3],
        row_stride=int(dropping.shape[-2] > 1),
        scale=float(how.scale),
        is_causal=how.is_causal,
        groups=heads // keys.shape[-2],
        interprets=interprets,
    )
    threshold = jnp.asarray(dropping.draw.threshold, np.uint32)
    scale = jnp.where(threshold == 0, 0, jnp.asarray(dropping.scale, np.float32))
    if dropping.excess is not None:  # of a traced rate, for which nothing can be raised
        scale = jnp.where(dropping.excess > 1, jnp.nan, scale)
    drop = Drop(
        words=_bits.block_key(dropping.seed),
        bases=_bases(dropping.shape, how.shape),
        limit=((threshold << np.uint32(32 - width)) - np.uint32(1)).reshape(1),
        scale=lax.stop_gradient(scale).reshape(1),
    )
    step = form.lanes * math.lcm(
        *(blocks[1] for blocks in (_forward_blocks(form), _backward_blocks(form, size)))
    )
    padded = (
        _padded(x.reshape(-1, *x.shape[-3:]), by)
        for x, by in ((queries, _BLOCK), (keys, step), (values, step))
    )
    y = _attend(form, drop, *padded)
    return y[:, :length].reshape(queries.shape)


def _bases(drawn: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    """The row-major index, modulo 2**32, of the mask's first row of each example and head."""
    count, rows = math.prod(drawn[:-2]), drawn[-2]
    first = lax.iota(np.uint32, count) * np.uint32(rows % 2**32)
    return jnp.broadcast_to(first.reshape(drawn[:-2]), shape[:-2]).reshape(-1)


def _padded(x: jax.Array, step: int) -> jax.Array:
    """The array with rows of zeros, up to a multiple of `step`."""
    missing = -x.shape[1] % step
    return jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0))) if missing else x


def _forward_blocks(form: Form) -> tuple[int, int, int]:
    """Queries and places of a block, and warps."""
    return _BLOCK, max(_LEAST, 64 // form.lanes), 4


def _backward_blocks(form: Form, size: int) -> tuple[int, int, int]:
    """Queries and places of a block, and warps: the sums for its keys and values stay in registers."""
    return _BLOCK, max(_LEAST, 128 * 64 // max(size, 64) // form.lanes), 8


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form: Form, drop: Drop, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    return _forward(form, drop, queries, keys, values)[0]


def _attend_forward(
    form: Form, drop: Drop, queries: jax.Array, keys: jax.Array, values: jax.Array
) -> tuple[jax.Array, tuple[Drop, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]]:
    y, norms = _forward(form, drop, queries, keys, values)
    return y, (drop, queries, keys, values, y, norms)


def _attend_backward(
    form: Form,
    kept: tuple[Drop, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array],
    dy: jax.Array,
) -> tuple[jax.Array | None, ...]:
    drop, queries, keys, values, y, norms = kept
    deltas = jnp.einsum("bthd,bthd->bht", y, dy, preferred_element_type=np.float32)
    return None, *_backward(form, drop, queries, keys, values, dy, norms, deltas.reshape(norms.shape))


_attend.defvjp(_attend_forward, _attend_backward)


def _once_differentiable(fun: Callable[..., tuple[jax.Array, ...]]) -> Callable[..., tuple[jax.Array, ...]]:
    """Refuses the derivative of a kernel, which Pallas would take apart."""

    @wraps(fun)
    def call(form: Form, *args: PyTree) -> tuple[jax.Array, ...]:
        guarded = jax.custom_jvp(partial(fun, form))
        guarded.defjvp(_refuse)
        return guarded(*args)

    return call


def _refuse(primals: tuple, tangents: tuple) -> NoReturn:
    raise NotImplementedError(
        "`implementation` must be 'xla' for a second derivative, got 'triton', which has only the first."
    )


@_once_differentiable
def _forward(
    form: Form, drop: Drop, queries: jax.Array, keys: jax.Array, values: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The result, and the base-2 logarithms of the sums of exponents, `[B * H, T]`."""
    pl, triton = _attention_kernels.pallas()
    batch, length, heads, size = queries.shape
    block, places, warps = _forward_blocks(form)
    keys, values = _by_lanes(keys, form), _by_lanes(values, form)
    own = pl.BlockSpec((None, block, None, size), lambda i, pair: (pair // heads, i, pair % heads, 0))
    every = _every_key(pl, keys, heads, form.groups)
    y, norms = pl.pallas_call(
        partial(_attention_kernels.forward, form=form, block=block, places=places),
        grid=(length // block, batch * heads),
        in_specs=[*_whole(pl, drop), own, every, every],
        out_specs=[own, pl.BlockSpec((None, block), lambda i, pair: (pair, i))],
        out_shape=[
            _like(queries, queries.shape, queries.dtype),
            _like(queries, (batch * heads, length), np.float32),
        ],
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=2),
        interpret=form.interprets,
        name="attention_dropout",
    )(*drop, queries, keys, values)
    return y, norms


@_once_differentiable
def _backward(
    form: Form,
    drop: Drop,
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    dy: jax.Array,
    norms: jax.Array,
    deltas: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of queries, keys and values."""
    pl, triton = _attention_kernels.pallas()
    batch, length, heads, size = queries.shape
    block, places, warps = _backward_blocks(form, size)
    lanes_keys, lanes_values = _by_lanes(keys, form), _by_lanes(values, form)
    parts = min(max(1, _PROGRAMS // (batch * heads)), lanes_keys.shape[1] // places)
    every_query = pl.BlockSpec(
        (None, length, None, size), lambda i, pair: (pair // heads, 0, pair % heads, 0)
    )
    every_key = _every_key(pl, lanes_keys, heads, form.groups)
    every_row = pl.BlockSpec((None, length), lambda i, pair: (pair, 0))
    own = pl.BlockSpec(
        (None, None, length, None, size), lambda i, pair: (i, pair // heads, 0, pair % heads, 0)
    )
    out = _every_key(pl, lanes_keys, heads, 1)
    dtype = keys.dtype if form.groups == 1 else np.float32
    like_keys = _like(queries, (*lanes_keys.shape[:-2], heads, size), dtype)
    dq, dk, dv = pl.pallas_call(
        partial(_attention_kernels.backward, form=form, block=block, places=places, parts=parts),
        grid=(parts, batch * heads),
        in_specs=[
            *_whole(pl, drop),
            every_query,
            every_key,
            every_key,
            every_query,
            every_row,
            every_row,
        ],
        out_specs=[own, out, out],
        out_shape=[_like(queries, (parts, *queries.shape), np.float32), like_keys, like_keys],
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=2),
        interpret=form.interprets,
        name="attention_dropout_backward",
    )(*drop, queries, lanes_keys, lanes_values, dy, norms, deltas)
    dq = (dq.sum(0) * np.float32(form.scale)).astype(queries.dtype)
    grouped = (*keys.shape[:-1], form.groups, size)
    return dq, *(x.reshape(grouped).sum(-2, dtype=np.float32).astype(keys.dtype) for x in (dk, dv))


def _by_lanes(x: jax.Array, form: Form) -> jax.Array:
    """Keys or values, `[B, S, K, D]`, as places and lanes: `[B, S / lanes, lanes, K, D]`."""
    return x.reshape(x.shape[0], -1, form.lanes, *x.shape[2:])


def _every_key(pl: ModuleType, keys: jax.Array, heads: int, groups: int):
    """All keys of an example and head."""
    _, places, lanes, _, size = keys.shape
    shape = (None, places, lanes, None, size)
    return pl.BlockSpec(shape, lambda i, pair: (pair // heads, 0, 0, pair % heads // groups, 0))


def _whole(pl: ModuleType, drop: Drop) -> list:
    """The arrays of a draw, whole."""
    return [pl.BlockSpec(x.shape, lambda i, pair: (0,)) for x in drop]


def _like(x: jax.Array, shape: tuple[int, ...], dtype) -> jax.ShapeDtypeStruct:
    """An array that varies over a mesh as `x` does."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(x).mat)
