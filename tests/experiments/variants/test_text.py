"""The LSTM, its noise, and the parts of a text, which must not meet."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.variants import text
from tests.normals import standard_normal

CONFIG = text.Config("any", 3, 2, **{**text.QUICK, "train_size": 500})


@pytest.fixture
def params():
    return jax.tree.map(jnp.float32, text.init(np.random.default_rng(0), 11, CONFIG))


def test_the_cell_is_flax_s(params):
    width = CONFIG.width
    x, hidden, memory = (jax.random.normal(jax.random.key(i), (4, width)) for i in range(3))
    inputs = standard_normal(3, (width, 4 * width))
    # Flax names the gates input, forget, cell, output; ours lie as input, forget, output, cell.
    parts = {
        name: {f"{side}{gate}": {"kernel": kernel} for side, kernel in zip("ih", kernels, strict=True)}
        for name, gate, *kernels in zip(
            "ifog", "ifog", jnp.split(inputs, 4, 1), jnp.split(params["recurrent"], 4, 1), strict=True
        )
    }
    weights = {key: value for part in parts.values() for key, value in part.items()}
    for gate in "ifog":
        weights[f"h{gate}"]["bias"] = jnp.zeros(width)
    expected, _ = nn.OptimizedLSTMCell(width).apply({"params": weights}, (memory, hidden), x)
    found = text.cell(params["recurrent"], (memory, hidden), x @ inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", text.METHODS)
def test_noise_follows_the_key_and_is_nothing_at_rate_zero(name, params):
    noise = text.METHODS[name]
    tokens = jax.random.randint(jax.random.key(0), (3, 6), 0, 11)
    zero = dict.fromkeys(noise.settings[0], 0.0)
    hyper = {key: jnp.float32(value) for key, value in noise.settings[-1].items()}
    still = text.apply(params, tokens, text.METHODS["none"], {})
    for key in (None, jax.random.key(1)):
        np.testing.assert_allclose(text.apply(params, tokens, noise, zero, key), still, atol=1e-6)
    first, second = (text.apply(params, tokens, noise, hyper, jax.random.key(i)) for i in (1, 2))
    assert bool(jnp.allclose(first, second)) == (name == "none")
    # In evaluation only zoneout does anything: it takes its mean.
    assert bool(jnp.allclose(text.apply(params, tokens, noise, hyper), still)) == (name != "zoneout")


def test_a_state_that_always_stays_is_the_first(params):
    tokens = jax.random.randint(jax.random.key(0), (3, 6), 0, 11)
    hyper = {"cell": 1.0, "hidden": 1.0}
    for key in (None, jax.random.key(1)):
        logits = text.apply(params, tokens, text.METHODS["zoneout"], hyper, key)
        np.testing.assert_array_equal(logits, jnp.broadcast_to(params["output_bias"], (3, 6, 11)))


def test_bits_of_a_uniform_guess():
    np.testing.assert_allclose(text.bits(jnp.zeros((2, 3, 8)), jnp.zeros((2, 3), int)), 3.0, rtol=1e-6)


def test_windows_are_what_follows_their_starts():
    found = text.windows(jnp.arange(20), jnp.array([0, 7]), 3)
    np.testing.assert_array_equal(found, [[0, 1, 2, 3], [7, 8, 9, 10]])


def test_the_parts_of_a_text_do_not_meet():
    rows = text.draw_rows(CONFIG, 2000)
    last = rows["train"][:, 0] + CONFIG.train_size
    assert last.max() <= 1800
    assert rows["valid"].min() == 1800
    assert rows["valid"].max() + CONFIG.length < 1900
    assert rows["valid"].shape == rows["probe"].shape
    assert (rows["probe"].max(1) + CONFIG.length < last).all()
    assert (np.diff(rows["valid"], axis=1) >= CONFIG.length).all()
    assert rows["train"][0, 0] != rows["train"][1, 0]


def test_too_long_a_training_part():
    message = "`train_size` must be at most 450, got 500."
    with pytest.raises(ValueError, match=re.escape(message)):
        text.draw_rows(CONFIG, 500)
