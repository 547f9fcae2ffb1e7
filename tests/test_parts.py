"""Masks of a part of an array: each is that part of the whole mask, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import _balanced, _bits, _checks, _draw, _parts, _visible

KEY = jax.random.key(5)
# Place 3 in a set of 32 samples.
BALANCED = _balanced.balanced_key(jax.random.key_data(KEY), jnp.uint32(3), 32)


@pytest.mark.parametrize(
    ("bits", "whole", "part", "key"),
    [
        (8, (2, 3, 10, 16), (2, 3, 5, 16), KEY),  # rows, in whole blocks
        (16, (2, 3, 10, 7), (2, 3, 4, 7), KEY),  # beyond the end of an axis; blocks are cropped
        (32, (2, 3, 10, 7), (2, 3, 4, 7), KEY),
        (16, (2, 12, 16), (2, 12, 8), KEY),  # places, in whole blocks
        (24, (2, 12, 6), (1, 4, 3), KEY),  # on every axis; blocks begin inside a part
        (32, (2, 12, 6), (1, 4, 3), KEY),
        (16, (2, 1, 12, 1), (2, 1, 4, 1), KEY),  # axes of size one do not count: the last is that of 12
        (16, (1, 1, 8), (1, 1, 8), KEY),
        (8, (), (), KEY),
        (16, (2, 3, 10, 16), (2, 3, 5, 16), BALANCED),
        (16, (2, 12, 6), (1, 4, 3), BALANCED),
    ],
)
def test_parts_make_up_the_whole(bits, whole, part, key):
    seed = _bits.consume(key)
    draw = _checks.prepare(0.3, whole, bits)
    assert _parts.can_draw_parts(seed, draw, whole)
    expected = np.asarray(_draw.draw_mask(seed, draw, whole))
    counts = [-(-size // own) for size, own in zip(whole, part, strict=True)]
    drawn = jax.jit(lambda starts: _parts.draw_part(seed, draw, part, whole, starts))
    for index in np.ndindex(*counts):
        starts = tuple(i * own for i, own in zip(index, part, strict=True))
        here = tuple(slice(start, start + own) for start, own in zip(starts, part, strict=True))
        mask = np.asarray(drawn(tuple(map(jnp.int32, starts))))
        inside = tuple(slice(0, size) for size in expected[here].shape)
        np.testing.assert_array_equal(mask[inside], expected[here])
    first = _parts.draw_part(seed, draw, part, whole, (0,) * len(part))
    np.testing.assert_array_equal(first, expected[tuple(slice(0, own) for own in part)])


def test_draws_of_flax_that_have_no_index_have_no_parts():
    draw = _checks.prepare(0.3, (4, 4), 32)
    other = _bits.consume(jax.random.key(0, impl="rbg"))
    assert not _parts.can_draw_parts(other, draw, (4, 4))
    assert _parts.can_draw_parts(other, _checks.prepare(0.3, (4, 4), 16), (4, 4))
    assert not _parts.can_draw_parts(_bits.consume(BALANCED), draw, (4, 4))
    visible = _bits.consume(_visible.key(jax.random.key_data(KEY)))
    assert not _parts.can_draw_parts(visible, _checks.prepare(0.3, (4, 4), 16), (4, 4))
    with jax.enable_x64(True):
        assert not _parts.can_draw_parts(_bits.consume(KEY), draw, (4, 4))
