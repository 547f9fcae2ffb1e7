"""Keys whose `fold_in` has no loop: they derive what Threefry keys derive, bit for bit."""

import jax
import numpy as np
import pytest

from jaxdrop import _folding

KEY = jax.random.key(3)
data_of = jax.random.key_data


def fold(key: jax.Array, data: jax.Array) -> jax.Array:
    return _folding.restored(jax.random.fold_in(_folding.converted(key), data), like=key)


def test_folds_are_those_of_jax_bit_for_bit():
    data = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    keys = jax.random.split(KEY, 4)
    expected = data_of(jax.vmap(jax.random.fold_in)(keys, data))
    np.testing.assert_array_equal(data_of(jax.jit(jax.vmap(fold))(keys, data)), expected)
    for key, number, words in zip(keys, data, expected, strict=True):
        np.testing.assert_array_equal(data_of(fold(key, number)), words)
        np.testing.assert_array_equal(fold(data_of(key), number), words)
    both = data_of(fold(fold(KEY, 1), 2))
    np.testing.assert_array_equal(both, data_of(jax.random.fold_in(jax.random.fold_in(KEY, 1), 2)))


def test_a_fold_has_no_loop_on_a_cpu_and_is_that_of_jax_elsewhere():
    def lowered(fun, platform: str) -> str:
        return jax.jit(fun).trace(KEY, np.uint32(1)).lower(lowering_platforms=(platform,)).as_text()

    assert "while" in lowered(jax.random.fold_in, "cpu")
    assert "while" not in lowered(fold, "cpu")
    assert "inlineable" in lowered(fold, "cpu")
    assert "inlineable" not in lowered(fold, "cuda")


def test_other_functions_are_those_of_threefry():
    key = _folding.converted(KEY)
    np.testing.assert_array_equal(data_of(jax.random.split(key, 3)), data_of(jax.random.split(KEY, 3)))
    np.testing.assert_array_equal(jax.random.normal(key, (5,)), jax.random.normal(KEY, (5,)))
    seeded = jax.random.key(3, impl=jax.random.key_impl(key))
    np.testing.assert_array_equal(data_of(seeded), data_of(KEY))


def test_keys_come_back_as_they_were_given():
    for key in (KEY, data_of(KEY)):
        assert _folding.can_convert(key)
        own = _folding.restored(_folding.converted(key), like=key)
        assert own.dtype == key.dtype
        np.testing.assert_array_equal(data_of(own), data_of(KEY))
    other = jax.random.key(3, impl="rbg")
    assert not _folding.can_convert(other)
    assert _folding.restored(other, like=KEY) is other


def test_reuse_of_a_folded_key_is_seen():
    with jax.debug_key_reuse(True):
        key = fold(KEY, 1)
        jax.random.normal(key)
        with pytest.raises(jax.errors.KeyReuseError):
            jax.random.normal(key)
        jax.random.normal(fold(KEY, 2))
