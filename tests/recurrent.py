"""`RecurrentDropoutCell` of either API: steps in NumPy, and carries that it refuses."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest


class Gate(NamedTuple):
    """The kernels of a gate, `[inputs, units]` and `[units, units]`, and its biases."""

    inputs: np.ndarray
    bias: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray


def gate(*parts: jax.Array | float) -> Gate:
    return Gate(*(np.asarray(part, np.float64) for part in parts))


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(x: Sequence[np.ndarray], h: Sequence[np.ndarray], c: np.ndarray, _: np.ndarray) -> tuple:
    i, f, g, o = (a + b for a, b in zip(x, h, strict=True))
    c = logistic(f) * c + logistic(i) * np.tanh(g)
    return c, logistic(o) * np.tanh(c)


def gru(x: Sequence[np.ndarray], h: Sequence[np.ndarray], c: np.ndarray, old: np.ndarray) -> tuple:
    r, z = (logistic(a + b) for a, b in zip(x[:2], h[:2], strict=True))
    return c, (1 - z) * np.tanh(x[2] + r * h[2]) + z * old


def mgu(x: Sequence[np.ndarray], h: Sequence[np.ndarray], c: np.ndarray, old: np.ndarray) -> tuple:
    f = logistic(x[0] + h[0])
    return c, (1 - f) * np.tanh(x[1] + f * h[1]) + f * old


def residual(x: Sequence[np.ndarray], h: Sequence[np.ndarray], c: np.ndarray, old: np.ndarray) -> tuple:
    return c, np.tanh(x[0] + h[0] + old)


STEPS = {"LSTMCell": lstm, "OptimizedLSTMCell": lstm, "GRUCell": gru, "MGUCell": mgu, "SimpleCell": residual}


def reference(name: str, gates: Sequence[Gate], x: jax.Array, masks: tuple, keep: float) -> np.ndarray:
    """The outputs `[B, T, H]` of a cell whose products read `x` and the hidden state under masks."""
    of_inputs, of_hidden = (
        np.broadcast_to(
            mask if mask.ndim == 3 else np.asarray(mask)[:, None], (len(x), len(gates), mask.shape[-1])
        )
        / keep
        for mask in masks
    )
    hidden = c = np.zeros((len(x), gates[0].hidden.shape[0]))
    outputs = []
    for now in np.moveaxis(np.asarray(x, np.float64), 1, 0):
        read = [now * of_inputs[:, j] @ gate.inputs + gate.bias for j, gate in enumerate(gates)]
        kept = [hidden * of_hidden[:, j] @ gate.hidden + gate.hidden_bias for j, gate in enumerate(gates)]
        c, hidden = STEPS[name](read, kept, c, hidden)
        outputs.append(hidden)
    return np.stack(outputs, 1)


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
