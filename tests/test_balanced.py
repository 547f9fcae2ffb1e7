"""Balanced keys: the law of one sample, the balance of a set, and the forms of a draw."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxdrop
from jaxdrop import _balanced, _bits

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(5)
X = jnp.ones((4, 64))


def key_at(place: int | jax.Array, size: int, key: jax.Array = KEY) -> jax.Array:
    return _balanced.balanced_key(jax.random.key_data(key), jnp.uint32(place), size)


def over_a_set(fun: Callable[[jax.Array], jax.Array], size: int) -> np.ndarray:
    """The results for the keys of a set."""
    return np.asarray(jax.jit(jax.vmap(lambda place: fun(key_at(place, size))))(np.arange(size, dtype="u4")))


def words_at(place: int, size: int) -> jax.Array:
    return jax.random.key_data(key_at(place, size))


@pytest.mark.parametrize(
    ("size", "width"),
    [(8, 8), (32, 8), (64, 8), (8, 16), (32, 16), (128, 16), (256, 16), (32, 24), (256, 24)],
)
def test_turning_is_a_bijection_of_words_that_no_place_shares(size: int, width: int):
    """High bits are turned by a function of low bits that stay, so each sample keeps its law."""
    m, lane = size.bit_length() - 1, width if width < 24 else 32
    high = sum(((2**m - 1) << (lane - m)) << start for start in range(0, 32, lane))
    if lane == 32:
        high |= (2**m - 1) << (32 - 2 * m)  # the second m bits
    words = np.random.default_rng(0).integers(2**32, size=20_000, dtype=np.uint32)
    keys = [words_at(place, size) for place in (0, 1, size // 2 + 1, size - 1)]
    turns = [np.asarray(_balanced.turned(jnp.asarray(words), key, width)) ^ words for key in keys]
    assert not turns[0].any()
    for key, turn in zip(keys[1:], turns[1:], strict=True):
        assert not (turn & ~np.uint32(high)).any()
        again = np.asarray(_balanced.turned(jnp.asarray(words ^ np.uint32(high)), key, width))
        np.testing.assert_array_equal(again ^ words ^ np.uint32(high), turn)
        # Every product but 0, and none much more often than others.
        top, counts = np.unique(turn >> (32 - m), return_counts=True)
        np.testing.assert_array_equal(top, np.arange(1, size))
        assert counts.max() < 2.2 * 20_000 / size + 5 * np.sqrt(20_000 / size)


@pytest.mark.parametrize("size", [32, 256])
def test_every_draw_takes_each_interval_once_in_a_set(size: int):
    m = size.bit_length() - 1

    def draws(key: jax.Array) -> dict[str, jax.Array]:
        words = _bits.consume(key).words
        found = {f"ours {width}": _bits._element_draws(words, X.shape, width) for width in (16, 24)}
        found |= {f"jax {width}": jax.random.bits(key, X.shape, f"uint{width}") for width in (8, 16, 32)}
        first, second = _bits.words(_bits.Seed(words, None), X.shape)
        return {name: one >> (int(name.split()[1]) - m) for name, one in found.items()} | {
            "words": first >> (32 - m),
            "other words": second >> (32 - m),
        }

    keys = jax.vmap(lambda place: key_at(place, size))(np.arange(size, dtype="u4"))
    for name, top in jax.jit(jax.vmap(draws))(keys).items():
        rows = np.sort(np.asarray(top, np.int64), 0)
        np.testing.assert_array_equal(rows, np.broadcast_to(np.arange(size)[:, None, None], rows.shape), name)


@pytest.mark.slow
@pytest.mark.parametrize("width", [8, 16])
def test_all_forms_agree(width: int):
    words, options = words_at(19, 32), {"shape": (3, 40), "width": width}
    alone = _bits._bits_by_element(words, **options)
    np.testing.assert_array_equal(_bits._bits_by_block_gpu(words, **options), alone)
    threshold = jnp.uint32(2**width // 3)
    np.testing.assert_array_equal(_bits._below_by_blocks(words, threshold, **options), alone < threshold)
    row, place = (jnp.asarray(index, jnp.uint32) for index in np.indices((3, 40)))
    seed = _bits.Seed(words, None)
    np.testing.assert_array_equal(_bits.bernoulli_at(seed, threshold, row, place, width), alone < threshold)


def test_masks_of_flax_are_those_of_jax():
    found = over_a_set(lambda key: jaxdrop.dropout(key, X, 0.3, bits=32), 32)
    expected = over_a_set(lambda key: jax.random.bernoulli(key, jnp.float32(0.7), X.shape), 32)
    np.testing.assert_array_equal(found > 0, expected)
    with jax.enable_x64(True):
        wide = over_a_set(lambda key: jax.random.bits(key, (5,), "uint64") >> np.uint64(59), 32)
    np.testing.assert_array_equal(np.sort(wide, 0), np.broadcast_to(np.arange(32)[:, None], (32, 5)))


# The rates of keeping that 32 samples can meet to one: arrays, small ones, few bits.
@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        (lambda key: jaxdrop.dropout(key, X, 0.5), 0.5),
        (lambda key: jaxdrop.dropout(key, X, 0.01), 0.99),
        (lambda key: jaxdrop.dropout(key, X, 0.25, bits=8), 0.75),
        (lambda key: jaxdrop.dropout(key, X, jnp.linspace(0.1, 0.9, 64)), 1 - np.linspace(0.1, 0.9, 64)),
        (lambda key: jaxdrop.dropout(key, X, 0.3, broadcast_dims=(0,)), 0.7),
        (lambda key: jaxdrop.dropconnect(key, X, 0.2), 0.8),
        (lambda key: jax.random.uniform(jax.random.split(key, 3)[1], X.shape) < 0.6, 0.6),
    ],
)
def test_each_unit_is_kept_in_its_share_of_a_set(drop: Callable, expected: float | np.ndarray):
    kept = (over_a_set(drop, 32) != 0).sum(0)
    share = np.broadcast_to(32 * np.asarray(expected), kept.shape)
    assert (kept >= np.floor(share - 1e-3)).all()
    assert (kept <= np.ceil(share + 1e-3)).all()
    assert abs(kept.mean() - share.mean()) < 5 * 0.5 / kept.size**0.5


@pytest.mark.parametrize(
    ("drop", "variance"),
    [
        (lambda key, x: jaxdrop.dropout(key, x, 0.3), 0.3 / 0.7),
        (lambda key, x: jaxdrop.dropout(key, x, 0.3, bits=32), 0.3 / 0.7),
        (lambda key, x: jaxdrop.dropout(key, x, jnp.float32(0.02)), 0.02 / 0.98),
        (lambda key, x: jaxdrop.gaussian_dropout(key, x, 0.4), 0.4 / 0.6),
        (lambda key, x: 1 + jax.random.normal(key, x.shape), 1.0),
    ],
)
def test_one_sample_has_the_law_of_an_independent_one(drop: Callable, variance: float):
    """Mean, variance, no correlation of neighbors: of one place in many elements, and in many sets."""
    of_one = drop(key_at(21, 32), jnp.ones((128, 512)))
    keys = jax.vmap(lambda key: key_at(9, 32, key))(jax.random.split(jax.random.key(1), 4096))
    of_sets = jax.vmap(lambda key: drop(key, jnp.ones(16)))(keys)
    for draws in (of_one, of_sets):
        off = (np.asarray(draws, np.float64) - 1) / variance**0.5
        error = off.size**-0.5
        assert abs(off.mean()) < 5 * error
        assert abs((off**2).mean() - 1) < 5 * error * (off**2).std() + 1e-4
        for lag in (1, 2, 3, 4, 8, 15):
            assert abs((off[:, lag:] * off[:, :-lag]).mean()) < 5.5 * error * 1.5


def test_a_sample_of_a_set_is_uniform():
    draws = np.asarray(jaxdrop._bits._element_draws(words_at(13, 32), (2**16,), 16))
    assert stats.chisquare(np.bincount(draws >> 6, minlength=1024)).pvalue > 1e-4
    assert stats.chisquare(np.bincount(draws & 1023, minlength=1024)).pvalue > 1e-4


def test_the_first_place_is_an_independent_sample():
    key = key_at(0, 64)
    np.testing.assert_array_equal(jaxdrop.dropout(key, X, 0.3), jaxdrop.dropout(KEY, X, 0.3))
    np.testing.assert_array_equal(jax.random.normal(key, (9,)), jax.random.normal(KEY, (9,)))


def test_derived_keys_keep_their_place():
    keys = [*jax.random.split(key_at(7, 32), 2), jax.random.fold_in(key_at(7, 32), 3)]
    keys += _bits.split(key_at(7, 32), 2)
    for key in keys:
        words = jax.random.key_data(key)
        np.testing.assert_array_equal(words[2:], words_at(7, 32)[2:])
    assert len({tuple(np.asarray(jax.random.key_data(key)[:2]).tolist()) for key in keys}) == 5
    assert not jax.random.key_data(jax.random.key(3, impl=jax.random.key_impl(keys[0])))[2:].any()
    with jax.debug_key_reuse(True):
        jaxdrop.dropout(keys[2], X, 0.5)
        with pytest.raises(jax.errors.KeyReuseError):
            jax.random.normal(keys[2], (3,))


def test_eight_bits_are_too_few_for_large_sets():
    message = (
        "`bits` must be at least 16 for balanced sets of 128 samples, got 8; 8 bits serve for sets of up to"
    )
    with pytest.raises(ValueError, match=message):
        jaxdrop.dropout(key_at(1, 128), X, 0.5, bits=8)
