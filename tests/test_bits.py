"""Random bits: known answers, an independent reference of the layout, and statistics."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxdrop
from jaxdrop import _bits, _indices
from tests import gpu
from tests.devices import make_mesh

pytestmark = pytest.mark.usefixtures("optimized")

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


def reference_draw(key: jax.Array, row: int, place: int, width: int) -> int:
    """The documented layout: of a block, eight draws of 8 bits, four of 16 or two of 24."""
    lanes, step = {8: (8, 1), 16: (4, 2), 24: (2, 4)}[width]
    end = (place % lanes + 1) * step
    block = reference_threefry(np.asarray(jax.random.key_data(key)), row, place // lanes)
    return int.from_bytes(block[end - width // 8 : end], "little")


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
    draws = np.array([[reference_draw(KEY, row, i, width) for i in range(21)] for row in range(3)])
    for threshold in (0, 1, 100, 2**width // 3, 2**width):
        mask = _bits.bernoulli_packed(seed, jnp.uint32(threshold), shape, width)
        np.testing.assert_array_equal(mask.reshape(3, 21), draws < threshold)
        array = jnp.full(shape, threshold, jnp.uint32)
        np.testing.assert_array_equal(_bits.bernoulli_packed(seed, array, shape, width), mask)


WORDS = jnp.array([123, 456], jnp.uint32)


@pytest.mark.parametrize("width", [8, 16, 24])
@pytest.mark.parametrize("shape", [(5,), (4, 8), (2, 3, 37), (3, 38), (2, 3, 20)])
def test_all_forms_agree(shape, width):
    """The implementations, which different backends use, are one function."""
    options = {"shape": shape, "width": width}
    alone = _bits._bits_by_element(WORDS, **options)
    for threshold in u32(0, 77, 2**width - 1, 2**width):
        blocks = _bits._below_by_blocks(WORDS, threshold, **options)
        np.testing.assert_array_equal(blocks, _bits._below_by_elements(WORDS, threshold, **options))
        np.testing.assert_array_equal(blocks, alone < threshold)
    np.testing.assert_array_equal(_bits._bits_by_block_gpu(WORDS, **options), alone)
    keys = jnp.stack([WORDS, WORDS + 1])
    batched = jax.vmap(lambda words: _bits._bits_by_block_gpu(words, **options))(keys)
    np.testing.assert_array_equal(batched[0], alone)
    assert (batched[1] != alone).any()


@pytest.mark.parametrize(
    ("shape", "width"), [((256,), 16), ((2, 3, 512), 16), ((3, 128), 24), ((0, 256), 16)]
)
def test_two_blocks_that_share_a_byte_give_the_same_mask(shape, width, monkeypatch):
    """A byte has no bit to spare, or four; the mask is that of single elements."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert "_below_pairs" in str(
        jax.make_jaxpr(lambda words: _bits._below_by_blocks(words, jnp.uint32(77), shape, width))(WORDS)
    )
    for threshold in u32(0, 2**width // 3, 2**width):
        mask = _bits._below_by_blocks(WORDS, threshold, shape, width)
        np.testing.assert_array_equal(mask, _bits._bits_by_element(WORDS, shape, width) < threshold)


@pytest.mark.parametrize("spec", [("a", "b"), (None, ("a", "b"))])
def test_two_blocks_that_share_a_byte_are_on_one_device(spec):
    """Among eight devices bytes have pairs where all shares have whole ones, and no device asks another."""
    mesh = make_mesh((4, 2), ("a", "b"))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    for places, pairs in ((2048, True), (1024, False)):
        draw = jax.jit(
            lambda words, places=places: _bits._below_by_blocks(words, jnp.uint32(9999), (8, places), 16),
            out_shardings=sharding,
        )
        lowered = draw.lower(WORDS)
        assert ("_below_pairs" in lowered.as_text()) is pairs
        assert not re.search(r"all-\w+|collective-\w+|reduce-scatter", lowered.compile().as_text())
        np.testing.assert_array_equal(draw(WORDS), _bits._bits_by_element(WORDS, (8, places), 16) < 9999)


@pytest.mark.parametrize(
    ("platform", "shared"), [("cpu", False), ("tpu", False), ("cuda", True), ("rocm", True)]
)
def test_a_gpu_gets_the_form_in_which_neighbors_share_a_block(platform, shared):
    """What is lowered for it counts the last axis by blocks of four; no GPU is needed to see it.

    An even axis is counted by halves of a block.
    """

    def lowered(draw, *args) -> str:
        return jax.jit(draw).trace(*args).lower(lowering_platforms=(platform,)).as_text()

    def below(words: jax.Array, threshold: jax.Array, places: int) -> jax.Array:
        return _bits.bernoulli_packed(_bits.Seed(words, "threefry2x32"), threshold, (3, places), 16)

    rates = jnp.full((3, 32), 77, jnp.uint32)
    by_blocks = "iota dim = 0 : tensor<3x8x4xui32>"
    assert (by_blocks in lowered(lambda words: below(words, jnp.uint32(77), 32), WORDS)) is shared
    assert (by_blocks in lowered(lambda words: below(words, rates, 32), WORDS)) is shared
    even = lowered(lambda words: below(words, jnp.uint32(77), 34), WORDS)
    assert ("tensor<3x17x2xui32>" in even) is shared
    assert "x4xui32>" not in even
    assert (
        "_bits_by_block_gpu" in lowered(lambda words: below(words, jnp.uint32(77), 33), WORDS) or not shared
    )


def hashes(assembly: str) -> float:
    """How many hashes a thread computes: each rotates twice by 17."""
    return len(re.findall(r"shf\.\w+\.wrap\.b32.*, 17;", assembly)) / 2


@gpu.needs_plugin
@pytest.mark.parametrize(
    ("draw", "places", "most"),
    [
        (jaxdrop.dropout, 256, 1),
        (jaxdrop.dropout, 254, 3),
        (jaxdrop.dropout, 253, 4),
        (jaxdrop.gaussian_dropout, 256, 2),
    ],
)
def test_a_gpu_hashes_once_for_neighbors_in_one_kernel(draw, places, most):
    """A thread computes four neighbors of an array of this size."""
    x = jax.ShapeDtypeStruct((16, 8, 64, places), jnp.float32)

    def forward(words: jax.Array, x: jax.Array) -> jax.Array:
        return draw(jax.random.wrap_key_data(words), x, 0.1)

    def backward(words: jax.Array, x: jax.Array) -> jax.Array:
        return jax.vjp(lambda x: forward(words, x), x)[1](x)[0]

    words = jax.ShapeDtypeStruct((2,), jnp.uint32)
    once = gpu.assembly(forward, words, x)
    assert once.count(".entry") == 1
    assert hashes(once) == hashes(gpu.assembly(backward, words, x)) == most
    words = jax.ShapeDtypeStruct((16, 2), jnp.uint32)
    assert hashes(gpu.assembly(jax.vmap(forward), words, x)) == most


@pytest.mark.parametrize("shape", [(32,), (3, 32), (2, 3, 32)])
@pytest.mark.parametrize("width", [8, 16, 24])
def test_on_a_gpu_no_draw_is_reshaped(shape, width):
    """What uses a draw twice, such as `normal_quantile`, would keep all draws in an array on a GPU."""
    draw = jax.make_jaxpr(lambda words: _bits._bits_by_block_gpu.__wrapped__(words, shape, width))(WORDS)
    equations = draw.jaxpr.eqns
    indices = {equation.outvars[0] for equation in equations if equation.primitive.name == "iota"}
    reshaped = [equation.invars[0] for equation in equations if equation.primitive.name == "reshape"]
    assert set(reshaped) == indices
    assert draw.out_avals[0].shape == shape


@pytest.mark.parametrize("spec", [("a", None), ("a", "b"), (None, "a"), (None, ("a", "b"))])
def test_the_shared_form_under_shardings(spec):
    """The same values on eight devices as on one, and no device asks another."""
    mesh = make_mesh((4, 2), ("a", "b"))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    # Among these are shares of the last axis that are less than a block, or odd.
    for shape, width in (((8, 64), 16), ((8, 16), 8), ((8, 16), 24), ((8, 24), 16), ((8, 40), 24)):
        draw = jax.jit(
            lambda words, shape=shape, width=width: _bits._bits_by_block_gpu(words, shape, width),
            out_shardings=sharding,
        )
        text = draw.lower(WORDS).compile().as_text()
        assert not re.search(r"all-\w+|collective-\w+|reduce-scatter", text)
        np.testing.assert_array_equal(draw(WORDS), _bits._bits_by_element(WORDS, shape, width))


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.001])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_flax_uniform_below_is_bernoulli(p, impl):
    key = jax.random.key(5, impl=impl)
    for shape in ((), (7,), (3, 5, 7), (64, 1, 33)):
        mask = _bits.bernoulli_like_flax(_bits.consume(key), jnp.float32(p), shape)
        np.testing.assert_array_equal(mask, jax.random.bernoulli(key, p, shape))


