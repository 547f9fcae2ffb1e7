"""What torchvision's `test/test_ops.py` asserts of StochasticDepth and DropBlock, and where they err.

Without a counterpart here: in-place calls, tracing by `torch.fx` (`test_is_leaf_node`).
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from tests.conformance.arithmetic import assert_mean, usual_block_share

KEY = jax.random.key(5)
# How many elements a share is measured on. Torchvision's rate of centers would fail below for .1 and
# above (but for maps of 8, blocks of 7 and .1), and pass for .05.
ELEMENTS = 2**22
modes = pytest.mark.parametrize("mode", ["batch", "row"])


@modes
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_stochastic_depth_shares(rate, mode):
    """Torchvision TestStochasticDepth::test_stochastic_depth_random: how often an example or batch goes."""
    keys = jax.random.split(KEY, 2500)
    y = jax.vmap(lambda key: jaxdrop.drop_path(key, jnp.ones((5, 3, 4, 4)), rate, mode=mode))(keys)
    dropped = np.asarray(y.sum((2, 3, 4)) == 0)
    assert_mean(dropped.mean(1), rate)
    assert (dropped.all(1) | ~dropped.any(1)).all() == (mode == "batch")
    assert_mean(y.mean((1, 2, 3, 4)), 1.0)


@modes
@pytest.mark.parametrize("rate", [0, 1])
def test_stochastic_depth_limits(rate, mode):
    """Torchvision TestStochasticDepth::test_stochastic_depth: rate 0 is the identity, rate 1 gives zeros."""
    x = jnp.ones((5, 3, 4, 4))
    for module in (
        lambda x: jaxdrop.linen.DropPath(rate, mode=mode, deterministic=False).apply({}, x, rng=KEY),
        jaxdrop.nnx.DropPath(rate, mode=mode, rngs=nnx.Rngs(0)),
    ):
        np.testing.assert_array_equal(module(x), (1 - rate) * x)


@pytest.mark.parametrize("spatial", [2, 3])
def test_drop_block_limits(spatial):
    """Torchvision TestDropBlock::test_drop_block: identity at 0; a block of the map's size takes it all."""
    x = jnp.ones((200, 3) + (11,) * spatial)
    for side in (5, 11):
        np.testing.assert_array_equal(jaxdrop.drop_block(KEY, x, 0, block_size=side, channel_axis=1), x)
    y = jaxdrop.drop_block(KEY, x, 0.5, block_size=11, channel_axis=1)
    kept = np.count_nonzero(y, axis=tuple(range(2, x.ndim))).ravel() / 11**spatial
    assert set(kept) == {0.0, 1.0}
    assert_mean(kept, 0.5)


@pytest.mark.parametrize("spatial", [2, 3])
@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_drop_block_shares(rate, spatial):
    """Torchvision TestDropBlock::test_drop_block_random: maps of 11, blocks of 3 (there: to 15 percent).

    In two dimensions torchvision gives .095 and .180.
    """
    shape = (2500 if spatial == 2 else 500, 3) + (11,) * spatial
    mask = jaxdrop.block_mask(KEY, shape, rate, block_size=3, channel_axis=1)
    assert_mean(1 - np.asarray(mask.mean(tuple(range(1, len(shape))))), rate)
    assert abs(usual_block_share(11, 3, rate, everywhere=False) - {0.1: 0.095, 0.2: 0.180}[rate]) < 5e-4


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("height", [7, 8, 14, 28, 56])
def test_the_share_that_drop_block_drops(height, side, rate):
    """Torchvision falls short: of .1 by up to .007, of .5 by up to .14; right where a block is the map.

    The standard error is that of the shares of independent examples, 8 maps in each.
    """
    x = np.ones((ELEMENTS // (8 * height**2), height, height, 8), np.float32)
    kept = np.count_nonzero(jaxdrop.drop_block(KEY, x, rate, block_size=side), axis=(1, 2, 3))
    assert_mean(1 - kept / x[0].size, rate)
    short = rate - usual_block_share(height, side, rate, everywhere=False)
    assert (
        abs(short) < 1e-9
        if height == side
        else 0 < short < {0.05: 0.002, 0.1: 0.0072, 0.3: 0.057, 0.5: 0.142}[rate]
    )


@pytest.mark.parametrize(("height", "theirs"), [(56, 0.605), (28, 0.578), (14, 0.549), (8, 0.672), (7, 1.0)])
def test_drop_block_at_rate_one(height, theirs):
    """At rate 1 and blocks of 7 torchvision drops these shares of a map; here all is dropped."""
    x = jnp.ones((2, height, height, 3))
    np.testing.assert_array_equal(jaxdrop.drop_block(KEY, x, 1.0, block_size=7), jnp.zeros_like(x))
    assert abs(usual_block_share(height, 7, 1.0, everywhere=False) - theirs) < 5e-4


def test_drop_block_at_a_traced_rate_one():
    """The same, where the rate cannot be looked at."""
    x = jnp.ones((2, 14, 14, 3))
    y = jax.jit(lambda rate: jaxdrop.drop_block(KEY, x, rate, block_size=7))(1.0)
    np.testing.assert_array_equal(y, jnp.zeros_like(x))


def test_drop_block_in_half_precision():
    """Torchvision counts the kept in float16: 65,520 or more are infinite, and the result zero."""
    x = jnp.ones((2, 64, 64, 32), jnp.float16)
    y = jaxdrop.drop_block(KEY, x, 0.1, block_size=7)
    assert (np.asarray(y != 0).sum((1, 2, 3)) > 65520).all()
    # Each element is rounded to 11 bits, all of them alike.
    np.testing.assert_allclose(y.astype(jnp.float32).mean((1, 2, 3)), 1, rtol=2**-11)


def test_drop_block_leaves_other_examples_alone():
    """Torchvision scales by what is kept of the whole batch; here an example does not see the others."""
    x = jnp.ones((8, 14, 14, 4))
    y = jaxdrop.drop_block(KEY, x, 0.3, block_size=7)
    np.testing.assert_allclose(y.mean((1, 2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(jaxdrop.drop_block(KEY, x[:4], 0.3, block_size=7), y[:4], rtol=1e-6)


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_bad_rates(rate):
    """Torchvision ops/drop_block.py and ops/stochastic_depth.py raise ValueError, and so is it here."""
    message = re.escape(f"`rate` must lie in [0, 1], got {rate:g}.")
    with pytest.raises(ValueError, match=message):
        jaxdrop.drop_block(KEY, jnp.ones((2, 8, 8, 3)), rate, block_size=3)
    with pytest.raises(ValueError, match=message):
        jaxdrop.drop_path(KEY, jnp.ones((2, 3)), rate)
