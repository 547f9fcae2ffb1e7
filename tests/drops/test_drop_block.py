"""DropBlock: the sowing rate, the dropped share, the form of blocks, the scale of each example."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop.drops.drop_block import _Plan, _start_rate
from tests.normals import standard_normal

KEY = jax.random.key(9)


def plan(height: int, width: int, side: int):
    return _Plan((1, height, width, 1), ((1, side), (2, side)))


@pytest.mark.parametrize(
    ("height", "side", "rate", "sown"),
    [(14, 7, 0.1, 0.006764), (28, 7, 0.1, 0.003534), (11, 3, 0.1, 0.017534)],
)
def test_the_start_rate_of_known_cases(height, side, rate, sown):
    found = _start_rate(np.float32(rate), plan(height, height, side))
    assert abs(found - sown) < 5.1e-7
    traced = jax.jit(lambda rate: _start_rate(rate, plan(height, height, side)))(rate)
    np.testing.assert_allclose(traced, found, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.97])
@pytest.mark.parametrize("shape", [(9, 6), (5, 5)])
def test_the_start_rate_solves_the_expectation(rate, shape):
    """Summed over elements in float64: 1 - mean((1 - g)**n) with n counted one by one."""
    sown = float(_start_rate(np.float32(rate), plan(*shape, 3)))
    covers = np.zeros(shape)
    for i in range(shape[0] - 2):
        for j in range(shape[1] - 2):
            covers[i : i + 3, j : j + 3] += 1
    assert abs(1 - ((1 - sown) ** covers).mean() - rate) < 1e-7


@pytest.mark.parametrize("shape", [(300, 12, 8), (300, 6, 7, 4), (300, 5, 6, 7, 2)], ids=["1d", "2d", "3d"])
def test_the_dropped_share_in_one_two_and_three_dimensions(shape):
    mask = np.asarray(jaxdrop.block_mask(KEY, shape, 0.3, block_size=3))
    shares = 1 - mask.mean(tuple(range(1, len(shape))))
    assert abs(shares.mean() - 0.3) < 5 * shares.std() / np.sqrt(len(shares))


def test_what_is_dropped_is_a_union_of_whole_blocks():
    dropped = ~np.asarray(jaxdrop.block_mask(KEY, (200, 9, 8, 1), 0.2, block_size=(3, 5)))[..., 0]
    assert dropped.any()
    union = np.zeros_like(dropped)
    for i in range(7):
        for j in range(4):
            whole = dropped[:, i : i + 3, j : j + 5].all((1, 2))
            union[whole, i : i + 3, j : j + 5] = True
    np.testing.assert_array_equal(union, dropped)


@pytest.mark.slow
def test_the_scale_is_of_each_example_alone():
    x = standard_normal(KEY, (16, 8, 8, 4))
    mask = np.asarray(jaxdrop.block_mask(KEY, x.shape, 0.3, block_size=3))
    y = jaxdrop.drop_block(KEY, x, 0.3, block_size=3)
    scale = mask[0].size / mask.sum((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, np.where(mask, x * scale, 0), rtol=1e-6)
    ones = jaxdrop.drop_block(KEY, jnp.ones_like(x), 0.3, block_size=3)
    np.testing.assert_allclose(ones.mean((1, 2, 3)), 1, rtol=1e-6)
    # More examples do not change the first ones.
    more = jnp.concatenate([x, x + 1])
    np.testing.assert_allclose(jaxdrop.drop_block(KEY, more, 0.3, block_size=3)[:16], y, rtol=1e-6)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    ("shape", "side", "rate", "dims", "lost"),
    [
        ((4000, 7, 7, 5), 7, 0.1, (-1,), 0.1),
        ((4000, 7, 7, 5), 7, 0.5, (), 0.5**5),
        ((4000, 5, 1), 3, 0.9, (), None),
        ((4000, 5, 4, 2), 3, 0.9, (-1,), None),
        ((4000, 2, 2, 1), 1, 0.7, (), 0.7**4),
        ((4000, 7, 7, 2), 7, np.array([0.9, 0.5], np.float32), (), 0.45),
    ],
)
def test_the_mean_is_kept_where_whole_examples_are_dropped(shape, side, rate, dims, lost, traced):
    options = {"block_size": side, "broadcast_dims": dims}

    def drop(rate):
        return jaxdrop.drop_block(KEY, jnp.ones(shape), rate, **options)

    means = np.asarray((jax.jit(drop) if traced else drop)(rate), np.float64).mean(
        tuple(range(1, len(shape)))
    )
    assert abs(means.mean() - 1) < 5 * means.std() / np.sqrt(len(means))
    if lost is not None:
        np.testing.assert_allclose(means.max(), 1 / (1 - lost), rtol=1e-4)


def test_a_mean_that_is_not_known_is_refused():
    message = "`block_size` must be at least half of the map's sides at a rate that may drop whole examples, "
    with pytest.raises(ValueError, match=re.escape(message + "got sides (3, 3) and a rate of 0.9.")):
        jaxdrop.drop_block(KEY, jnp.ones((2, 8, 8, 1)), 0.9, block_size=3)
    jaxdrop.drop_block(KEY, jnp.ones((2, 8, 8, 1)), 0.5, block_size=3)
    jaxdrop.drop_block(KEY, jnp.ones((2, 8, 8, 16)), 0.9, block_size=3)


def test_half_precision_counts_beyond_its_range():
    """A sum of 2**17 in float16 would be infinite, and the result zero."""
    y = jaxdrop.drop_block(KEY, jnp.ones((1, 64, 64, 32), jnp.float16), 0.1, block_size=7)
    assert abs(float(y.astype(jnp.float32).mean()) - 1) < 1e-3


def test_blocks_may_be_shared_among_channels_and_examples():
    for dims in ((-1,), (0,), (0, 3)):
        mask = jaxdrop.block_mask(KEY, (4, 8, 8, 6), 0.3, block_size=3, broadcast_dims=dims)
        assert mask.shape == tuple(
            1 if axis in (dims, {d % 4 for d in dims})[1] else n for axis, n in enumerate((4, 8, 8, 6))
        )
    y = jaxdrop.drop_block(KEY, jnp.ones((4, 8, 8, 6)), 0.3, block_size=3, broadcast_dims=(-1,))
    assert (y == y[..., :1]).all()


def test_a_block_of_one_is_dropout_but_for_the_scale():
    mask = jaxdrop.block_mask(KEY, (4, 8, 8, 6), 0.3, block_size=1)
    np.testing.assert_array_equal(mask, jaxdrop.keep_mask(KEY, (4, 8, 8, 6), 0.3, bits=24))


def test_channels_first():
    x = standard_normal(KEY, (4, 6, 9, 8))
    y = jaxdrop.drop_block(KEY, x, 0.3, block_size=(3, 5), channel_axis=1)
    dropped = np.asarray(y == 0)
    assert dropped.any()
    assert dropped[:, :, :7, :4].any()
    assert len({dropped[:, c].tobytes() for c in range(6)}) == 6


@pytest.mark.parametrize(
    ("error", "shape", "options", "message"),
    [
        (ValueError, (2, 8, 8, 3), {"block_size": 4}, "`block_size` must be odd, got 4."),
        (
            ValueError,
            (2, 8, 5, 3),
            {"block_size": 7},
            "`block_size` must be at least 1 and at most 5 (the map's side), got 7.",
        ),
        (
            ValueError,
            (2, 8, 8, 3),
            {"block_size": -1},
            "`block_size` must be at least 1 and at most 8 (the map's side), got -1.",
        ),
        (
            TypeError,
            (2, 8, 8, 3),
            {"block_size": 3.0},
            "`block_size` must be an integer or integers, got 3.0.",
        ),
        (
            ValueError,
            (2, 8),
            {"block_size": 3},
            "`x` must be of shape [B, ..., C] with one to three axes between",
        ),
        (
            ValueError,
            (2, 8, 8, 3),
            {"block_size": 3, "broadcast_dims": (1,)},
            "`broadcast_dims` must not contain axes of the map",
        ),
    ],
)
def test_bad_input(error, shape, options, message):
    with pytest.raises(error, match=re.escape(message)):
        jaxdrop.drop_block(KEY, jnp.ones(shape), 0.1, **options)