@pytest.mark.parametrize("context", [jax.threefry_partitionable(False), jax.enable_x64(True)])
def test_flax_uniform_below_follows_the_configuration(context):
    with context:
        mask = _bits.bernoulli_like_flax(_bits.consume(KEY), jnp.float32(0.3), (5, 7))
        np.testing.assert_array_equal(mask, jax.random.bernoulli(KEY, jnp.float32(0.3), (5, 7)))


def test_too_many_rows_or_places():
    for shape in ((2**33, 2), (2, 2**33)):
        with pytest.raises(ValueError, match="`shape` must have at most"):
            jax.eval_shape(lambda shape=shape: _bits.normal(_bits.consume(KEY), shape))


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("width", [8, 16, 24])
@pytest.mark.parametrize(
    ("shape", "at"),
    [
        ((2**20, 2**15), (2**20 - 1, 2**15 - 1)),
        ((2**20, 2**15), (2**17 + 3, 12345)),  # the global index passes 2**32 at row 2**17
        ((3, 2**29, 5), (2, 2**29 - 7, 4)),
        ((2**16, 2**16, 8), (2**16 - 1, 2**16 - 1, 7)),  # the last row of 2**32
        ((2, 2**32), (1, 2**32 - 1)),
    ],
)
def test_more_elements_than_32_bits_can_count(shape, at, width):
    """The counter at chosen global indices, against Python's own integers; nothing is allocated."""
    assert np.prod(shape, dtype=object) > 2**32
    coordinates = u32(*at)
    row = _indices.row_major(coordinates[:-1], shape[:-1])
    expected_row = 0
    for coordinate, size in zip(at[:-1], shape[:-1], strict=True):
        expected_row = expected_row * size + coordinate
    assert int(row) == expected_row
    words, expected = jax.random.key_data(KEY), reference_draw(KEY, expected_row, at[-1], width)
    assert int(_bits._draws_at(words, row, coordinates[-1], width)) == expected
    for draws in (_bits._bits_by_element, _bits._bits_by_block_gpu):
        one = jax.jit(lambda words, draws=draws: draws(words, shape, width)[at]).lower(words).compile()
        assert one.memory_analysis().temp_size_in_bytes < 2**20
        assert int(one(words)) == expected


