"""Keys of all kinds; those of the functions are in `test_family`."""

import re

import jax
import numpy as np
import pytest

from jaxdrop import _checks


def test_words_of_a_key_of_another_implementation():
    rbg = jax.random.key_data(jax.random.key(0, impl="rbg"))
    message = "`key` must be a typed key (`jax.random.key`) or have 2 words, as those of the default "
    for words in (rbg, rbg[:0], rbg[:3], np.asarray(rbg)):
        with pytest.raises(ValueError, match=re.escape(message)):
            _checks.check_key(words)
    with jax.default_prng_impl("rbg"):
        assert _checks.check_key(rbg) is rbg
    two = jax.random.PRNGKey(0)
    assert _checks.check_key(two) is two
