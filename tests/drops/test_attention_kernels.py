"""Parts of the GPU kernels, which run anywhere."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdrop import _bits
from jaxdrop.drops import _attention_kernels

FORM = _attention_kernels.Form(4, 16, 0, 1, 1.0, False, 1, True)


@pytest.mark.usefixtures("compiled_in_haste")
def test_decisions_of_lanes_are_those_of_a_mask():
    seed, rows, places = _bits.consume(jax.random.key(7)), 3, 6

    @jax.jit
    def draws():
        row, place = (lax.broadcasted_iota(np.uint32, (rows, places), axis) for axis in (0, 1))
        return _bits.threefry(tuple(_bits.block_key(seed)), (row, place))

    words = [np.asarray(word) for word in draws()]
    for width in (8, 16, 24):
        lanes = _bits.lanes(width)
        form = dataclasses.replace(FORM, lanes=lanes, width=width)
        for threshold in (1, 2**width // 3, 2**width - 1, 2**width):
            limit = np.uint32((threshold << (32 - width)) - 1)
            found = [_attention_kernels._is_kept(form, words, lane, limit) for lane in range(lanes)]
            mask = _bits.bernoulli_packed(seed, jnp.uint32(threshold), (rows, places * lanes), width)
            np.testing.assert_array_equal(np.stack(found, -1).reshape(mask.shape), mask)


@pytest.mark.slow
def test_pallas_is_imported_when_it_is_needed():
    code = "import sys, jaxdrop; print('jax.experimental.pallas' in sys.modules)"
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_jax_without_the_back_end_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    monkeypatch.delattr("jax.experimental.pallas.triton", raising=False)
    with pytest.raises(NotImplementedError, match="a jax that has Pallas's Triton back end"):
        _attention_kernels.pallas()
