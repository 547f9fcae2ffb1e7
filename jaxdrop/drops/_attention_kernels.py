"""The kernels of `_attention_triton`, for Pallas's Triton back end.

A kernel takes references to arrays in memory, of one example and head: the words of the key, the
first row of each mask, the limit and the scale of a `Drop`, then queries `[T, D]`, and keys and
values `[places, lanes, D]`. Places and lanes are those of Threefry blocks.

The compiler must not see how the words of a counter depend on loop counters: LLVM reassociates the
sums within Threefry and triples their number.
"""

import math
from dataclasses import dataclass
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdrop import _bits

_LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class Form:
    """What is known when a kernel is compiled.

    Attributes:
      lanes: Keys per Threefry block.
      width: Random bits per weight.
      keys: Number of keys, without padding.
      row_stride: Rows of the mask from a query to the next; 0 where queries share decisions.
      scale: Multiplies the products.
      is_causal: Whether a query sees no later key.
      groups: Heads of queries per head of keys.
      interprets: Whether to interpret the kernels, on any device.
    """

    lanes: int
    width: int
    keys: int
    row_stride: int
    scale: float
    is_causal: bool
    groups: int
    interprets: bool


def pallas():
    """Pallas and its Triton back end, imported when needed."""
    try:
        from jax.experimental import pallas
        from jax.experimental.pallas import triton
    except ImportError:
        raise NotImplementedError(
            "`implementation` 'triton' must be used with a jax that has Pallas's Triton back end, "
            f"got jax {jax.__version__}; use 'xla'."
        ) from None
    return pallas, triton


