"""Random bits: known answers, an independent reference of the layout, and statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxdrop import _bits

KEY = jax.random.key(11)


def u32(*values: int) -> tuple[jax.Array, ...]:
    return tuple(jnp.uint32(value) for value in values)


def reference_threefry(key: np.ndarray, row: int, block: int) -> bytes:
    """Threefry-2x32-20 in plain Python integers, as eight little-endian bytes."""
    mask, k = 0xFFFFFFFF, [int(word) for word in key]
    k.append(k[0] ^ k[1] ^ 0x1BD11BDA)
    x, y = (row + k[0]) & mask, (block + k[1]) & mask
    for i, rotation in enumerate((13, 15, 26, 6, 17, 29, 16, 24) * 2 + (13, 15, 26, 6)):
        x = (x + y) & mask
        y = ((y << rotation | y >> (32 - rotation)) & mask) ^ x
        if i % 4 == 3:
            group = i // 4 + 1
            x, y = (x + k[group % 3]) & mask, (y + k[(group + 1) % 3] + group) & mask
    return x.to_bytes(4, "little") + y.to_bytes(4, "little")


def reference_draws(key: jax.Array, rows: int, size: int, width: int) -> np.ndarray:
    """The documented layout: of a block, eight draws of 8 bits, four of 16 or two of 24."""
    words = np.asarray(jax.random.key_data(key))
    lanes, step = {8: (8, 1), 16: (4, 2), 24: (2, 4)}[width]
    draws = np.zeros((rows, size), np.uint32)
    for row in range(rows):
        for i in range(size):
            end = (i % lanes + 1) * step
            part = reference_threefry(words, row, i // lanes)[end - width // 8 : end]
            draws[row, i] = int.from_bytes(part, "little")
    return draws


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_random123(counter, key, expected):
    assert tuple(map(int, _bits.threefry(u32(*key), u32(*counter)))) == expected


@pytest.mark.parametrize("width", [8, 16, 24])
@pytest.mark.parametrize("shape", [(3, 21), (3, 1, 21), (3, 21, 1, 1)])
def test_below_is_the_documented_layout(shape, width):
    seed = _bits.consume(KEY)
    draws = reference_draws(KEY, 3, 21, width)
    for threshold in (0, 1, 100, 2**width // 3, 2**width):
        mask = _bits.below(seed, jnp.uint32(threshold), shape, width)
        np.testing.assert_array_equal(mask.reshape(3, 21), draws < threshold)
        array = jnp.full(shape, threshold, jnp.uint32)
        np.testing.assert_array_equal(_bits.below(seed, array, shape, width), mask)


def test_blocks_and_elements_agree():
    """The two implementations, which different backends use, are one function."""
    words = jnp.array([123, 456], jnp.uint32)
    for shape in ((5,), (4, 8), (2, 3, 37)):
        for width in (8, 16, 24):
            options = {"shape": shape, "width": width}
            for threshold in u32(0, 77, 2**width - 1, 2**width):
                blocks = _bits._below_by_blocks(words, threshold, **options)
                elements = _bits._below_by_elements(words, threshold, **options)
                np.testing.assert_array_equal(blocks, elements)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.001])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_flax_uniform_below_is_bernoulli(p, impl):
    key = jax.random.key(5, impl=impl)
    for shape in ((), (7,), (3, 5, 7), (64, 1, 33)):
        mask = _bits.flax_uniform_below(_bits.consume(key), jnp.float32(p), shape)
        np.testing.assert_array_equal(mask, jax.random.bernoulli(key, p, shape))


@pytest.mark.parametrize("context", [jax.threefry_partitionable(False), jax.enable_x64(True)])
def test_flax_uniform_below_follows_the_configuration(context):
    with context:
        mask = _bits.flax_uniform_below(_bits.consume(KEY), jnp.float32(0.3), (5, 7))
        np.testing.assert_array_equal(mask, jax.random.bernoulli(KEY, jnp.float32(0.3), (5, 7)))


def test_too_many_rows_or_places():
    for shape in ((2**33, 2), (2, 2**33)):
        with pytest.raises(ValueError, match="`shape` must have at most"):
            jax.eval_shape(lambda shape=shape: _bits.normal(_bits.consume(KEY), shape))


def test_bytes_are_uniform_and_independent_of_row_place_and_key():
    """Chi-squared over the bytes; correlations within 5 standard errors, 1 / sqrt(n)."""
    shape = (256, 512)
    draws = [
        np.asarray(_bits._element_draws(jnp.array([key, 0], jnp.uint32), shape, 16), np.float64) / 2**16
        for key in (1, 2)
    ]
    for scaled in (draws[0] * 256, draws[0] * 2**16 % 256):
        counts = np.bincount(scaled.astype(int).ravel(), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-3
    centred = [(draw - draw.mean()) / draw.std() for draw in draws]
    tolerance = 5 / np.sqrt(centred[0].size)
    assert abs((centred[0] * centred[1]).mean()) < tolerance
    for lag in range(1, 20):
        assert abs((centred[0] * np.roll(centred[0], lag, 1)).mean()) < tolerance
        assert abs((centred[0] * np.roll(centred[0], lag, 0)).mean()) < tolerance


def test_normal_is_standard_normal():
    draws = np.asarray(_bits.normal(_bits.consume(KEY), (500, 1000)), np.float64)
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    n = draws.size
    assert abs(draws.mean()) < 5 / np.sqrt(n)
    assert abs(draws.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((draws[:, :-1] * draws[:, 1:]).mean()) < 5 / np.sqrt(n)
    assert np.abs(draws).max() < 5.42


def test_a_seed_is_the_words_of_its_key():
    seed = _bits.consume(KEY)
    np.testing.assert_array_equal(seed.words, jax.random.key_data(KEY))
    assert seed.impl == "threefry2x32"
    legacy = _bits.consume(jax.random.PRNGKey(11))
    np.testing.assert_array_equal(legacy.words, seed.words)
