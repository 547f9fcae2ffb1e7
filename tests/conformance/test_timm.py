"""What timm's `tests/test_layers_drop.py` asserts of DropBlock and DropPath, and where timm errs.

Without a counterpart here: in-place calls; `with_noise`, which fills blocks with noise;
`gamma_scale`; the deprecated arguments `batchwise` and `fast`; a result that is not scaled
(`scale_by_keep=False`), for which the masks serve.
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

KEY = jax.random.key(42)
MAPS = jnp.ones((2, 16, 16, 4))


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(7, 7, 3), (4, 8, 3), (10, 5, 3), (3, 3, 3), (8, 16, 5), (16, 8, 5), (7, 14, 5), (14, 7, 5)],
)
def test_drop_block_shapes(height, width, side):
    """Timm TestDropBlock2d::test_drop_block_2d_output_shape, _asymmetric_input: any map keeps its shape."""
    x = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    y = jax.eval_shape(lambda x: jaxdrop.drop_block(KEY, x, 0.1, block_size=side), x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize(("height", "width", "side"), [(10, 5, 3), (7, 14, 5)])
def test_the_share_of_asymmetric_maps(height, width, side):
    """Timm TestDropBlock2d::test_drop_block_2d_asymmetric_input asserts the shape alone; this the share."""
    mask = jaxdrop.block_mask(KEY, (2000, height, width, 4), 0.1, block_size=side)
    assert_mean(1 - mask.mean((1, 2, 3)), 0.1)


def test_drop_block_of_rate_zero():
    """Timm TestDropBlock2d::test_drop_block_2d_no_drop_when_prob_zero: the identity."""
    np.testing.assert_array_equal(jaxdrop.drop_block(KEY, MAPS, 0.0, block_size=3), MAPS)


@pytest.mark.parametrize(
    ("height", "theirs"), [(56, 0.111), (28, 0.133), (14, 0.209), (8, 0.618), (7, 0.930)]
)
def test_the_share_that_drop_block_drops(height, theirs):
    """Timm TestDropBlock2d::test_drop_block_2d_approximate_keep_ratio: .1 is .1 (timm: to .03, for 56 alone).

    Timm draws centers everywhere, at the rate for those whose block is whole, and drops these shares.
    """
    shape = (2**18 // height**2, height, height, 16)
    mask = jaxdrop.block_mask(KEY, shape, 0.1, block_size=7)
    assert_mean(1 - mask.mean((1, 2, 3)), 0.1)
    assert abs(usual_block_share(height, 7, 0.1, everywhere=True) - theirs) < 5e-4


@pytest.mark.parametrize(("dims", "patterns"), [((-1,), 1), ((), 4)])
def test_drop_block_of_channels_together_or_alone(dims, patterns):
    """Timm TestDropBlock2d::test_drop_block_2d_couple_channels_{true,false}: timm couples by default.

    Here and in the module, TestDropBlock2dModule::test_couple_channels_parameter, they are independent.
    """
    options = {"block_size": 5, "broadcast_dims": dims}
    y = jaxdrop.drop_block(KEY, MAPS, 0.3, **options)
    module = jaxdrop.nnx.DropBlock(0.3, **options)
    np.testing.assert_array_equal(module(MAPS, rngs=KEY), y)
    for example in np.asarray(y == 0):
        assert len({example[..., channel].tobytes() for channel in range(4)}) == patterns


@pytest.mark.parametrize("side", [2, 4, 6])
def test_even_blocks(side):
    """Timm TestDropBlock2d::test_drop_block_2d_even_block_size: timm takes them; here they are refused."""
    with pytest.raises(ValueError, match=re.escape(f"`block_size` must be odd, got {side}.")):
        jaxdrop.drop_block(KEY, MAPS, 0.1, block_size=side)


def test_blocks_larger_than_the_map():
    """Timm cuts the block to the map's size, silently; here it is refused."""
    message = re.escape("`block_size` must be at least 1 and at most 5 (the map's side), got 7.")
    with pytest.raises(ValueError, match=message):
        jaxdrop.drop_block(KEY, jnp.ones((2, 10, 5, 3)), 0.1, block_size=7)


def test_drop_block_scales_what_it_keeps():
    """Timm TestDropBlock2d::test_drop_block_2d_scale_by_keep: above 1; unscaled it is the mask's product."""
    y = jaxdrop.drop_block(KEY, MAPS, 0.3, block_size=5)
    mask = jaxdrop.block_mask(KEY, MAPS.shape, 0.3, block_size=5)
    np.testing.assert_array_equal(y > 0, mask)
    assert y[mask].min() > 1
    np.testing.assert_allclose(y.mean((1, 2, 3)), 1, rtol=1e-5)


@pytest.mark.parametrize(("name", "options"), [("DropBlock", {"block_size": 3}), ("DropPath", {})])
def test_modules_in_training_and_evaluation(name, options):
    """Timm TestDropBlock2dModule, TestDropPathModule::test_training_mode: drops in training alone."""
    x = jnp.ones((32, 8, 8, 4))
    linen = getattr(jaxdrop.linen, name)(0.5, **options)
    module = getattr(jaxdrop.nnx, name)(0.5, rngs=nnx.Rngs(0), **options)
    for train in (True, False):
        module.train() if train else module.eval()
        for y in (module(x), linen.apply({}, x, deterministic=not train, rngs={"dropout": KEY})):
            assert (y == 0).any() == train
            assert np.array_equal(y, x) != train


def test_unknown_arguments():
    """Timm TestDropBlock2dModule::test_unknown_args_warned: timm warns; here it is a TypeError."""
    for api in (jaxdrop.linen, jaxdrop.nnx):
        with pytest.raises(TypeError, match="unknown_arg"):
            api.DropBlock(0.1, block_size=3, unknown_arg=True)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_drop_path_without_a_draw(rate):
    """Timm TestDropPath::test_no_drop_when_prob_zero, test_no_drop_when_not_training: the identity."""
    x = jnp.ones((4, 8, 16, 16))
    y = jaxdrop.linen.DropPath(rate).apply({}, x, deterministic=rate > 0, rngs={"dropout": KEY})
    np.testing.assert_array_equal(y, x)


def test_drop_path_scales_what_it_keeps():
    """Timm TestDropPath::test_drop_path_scaling, test_drop_path_no_scaling: 1.25 or, by the mask, 1."""
    x = jnp.ones((1000, 8, 4, 4))
    y = jaxdrop.drop_path(KEY, x, 0.2)
    kept = y[:, 0, 0, 0] != 0
    assert_mean(kept, 0.8)
    # 0.2 is realized by 16 bits, and the scale is one over what they realize.
    np.testing.assert_allclose(y[kept], 65536 / round(0.8 * 65536), rtol=1e-6)
    mask = jaxdrop.keep_mask(KEY, x.shape, 0.2, broadcast_dims=(1, 2, 3))
    np.testing.assert_array_equal(mask[:, 0, 0, 0], kept)


def test_modules_say_their_rate():
    """Timm TestDropPathModule::test_extra_repr: the rate can be read in the printed module."""
    for api in (jaxdrop.linen, jaxdrop.nnx):
        assert "0.123" in repr(api.DropPath(0.123))
