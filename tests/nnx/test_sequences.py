"""NNX shells: each is its pure function."""

import numpy as np
import pytest
from flax import nnx

import jaxdrop.nnx as jn
from tests.shells import KEY, SEQUENCES, Case, X, cases, check_nnx


@cases(SEQUENCES)
def test_it_is_its_function(case: Case):
    check_nnx(case)


def test_noise_of_embeddings_is_a_site():
    predict = jn.stochastic(nnx.Sequential(jn.NEFTune(5.0, rngs=nnx.Rngs(0))), X)
    assert len(predict.sites) == 1
    assert not np.array_equal(predict(KEY, X), X)
    with pytest.raises(ValueError, match=r"`alpha` must be finite and at least 0, got -1\."):
        jn.NEFTune(-1.0)
