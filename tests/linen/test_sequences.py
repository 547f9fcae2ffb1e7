"""Linen shells: each is its pure function."""

import numpy as np

import jaxdrop.linen as jl
from tests.shells import KEY, SEQUENCES, Case, X, cases, check_linen


@cases(SEQUENCES)
def test_it_is_its_function(case: Case):
    check_linen(case)


def test_noise_of_embeddings_is_a_site():
    predict = jl.stochastic(jl.NEFTune(5.0), {}, X, deterministic=False)
    assert len(predict.sites) == 1
    assert not np.array_equal(predict(KEY, X), X)
