"""The messages of the argument checks: the name, what is expected, what came."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import _checks


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _checks.check_rate(1.3), ValueError, "`rate` must lie in [0, 1], got 1.3."),
        (lambda: _checks.check_rate(-0.1), ValueError, "`rate` must lie in [0, 1], got -0.1."),
        (lambda: _checks.check_rate(float("nan")), ValueError, "`rate` must lie in [0, 1], got nan."),
        (lambda: _checks.check_rate("a"), TypeError, "`rate` must be a real number"),
        (lambda: _checks.check_rate(None), TypeError, "`rate` must be a real number"),
        (
            lambda: _checks.check_nonnegative(-1.0, "stddev"),
            ValueError,
            "`stddev` must be finite and at least 0, got -1.",
        ),
        (
            lambda: _checks.check_nonnegative(np.inf, "stddev"),
            ValueError,
            "`stddev` must be finite and at least 0, got inf.",
        ),
        (
            lambda: _checks.check_floating(np.arange(3)),
            TypeError,
            "`x` must be a floating-point array, got int32.",
        ),
        (lambda: _checks.check_shape((3, -1)), ValueError, "`shape` must hold sizes of at least 0"),
        (lambda: _checks.check_shape(3), TypeError, "`shape` must be a sequence of integers, got 3."),
        (
            lambda: _checks.check_axes((5,), 2, "broadcast_dims"),
            ValueError,
            "`broadcast_dims` must lie in [-2, 1] for an array of rank 2, got 5.",
        ),
        (
            lambda: _checks.check_axes((0.5,), 2, "broadcast_dims"),
            TypeError,
            "`broadcast_dims` must be a sequence of integers, got (0.5,).",
        ),
        (
            lambda: _checks.check_channel_axis(0, (2, 3)),
            ValueError,
            "`channel_axis` must not be the batch axis 0, got 0.",
        ),
        (
            lambda: _checks.check_channel_axis(-1, (2,)),
            ValueError,
            "`x` must have a batch axis and a channel axis, got shape (2,).",
        ),
        (
            lambda: _checks.check_broadcastable(np.ones(3), (2, 4), "mask"),
            ValueError,
            "`mask` must broadcast to shape (2, 4), got (3,).",
        ),
        (
            lambda: _checks.choose_width(7, 0.5),
            ValueError,
            "`bits` must be one of 8, 16, 24, 32 or None, got 7.",
        ),
        (
            lambda: _checks.choose_width(8, 0.001),
            ValueError,
            "`bits` must be enough to tell rate 0.001 from 0 and 1, got 8.",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_traced_values_pass():
    def f(rate: jax.Array) -> jax.Array:
        assert _checks.check_rate(rate) is rate
        assert not _checks.is_concrete(rate)
        assert not _checks.is_trivial_rate(rate)
        assert _checks.choose_width(None, rate) == 16
        return rate

    assert jax.jit(f)(7.0) == 7.0


@pytest.mark.parametrize(
    ("rate", "bits"),
    [(0.5, 16), (0.1, 16), (0.3, 16), (0.9, 16), (0.01, 16), (0.001, 24), (0.9999, 24)],
)
def test_as_many_bits_as_realise_the_rate(rate, bits):
    assert _checks.choose_width(None, rate) == bits
    assert _checks.choose_width(None, jnp.array([0.5, rate])) == bits
    assert _checks.choose_width(None, jnp.full((3,), rate)) == bits
    assert _checks.choose_width(32, rate) == 32
    if bits < 24:
        realized = round((1 - rate) * 2**bits) / 2**bits
        assert abs(realized - (1 - rate)) <= 1e-3 * min(rate, 1 - rate)


def test_what_is_trivial():
    assert _checks.is_trivial_rate(0)
    assert _checks.is_trivial_rate(np.float32(1))
    assert not _checks.is_trivial_rate(0.5)
    assert not _checks.is_trivial_rate(np.zeros(3))


def test_the_widest_dtype_needs_no_promotion():
    arrays = [jnp.ones(1, dtype) for dtype in ("float8_e4m3fn", "bfloat16", "float16", "float32")]
    with jax.numpy_dtype_promotion("strict"):
        assert _checks.widest(*arrays) == np.float32
        assert _checks.widest(arrays[0]) == np.float32
    with jax.enable_x64(True):
        assert _checks.widest(arrays[1], jnp.ones(1, "float64")) == np.float64
