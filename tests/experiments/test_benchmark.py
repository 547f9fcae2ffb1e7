"""The benchmark in its quick form: every figure is there; no time is asserted."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from experiments.benchmark import __main__ as benchmark


def test_quick(tmp_path, capsys):
    benchmark.main(out=tmp_path, quick=True)
    metrics = json.loads((tmp_path / "benchmark-quick" / "metrics.json").read_text())
    (result,) = metrics["results"]
    assert [row["name"] for row in result["rows"]] == list(benchmark.CONTENDERS)
    for row in result["rows"]:
        for form in ("forward", "forward + backward"):
            assert row[form]["median_ms"] > 0
            assert row[form]["compile_s"] > 0
    assert "x Flax" in capsys.readouterr().out


def test_kept_bytes():
    x, key = jnp.ones((64, 128)), jax.random.key(0)
    assert benchmark.kept_bytes(jaxdrop.dropout, x, key, 0.1) <= 12
    assert benchmark.kept_bytes(benchmark._flax, x, key, 0.1) >= x.size


def test_every_call_is_timed_in_every_round():
    counts = {"a": 0, "b": 0}

    def call(name):
        counts[name] += 1
        return jnp.zeros(())

    times = benchmark.interleave({n: lambda n=n: call(n) for n in counts}, rounds=4, seconds=0.0)
    assert counts == {"a": 6, "b": 6}
    assert all(np.all(values > 0) for values in times.values())


def test_bad_options(tmp_path):
    with pytest.raises(ValueError, match="`rate` must lie strictly between 0 and 1, got 1"):
        benchmark.main(out=tmp_path, rate=1.3)
    with pytest.raises(ValueError, match="`rounds` must be at least 1, got 0"):
        benchmark.main(out=tmp_path, rounds=0)
