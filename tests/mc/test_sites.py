"""Listing and selecting stochastic sites."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxdrop.mc import _sites as sites

FOUND = [sites.Site(path, "Dropout", "0.5") for path in ("encoder/a", "encoder/b", "head")]


@pytest.mark.parametrize(
    ("which", "places"),
    [("all", [0, 1, 2]), ("last", [2]), ("encoder/*", [0, 1]), (["head", "*/a"], [0, 2]), ("*", [0, 1, 2])],
)
def test_choose(which, places: list[int]):
    assert sites.choose(FOUND, which) == tuple(FOUND[i] for i in places)


@pytest.mark.parametrize(
    ("found", "which", "message"),
    [
        ([], "all", "`model` must have at least one stochastic site, got none"),
        (FOUND, "decoder/*", "got 'decoder/\\*'; the nearest are encoder/b, encoder/a, head."),
        (FOUND, ["head", "hed"], "got 'hed'; the nearest are head"),
        (FOUND, [], "`sites` must be 'all', 'last' or patterns of paths, got none."),
    ],
)
def test_nothing_to_choose(found: list, which, message: str):
    with pytest.raises(ValueError, match=message):
        sites.choose(found, which)


@pytest.mark.parametrize(
    ("fields", "given", "rate"),
    [
        ({"rate": 0.5}, {}, "0.5"),
        ({"rate": 0.0}, {}, None),
        ({"rate": 1}, {}, "1"),
        ({"rate": 0.0}, {"rate": 0.2}, "0.2"),
        ({"rate": 0.5}, {"rate": 0.0}, None),
        ({"dropout_rate": 0.1}, {}, "0.1"),
        ({"stddev": 1.0}, {}, "1"),
        ({"stddev": 0.0}, {}, None),
        ({"rate": (0.0, 0.3)}, {}, "0, 0.3"),
        ({"rate": jnp.array([0.1, 0.2])}, {}, "array"),
        ({}, {}, ""),
    ],
)
def test_a_site_has_something_to_draw(fields: dict, given: dict, rate: str | None):
    found = sites.site("path", SimpleNamespace(**fields), given)
    assert (found and found.rate) == rate


def test_a_traced_rate_may_be_any():
    found = []
    jax.jit(lambda rate: found.append(sites.site("path", SimpleNamespace(rate=rate), {})))(0.0)
    assert found == [sites.Site("path", "SimpleNamespace", "array")]
