"""Versions, device, key and times."""

import time

import jax

import jaxdrop
from jaxdrop._report import provenance


def test_facts():
    found = provenance.facts(jax.random.key(7), 32)
    assert found["version of jaxdrop"] == jaxdrop.__version__
    assert found["version of jax"] == jax.__version__
    assert found["key"] == "threefry2x32 0 7"
    assert provenance.facts(jax.random.PRNGKey(7), 32) == found
    assert provenance._version("no-such-package") == "unknown"


def test_times():
    now = time.perf_counter()
    found = provenance.times(now - 3, now - 1)
    assert found["seconds of sampling"] == "2.0"
    assert found["date"].endswith("UTC")
