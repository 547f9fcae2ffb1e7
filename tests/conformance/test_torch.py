"""What torch's `test/nn/test_dropout.py` asserts, and where torch errs.

Without a counterpart here: in-place calls, memory formats, CUDA against the CPU, complex dtypes.
"""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop import adapters
from tests.conformance.arithmetic import assert_mean

KEY = jax.random.key(4)
# With one decision for each of the first two axes, or for each element.
DROPS = [
    (jaxdrop.dropout, (1000,)),
    (adapters.dropout1d, (40, 30, 4)),
    (adapters.dropout2d, (40, 30, 2, 3)),
    (adapters.dropout3d, (40, 30, 2, 2, 2)),
]
drops = pytest.mark.parametrize(("drop", "shape"), DROPS)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_alpha_dropout_keeps_the_moments(rate):
    """Torch test_dropout.py::test_AlphaDropout: mean and deviation stay (torch: to 0.1)."""
    x = normal(20_000)
    y, vjp = jax.vjp(lambda x: jaxdrop.alpha_dropout(KEY, x, rate), x)
    assert_mean(y, 0.0)
    assert_mean(y**2, 1.0)
    (grad,) = vjp(x)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize(("shape", "axis"), [((1000, 3, 2, 4, 3), 1), ((50, 20, 16, 16), 0)])
def test_feature_alpha_dropout_keeps_the_moments(shape, axis):
    """Torch test_dropout.py::test_FeatureAlphaDropout: as above, by maps, of a batch or of one example."""
    x = normal(*shape) if axis else normal(*shape)[None]
    y = jaxdrop.feature_alpha_dropout(KEY, x, 0.5, channel_axis=1)
    maps = np.asarray(y).reshape(x.shape[0] * x.shape[1], -1)
    assert_mean(maps.mean(1), 0.0)
    assert_mean((maps**2).mean(1), 1.0)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_zero_and_one(rate, train):
    """Torch test_dropout.py::test_native_dropout_corner_case: all or nothing, and so its gradient."""
    x = normal(5)
    module = jaxdrop.linen.Dropout(rate, deterministic=not train)
    y, vjp = jax.vjp(lambda x: module.apply({}, x, rng=KEY), x)
    factor = 0.0 if train and rate == 1 else 1.0
    np.testing.assert_array_equal(y, factor * x)
    np.testing.assert_array_equal(vjp(jnp.ones(5))[0], jnp.full(5, factor))


@drops
def test_invalid_rates(drop, shape):
    """Torch test_dropout.py::test_invalid_dropout_p: -0.1 and 1.1 are refused."""
    for rate in (-0.1, 1.1):
        with pytest.raises(ValueError, match=re.escape(f"`rate` must lie in [0, 1], got {rate:g}.")):
            drop(KEY, jnp.ones(shape), rate)


@pytest.mark.parametrize(
    ("drop", "shape", "dtype"),
    [(jaxdrop.dropout, (1000,), jnp.bfloat16), *((*case, jnp.float32) for case in DROPS)],
)
def test_the_mean_and_the_mean_of_the_gradient(drop, shape, dtype):
    """Torch test_dropout.py::test_Dropout, test_Dropout{1,2,3}d: 0.8 stays 0.8 (torch: to 0.05)."""
    x = jnp.full(shape, 0.8, dtype)
    y, vjp = jax.vjp(lambda x: drop(KEY, x, 0.2), x)
    for z in (y, *vjp(x)):
        assert z.dtype == dtype
        decisions = z if z.ndim == 1 else z.reshape(1200, -1)[:, 0]
        # Of bfloat16 the 0.8 itself is off by 0.0008.
        assert_mean(decisions.astype(jnp.float32) * 0.8 / float(x.max()), 0.8)


@drops
def test_a_rate_of_almost_zero(drop, shape):
    """Torch test_dropout.py::_test_dropout_discontiguous: 1e-10 gives the input, as 0 does."""
    x = np.stack([np.ones(shape, np.float32)] * 2, -1)[..., 0]
    assert not x.flags.c_contiguous
    for rate in (0, 1e-10):
        np.testing.assert_array_equal(drop(KEY, x, rate), x)


