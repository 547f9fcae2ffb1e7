"""The analysis of a predictor: its sites and sources, and coupled rows."""

import jax.numpy as jnp
import pytest

import jaxdrop
from jaxdrop.mc._moments.analysis import Analysis
from jaxdrop.mc._moments.walk import Registry
from tests.normals import standard_normal

X = standard_normal(0, (4, 3))


def coupled(predict) -> bool:
    return bool(Analysis(predict, X, Registry()).coupled())


def test_sites_and_sources():
    found = Analysis(lambda key, x: jnp.tanh(jaxdrop.gaussian_noise(key, x, 1.0).sum(-1)), X, Registry())
    assert found.shape == ()
    assert found.shapes == [(1, 3), (1,)]
    assert found.groups == [0, 0]
    assert found.names[1:] == ["interactions"]


@pytest.mark.slow
def test_rows_that_depend_on_others_are_found():
    assert not coupled(lambda key, x: jaxdrop.dropout(key, x, 0.5) * 2)
    assert coupled(lambda key, x: jaxdrop.dropout(key, x, 0.5) - x.mean(0, keepdims=True))
    assert coupled(lambda key, x: jaxdrop.dropout(key, x, 0.5) * x[::-1])
