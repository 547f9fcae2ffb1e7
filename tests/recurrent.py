"""Carries that `RecurrentDropoutCell` of either API refuses."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest


def check_states_without_masks(decoder: Callable, x: jax.Array, off: bool) -> None:
    part = jnp.ones((len(x), 3))
    message = "`carry` must be (state, masks), where `initialize_carry` of this cell makes the masks for any "
    for state in ((part, part), part, (part, (part, part)), (part,)):
        with pytest.raises(TypeError, match=re.escape(message)):
            decoder(off, x, state)


def check_masks_of_evaluation(decoder: Callable, x: jax.Array) -> None:
    state, shape = (jnp.ones((len(x), 3)),) * 2, (*x.shape[:2], 3)
    with pytest.raises(ValueError, match="`carry` must hold masks unless deterministic, got None"):
        decoder(False, x, (state, (None, None)))
    assert decoder(True, x, (state, (None, None))).shape == shape
    assert decoder(False, x, (state, (None, jnp.ones((len(x), 3), bool))), (0.0, 0.5)).shape == shape