@pytest.mark.parametrize("rate", [1e-10, 0.3, 0.5, 0.7])
def test_strides_do_not_matter(rate):
    """Torch test_dropout.py::_test_dropout_stride_mean_preserve: in any layout and cut, the same result."""
    x = np.ones((6, 7, 8, 9), np.float32)
    for shift in ((0, 0), (1, 0), (0, 1), (1, 1)):
        expected = jaxdrop.dropout(KEY, x[shift[0] :, shift[1] :], rate)
        assert_mean(expected.ravel(), 1.0)
        assert np.array_equal(expected, np.ones(expected.shape)) == (rate < 1e-9)
        for axes in itertools.permutations(range(4)):
            laid = np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))
            np.testing.assert_array_equal(jaxdrop.dropout(KEY, laid[shift[0] :, shift[1] :], rate), expected)


@pytest.mark.parametrize(
    ("drop", "shape"),
    [(adapters.dropout1d, (50, 2)), (adapters.dropout2d, (50, 2, 2)), (adapters.dropout3d, (50, 2, 2, 2))],
)
def test_one_example_is_a_batch_of_one(drop, shape):
    """Torch test_dropout.py::_test_dropoutNd_no_batch: the same draw; torch has it not for Dropout2d."""
    x = normal(*shape)
    np.testing.assert_array_equal(drop(KEY, x, 0.5), drop(KEY, x[None], 0.5)[0])


@pytest.mark.parametrize(("drop", "shape"), DROPS[1:])
def test_whole_channels(drop, shape):
    """Torch test_dropout.py::_test_dropoutNd_channel_zero: none or all of a channel's elements are zero."""
    nonzero = np.count_nonzero(drop(KEY, jnp.ones(shape), 0.5), axis=tuple(range(2, len(shape))))
    assert set(nonzero.ravel()) == {0, int(np.prod(shape[2:]))}


@pytest.mark.parametrize(
    ("drop", "ranks"),
    [(adapters.dropout1d, (1, 4)), (adapters.dropout2d, (2, 5)), (adapters.dropout3d, (3, 6))],
)
def test_other_ranks(drop, ranks):
    """Torch test_dropout.py::test_Dropout{1,2,3}d: refused; torch only warns for 2d and 3d, and guesses."""
    for rank in ranks:
        with pytest.raises(ValueError, match="`x` must be of shape"):
            drop(KEY, jnp.ones((2,) * rank), 0.5)


def test_three_axes_of_two_dimensions():
    """Torch test_dropout.py::test_Dropout2d: torch warns and reads [N, C, L]; here it is one [C, H, W]."""
    y = adapters.dropout2d(KEY, jnp.ones((50, 2, 3)), 0.5)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1, :1], y.shape))
    as_torch = adapters.dropout1d(KEY, jnp.ones((50, 2, 3)), 0.5)
    assert not np.array_equal(as_torch[:, 0], as_torch[:, 1])


def test_an_empty_array():
    """Torch test_dropout.py::test_empty_dropout: it stays empty."""
    assert jaxdrop.dropout(KEY, jnp.array([]), 0.5).shape == (0,)


@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "FeatureAlphaDropout", "SpatialDropout"])
def test_evaluation(name):
    """Torch test_dropout.py::_test_dropout: a module in evaluation changes nothing, and prints itself."""
    x = normal(4, 5, 6)
    module = getattr(jaxdrop.nnx, name)(0.2, rngs=nnx.Rngs(0))
    assert not np.array_equal(module(x), x)
    module.eval()
    np.testing.assert_array_equal(module(x), x)
    assert "rate=0.2" in repr(module)
    assert "rate = 0.2" in str(getattr(jaxdrop.linen, name)(0.2))


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_dropped_is_gone(value):
    """Torch multiplies by the mask: a dropped infinity becomes NaN, at rate 1 all; here it is 0."""
    x = jnp.full((1000,), value)
    y = np.asarray(jaxdrop.dropout(KEY, x, 0.5))
    assert_mean(y == 0, 0.5)
    np.testing.assert_array_equal(y[y != 0], value)
    np.testing.assert_array_equal(jaxdrop.dropout(KEY, x, 1.0), 0)
    np.testing.assert_array_equal(jax.jit(jaxdrop.dropout)(KEY, x, 1.0), 0)


def test_alpha_dropout_of_infinities():
    """Torch gives NaN for a dropped infinity; here a dropped one has the value of any dropped one."""
    y = np.asarray(jaxdrop.alpha_dropout(KEY, jnp.full((1000,), jnp.inf), 0.5))
    assert_mean(np.isfinite(y), 0.5)
    # a s + b for a half.
    np.testing.assert_allclose(y[np.isfinite(y)], -0.7791939305, rtol=1e-6)
