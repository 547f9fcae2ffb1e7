"""The stream is the library's own draws, in the order that is asked for."""

import io
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from experiments.quality import __main__ as quality
from jaxdrop import _bits

KEY = jax.random.key(5)


@pytest.mark.parametrize("order", quality.SHAPES)
def test_a_chunk_is_the_draws_of_its_keys(order):
    shape = (3, 8, 20)
    part = np.asarray(quality.chunk(KEY, shape, quality.AXES[order]))
    words = jax.random.key_data(jax.random.split(KEY, 3))
    plain = np.stack([_bits._element_draws(word, (8, 20), 16) for word in words])
    np.testing.assert_array_equal(part, plain.transpose(quality.AXES[order]))
    fastest = {"place": 2, "row": 1, "key": 0}[order]
    assert part.shape[-1] == shape[fastest]


def test_a_mask_is_the_stream_below_a_threshold():
    draws = np.asarray(quality.chunk(KEY, (1, 8, 20), (0, 1, 2)))[0]
    mask = jaxdrop.keep_mask(jax.random.split(KEY, 1)[0], (8, 20), 0.25)
    np.testing.assert_array_equal(mask, draws < 0.75 * 2**16)


def test_the_limit_and_the_seed(monkeypatch):
    monkeypatch.setattr(quality, "SHAPES", {"place": (1, 8, 64)})
    texts = []
    for seed, limit in ((0, 3000), (0, 5000), (1, 3000)):
        out = io.BytesIO()
        quality.write(out, "place", seed, limit)
        texts.append(out.getvalue())
    assert [len(text) for text in texts] == [3000, 5000, 3000]
    assert texts[1].startswith(texts[0])
    assert texts[0] != texts[2]
    first = np.frombuffer(texts[0][:1024], "<u2")
    key = jax.random.fold_in(jax.random.key(0), 0)
    np.testing.assert_array_equal(first, jnp.ravel(quality.chunk(key, (1, 8, 64), (0, 1, 2))))


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly():
    command = f"{sys.executable} -m experiments.quality | head -c 1000 | wc -c"
    root = Path(__file__).parents[2]
    done = subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1000"
    assert done.stderr == ""
