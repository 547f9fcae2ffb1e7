"""The GPU kernels: the numbers of the dense form by interpretation, and what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import _balanced, _bits, _checks
from jaxdrop.drops import _attention, _attention_triton
from jaxdrop.drops._attention_dropping import Dropping
from tests import gpu

KEY = jax.random.key(24)


def attention(shape, rate, *, bits=None, drawn=None, is_causal=False, head=32):
    """What is dropped, and what happens between the products."""
    drawn = drawn or shape
    draw = _checks.prepare(rate, drawn, bits)
    scale = _checks.scale_of(draw, np.dtype(np.float32))
    dropping = Dropping(_bits.consume(KEY), draw, scale, None, drawn, of_keys=False)
    nothing = (None,) * 6
    options = {"is_causal": is_causal, "window": None, "scale": head**-0.5, "soft_cap": None}
    return _attention.Attention(*nothing, dropping, **options, precision=None, shape=shape)


def inputs(batch, queries, keys, heads, shared, head=32, dtype=np.float32):
    shapes = [
        (batch, queries, heads, head),
        *[(batch, keys, shared, head)] * 2,
        (batch, queries, heads, head),
    ]
    return [jax.random.normal(jax.random.fold_in(KEY, i), shape, dtype) for i, shape in enumerate(shapes)]


def interpreted(queries, keys, values, how):
    return _attention_triton.attend(queries, keys, values, how, how.dropping, interprets=True)


def dense(queries, keys, values, how):
    return _attention.attend(queries, keys, values, how, block_size=queries.shape[-3])


def assert_close(found, expected, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_values_and_gradients_equal_the_dense_form(monkeypatch):
    """Grouped heads, hidden keys, lengths that no block divides, and two blocks of keys in a program."""
    monkeypatch.setattr(_attention_triton, "_PROGRAMS", 8)
    *x, dy = inputs(2, 70, 150, 4, 2)
    how = attention((2, 4, 70, 150), 0.3, is_causal=True)

    def both(attend):
        y, vjp = jax.vjp(lambda *x: attend(*x, how), *x)
        return y, vjp(dy)

    assert_close(jax.jit(both, static_argnums=0)(interpreted), both(dense), 2e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_traced_rates_of_decisions_that_heads_and_queries_share():
    """Rates of 0 and 1, one between and one that is not valid, in half precision, under `vmap`."""
    *x, _ = inputs(2, 8, 12, 2, 2, dtype=jnp.bfloat16)

    @jax.vmap
    def both(rate):
        how = attention((2, 2, 8, 12), rate, bits=24, drawn=(2, 1, 1, 12))
        return interpreted(*x, how), dense(*x, how)

    found, expected = both(jnp.array([0.0, 0.25, 1.0, 1.5]))
    assert_close(found[:3], expected[:3], 1e-2)
    assert not found[2].any()
    assert jnp.isnan(found[3]).all()


def test_a_second_derivative_is_refused():
    *x, _ = inputs(1, 8, 12, 1, 1)
    how = attention((1, 1, 8, 12), 0.5)

    def slope(queries):
        return jax.grad(lambda queries: interpreted(queries, *x[1:], how).sum())(queries).sum()

    with pytest.raises(NotImplementedError, match="`implementation` must be 'xla' for a second derivative"):
        jax.eval_shape(jax.grad(slope), x[0])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bias": np.zeros((1, 1, 8, 12), np.float32)}, "with `bias`, got 'triton'"),
        ({"mask": np.ones((1, 1, 8, 12), bool)}, "with `mask`"),
        ({"local_window_size": 2}, "with `local_window_size`"),
        ({"key_value_seq_lengths": np.array([4])}, "with sequence lengths"),
        ({"logits_soft_cap": 5.0}, "with `logits_soft_cap`"),
        ({"precision": "highest"}, "with `precision`"),
        ({"regularizer": jaxdrop.drop_key}, "with `drop_key`"),
        ({"rate": np.full((1, 1, 8, 1), 0.5, np.float32)}, "with an array of rates"),
        ({"bits": 32}, "with `bits=32`"),
        (
            {"key": _balanced.balanced_key(jax.random.key_data(KEY), jnp.uint32(3), 32)},
            "with keys of balanced",
        ),
        ({"broadcast_dims": (-1,)}, "with decisions shared by all keys"),
        ({"scale": -1.0}, "with a `scale` that is traced or not positive"),
        ({"dtype": np.float64}, "with queries of float64"),
        ({"head": 48}, "with heads of size 48, which is not 32, 64, 128"),
    ],
)
def test_options_that_are_refused(options, match):
    options = {"key": KEY, "rate": 0.5, "dtype": np.float32, "head": 32} | options
    key, rate, dtype, head = (options.pop(name) for name in ("key", "rate", "dtype", "head"))
    with jax.enable_x64(dtype == np.float64):
        *x, _ = inputs(1, 8, 12, 1, 1, head, dtype)
        with pytest.raises(ValueError, match=match):
            jaxdrop.dot_product_attention(key, *x, rate, implementation="triton", **options)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="says what happens on a CPU")
def test_a_cpu_is_refused():
    *x, _ = inputs(1, 8, 12, 1, 1)
    with pytest.raises(ValueError, match="`implementation` must be None or 'xla' on a CPU, got 'triton'"):
        jaxdrop.dot_product_attention(KEY, *x, 0.5, implementation="triton")


def test_products_in_full_are_refused():
    *x, _ = inputs(1, 8, 12, 1, 1)
    refused = pytest.raises(ValueError, match="for float32 at the matmul precision 'highest', got 'triton'")
    with gpu.described_for_pallas(), jax.default_matmul_precision("highest"), refused:
        jaxdrop.dot_product_attention(KEY, *x, 0.5, implementation="triton")


def test_rate_0_needs_no_kernel():
    *x, _ = inputs(1, 8, 12, 1, 1)
    found = jaxdrop.dot_product_attention(KEY, *x, 0, implementation="triton")
    np.testing.assert_array_equal(found, jax.nn.dot_product_attention(*x))


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("head", [32, 64, 128])
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_kernels_on_a_gpu(head, dtype, is_causal):
    """The mask is that of `keep_mask`, to the bit, and numbers are those of the dense form."""
    batch, length, heads, rate = 2, 500, 4, 0.3
    options = {"is_causal": is_causal, "implementation": "triton"}
    # Where all scores are equal, values of one for one key show its decisions.
    zeros, shape = jnp.zeros((batch, length, heads, head), dtype), (batch, heads, length, length)
    tf32, seen = partial(jax.default_matmul_precision, "tensorfloat32"), []
    for start in range(0, length, head):
        values = jax.nn.one_hot(jnp.arange(length) - start, head, dtype=dtype)[None, :, None]
        values = jnp.broadcast_to(values, zeros.shape)
        with tf32():
            y = jaxdrop.dot_product_attention(KEY, zeros, zeros, values, rate, **options)
        seen.append(jnp.moveaxis(y, 2, 1) != 0)
    seen = jnp.concatenate(seen, -1)[..., :length]
    expected = jaxdrop.masks.keep_mask(KEY, shape, rate)
    np.testing.assert_array_equal(seen, expected & (np.tri(length, dtype=bool) | (not is_causal)))

    @partial(jax.jit, static_argnums=0)
    def both(implementation, queries, keys, values, dy):
        own = options | {"implementation": implementation}
        attend = partial(jaxdrop.dot_product_attention, KEY, rate=rate, **own)
        y, vjp = jax.vjp(attend, queries, keys, values)
        return y, vjp(dy)

    data = inputs(batch, length, length, heads, heads // 2, head, dtype)
    exact = both("xla", *(array.astype(np.float32) for array in data))
    with tf32():
        found, again = both("triton", *data), both("triton", *data)
    assert_close(jax.tree.map(lambda array: array.astype(np.float32), found), exact, 2e-2)
    jax.tree.map(np.testing.assert_array_equal, found, again)  # sums have one order


@gpu.needs_plugin
def test_the_program_for_a_described_gpu():
    """Two kernels, and an array of gradients per program that runs at the same time."""
    length, heads, head = 8192, 2, 32

    def both(key, queries, keys, values, dy):
        def attend(*x):
            return jaxdrop.dot_product_attention(key, *x, 0.1, implementation="triton")

        y, vjp = jax.vjp(attend, queries, keys, values)
        return y, vjp(dy)

    x = jax.ShapeDtypeStruct((1, length, heads, head), jnp.bfloat16)
    with gpu.described_for_pallas():
        program = gpu.compiled(both, jax.eval_shape(lambda: KEY), *[x] * 4)
    kernels = [kernel for kernel in program.kernels if kernel.operation == "custom-call"]
    assert len(kernels) == 2
    sums = 4 * length * head * _attention_triton._PROGRAMS
    assert sums <= program.temporary_bytes < 1.1 * sums