def standardized_draws(keys: jax.Array, shape: tuple[int, int]) -> np.ndarray:
    """Of each key, the draws of 16 bits as numbers of mean 0 and variance 1."""
    draws = jax.vmap(lambda words: _bits._element_draws(words, shape, 16))(jax.random.key_data(keys))
    return (np.asarray(draws, np.float64) + 0.5) / 2**16 * np.sqrt(12) - np.sqrt(3)


def test_every_bit_is_balanced():
    """A share of n fair bits has the standard error 0.5 / sqrt(n)."""
    shape = (512, 1024)
    draws = np.asarray(_bits._element_draws(jax.random.key_data(KEY), shape, 16))
    tolerance = 5 * 0.5 / np.sqrt(draws.size)
    for bit in range(16):
        ones = (draws >> bit) & 1
        assert abs(ones.mean() - 0.5) < tolerance
        # Equal to its neighbor, along the row or across: as often as not.
        for axis in (0, 1):
            assert abs((np.diff(ones.astype(int), axis=axis) == 0).mean() - 0.5) < 1.01 * tolerance
    for byte in (draws >> 8, draws & 255):
        assert stats.chisquare(np.bincount(byte.ravel(), minlength=256)).pvalue > 1e-4


@pytest.mark.parametrize("derive", ["split", "fold_in"])
def test_draws_do_not_correlate(derive):
    """Along a row, across rows, across successive keys: a mean of n products errs by 1 / sqrt(n)."""
    if derive == "split":
        keys = jax.random.split(KEY, 8)
    else:
        keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(8))
    z = standardized_draws(keys, (256, 256))
    for axis in (1, 2):
        for lag in range(1, 21):
            products = z * np.roll(z, lag, axis)
            assert abs(products.mean()) < 5 / np.sqrt(z.size)
    for lag in (1, 2, 3):
        products = z[lag:] * z[:-lag]
        assert abs(products.mean()) < 5 / np.sqrt(products.size)
        # Nor do their squares, whose variance for a uniform of variance 1 is 0.8.
        squares = (z[lag:] ** 2 - 1) * (z[:-lag] ** 2 - 1)
        assert abs(squares.mean()) < 5 * 0.8 / np.sqrt(squares.size)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_neighbors_are_dropped_independently(rate):
    """A share p**2 of all pairs is dropped together; two pairs that overlap have covariance p**3 - p**4."""
    seed = _bits.consume(KEY)
    threshold = round((1 - rate) * 2**16)
    dropped = ~np.asarray(_bits.bernoulli_packed(seed, jnp.uint32(threshold), (1024, 1024), 16))
    p = 1 - threshold / 2**16
    variance = p**2 * (1 - p**2) + 2 * (p**3 - p**4)
    for lag in (1, 2, 4, 8):
        for pairs in (dropped[:, lag:] & dropped[:, :-lag], dropped[lag:] & dropped[:-lag]):
            assert abs(pairs.mean() - p**2) < 5 * np.sqrt(variance / pairs.size)


def test_normal_is_standard_normal():
    draws = np.asarray(_bits.normal(_bits.consume(KEY), (500, 1000)), np.float64)
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    n = draws.size
    assert abs(draws.mean()) < 5 / np.sqrt(n)
    assert abs(draws.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((draws[:, :-1] * draws[:, 1:]).mean()) < 5 / np.sqrt(n)
    assert np.abs(draws).max() < 5.41


def test_a_seed_is_the_words_of_its_key():
    seed = _bits.consume(KEY)
    np.testing.assert_array_equal(seed.words, jax.random.key_data(KEY))
    assert seed.impl == "threefry2x32"
    legacy = _bits.consume(jax.random.PRNGKey(11))
    np.testing.assert_array_equal(legacy.words, seed.words)