def forward(
    words_ref, bases_ref, limit_ref, scale_ref, query_ref, key_ref, value_ref, y_ref, norm_ref,
    *, form, block, places,
):  # fmt: skip
    """A block of queries, which goes through the keys with a running softmax."""
    pl, _ = pallas()
    start, base = pl.program_id(0) * np.int32(block), bases_ref[pl.program_id(1)]
    query = query_ref[...]
    at = start + lax.broadcasted_iota(np.int32, (block, 1), 0)
    rows = _mask_rows(form, base, at)
    factor = np.float32(form.scale * _LOG2E)
    step = places * form.lanes

    def visit(j, carry):
        total, top, norm = carry
        place = j * np.int32(places) + lax.broadcasted_iota(np.int32, (1, places), 1)
        here = pl.ds(j * np.int32(places), places)
        draws = _bits.threefry((words_ref[0], words_ref[1]), (rows, _opaque(form, place).astype(np.uint32)))
        scores = [
            _hide(form, _product(query, key_ref[here, lane, :], 1, 1), at, place, lane, key_ref.shape[0])
            for lane in range(form.lanes)
        ]
        new = jnp.maximum(top, reduce(jnp.maximum, scores).max(1) * factor)
        weights = [_exp2(form, score, factor, -new[:, None]) for score in scores]
        decay = _exp2(form, top, np.float32(1), -new)
        norm = norm * decay + reduce(jnp.add, weights).sum(1)
        total = total * decay[:, None]
        for lane, weight in enumerate(weights):
            # A product with 0 or 1: LLVM would select between packed halves, one at a time.
            kept = weight * jnp.where(_is_kept(form, draws, lane, limit_ref[0]), np.float32(1), np.float32(0))
            total = total + _product(kept.astype(query.dtype), value_ref[here, lane, :], 1, 0)
        return total, new, norm

    count = np.int32(key_ref.shape[0] // places)
    if form.is_causal:
        count = jnp.minimum(count, (start + np.int32(block + step - 1)) // np.int32(step))
    zero = jnp.zeros((block,), np.float32)
    carry = (jnp.zeros(query.shape, np.float32), jnp.full((block,), -jnp.inf, np.float32), zero)
    total, top, norm = lax.fori_loop(np.int32(0), count, visit, carry)
    y_ref[...] = (total * (scale_ref[0] / norm)[:, None]).astype(y_ref.dtype)
    norm_ref[...] = top + jnp.log2(norm)


def backward(
    words_ref, bases_ref, limit_ref, scale_ref, query_ref, key_ref, value_ref, dy_ref, norm_ref, delta_ref,
    dq_ref, dk_ref, dv_ref, *, form, block, places, parts,
):  # fmt: skip
    """Every `parts`-th block of keys in turn, each of which goes through the queries."""
    pl, triton = pallas()
    first, base = pl.program_id(0), bases_ref[pl.program_id(1)]
    factor, step = np.float32(form.scale * _LOG2E), places * form.lanes
    length, size = query_ref.shape
    lanes = range(form.lanes)

    def visit_keys(turn, carry):
        number = first + turn * np.int32(parts)
        here = pl.ds(number * np.int32(places), places)
        keys = [key_ref[here, lane, :] for lane in lanes]
        values = [value_ref[here, lane, :] for lane in lanes]
        place = number * np.int32(places) + lax.broadcasted_iota(np.int32, (places, 1), 0)

        def visit_queries(i, sums):
            dks, dvs = sums
            there = pl.ds(i * np.int32(block), block)
            query, dy, norm, delta = query_ref[there, :], dy_ref[there, :], norm_ref[there], delta_ref[there]
            dq = jnp.where(turn == 0, np.float32(0), dq_ref[there, :])
            at = i * np.int32(block) + lax.broadcasted_iota(np.int32, (1, block), 1)
            rows = _mask_rows(form, base, at)
            draws = _bits.threefry((words_ref[0], words_ref[1]), (rows, place.astype(np.uint32)))
            new_dks, new_dvs = [], []
            for lane in lanes:
                score = _hide(form, _product(keys[lane], query, 1, 1), at, place, lane, key_ref.shape[0])
                weight = _exp2(form, score, factor, -norm[None, :])
                kept = weight * jnp.where(
                    _is_kept(form, draws, lane, limit_ref[0]), scale_ref[0], np.float32(0)
                )
                new_dvs.append(dvs[lane] + _product(kept.astype(dy.dtype), dy, 1, 0))
                dscore = _fma(form, kept, _product(values[lane], dy, 1, 1), weight * -delta[None, :])
                dscore = dscore.astype(query.dtype)
                new_dks.append(dks[lane] + _product(dscore, query, 1, 0))
                dq = dq + _product(dscore, keys[lane], 0, 0)
            dq_ref[there, :] = dq
            return tuple(new_dks), tuple(new_dvs)

        def clear(i, carry):
            dq_ref[pl.ds(i * np.int32(block), block), :] = jnp.zeros((block, size), np.float32)
            return carry

        start, end = np.int32(0), np.int32(length // block)
        if form.is_causal:
            start = jnp.minimum(number * np.int32(step) // np.int32(block), end)
        lax.fori_loop(np.int32(0), jnp.where(turn == 0, start, np.int32(0)), clear, np.int32(0))
        zeros = tuple(jnp.zeros((places, size), np.float32) for _ in lanes)
        dks, dvs = lax.fori_loop(start, end, visit_queries, (zeros, zeros))
        for lane in lanes:
            dk_ref[here, lane, :] = (dks[lane] * np.float32(form.scale)).astype(dk_ref.dtype)
            dv_ref[here, lane, :] = dvs[lane].astype(dv_ref.dtype)
        if not form.interprets:
            triton.debug_barrier()  # the next turn may read `dq` in another thread than the writing one
        return carry

    blocks = key_ref.shape[0] // places
    turns = (np.int32(blocks - 1) - first) // np.int32(parts) + np.int32(1)
    lax.fori_loop(np.int32(0), turns, visit_keys, np.int32(0))


def _mask_rows(form: Form, base: jax.Array, at: jax.Array) -> jax.Array:
    """The rows of the mask of these queries."""
    rows = at if form.row_stride else jnp.zeros_like(at)
    return _opaque(form, base.astype(np.int32) + rows).astype(np.uint32)


def _is_kept(form: Form, draws: tuple[jax.Array, jax.Array], lane: int, limit: jax.Array) -> jax.Array:
    """The decisions of a lane: its draw, moved to the high end of the word, is at most the limit."""
    half = form.lanes // 2
    shift = 0 if form.width == 24 else 32 - form.width * (lane % half + 1)
    word = draws[lane // half]
    return (word << np.uint32(shift) if shift else word) <= limit


def _hide(
    form: Form, scores: jax.Array, query: jax.Array, place: jax.Array, lane: int, all_places: int
) -> jax.Array:
    """The scores, minus infinity for keys that a query may not see and for padding."""
    key = place * np.int32(form.lanes) + np.int32(lane)
    seen = key <= query if form.is_causal else None
    if all_places * form.lanes != form.keys:
        real = key < np.int32(form.keys)
        seen = real if seen is None else seen & real
    return scores if seen is None else jnp.where(seen, scores, -jnp.inf)


def _product(a: jax.Array, b: jax.Array, axis_of_a: int, axis_of_b: int) -> jax.Array:
    """A product over these axes, accumulated in float32."""
    return lax.dot_general(a, b, (((axis_of_a,), (axis_of_b,)), ((), ())), preferred_element_type=np.float32)


def _exp2(form: Form, x: jax.Array, factor: np.float32, offset: jax.Array) -> jax.Array:
    """`2**(x * factor + offset)` in two instructions; `exp2` alone would take four, for subnormal numbers."""
    if form.interprets:
        return jnp.exp2(x * factor + offset)
    code = "{.reg .f32 t; fma.rn.f32 t, $1, $2, $3; ex2.approx.ftz.f32 $0, t;}"
    return _assembly(code, x, jnp.full_like(x, factor), offset)


def _fma(form: Form, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """`a * b + c` in one instruction, which XLA does not let Triton's compiler choose."""
    return a * b + c if form.interprets else _assembly("fma.rn.f32 $0, $1, $2, $3;", a, b, c)


def _opaque(form: Form, x: jax.Array) -> jax.Array:
    """Integers, whose origin the compiler does not see."""
    return x if form.interprets else _assembly("mov.b32 $0, $1;", x, kind="r")


def _assembly(code: str, *args: jax.Array, kind: str = "f") -> jax.Array:
    """One elementwise operation in PTX."""
    _, triton = pallas()
    shape = jnp.broadcast_shapes(*(arg.shape for arg in args))
    (result,) = triton.elementwise_inline_asm(
        code,
        args=[jnp.broadcast_to(arg, shape) for arg in args],
        constraints=",".join([f"={kind}", *[kind] * len(args)]),
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(shape, args[0].dtype)],
    )
    return result
