"""A report as a whole: what is scored, what is written, and that it can be continued."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop._report import provenance, reporting, sampling

HOSTILE = ["<script>alert(1)</script>", "</title><b>", "\"'&amp;", "\N{SNOWMAN}\N{HEBREW LETTER ALEF}"]
X = np.float32(np.random.default_rng(0).normal(size=(90, 4)))
Y = np.random.default_rng(1).permutation(np.where(np.arange(90) % 3, X.argmax(-1), 0))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return 2 * nn.Dropout(0.3, deterministic=not train)(x)


PREDICT = jaxdrop.linen.stochastic(Net(), {}, X[:1], train=True)
OPTIONS = {
    "key": jax.random.key(1),
    "names": HOSTILE,
    "max_samples": 32,
    "batch_size": 32,
    "title": HOSTILE[1],
}


@pytest.fixture(autouse=True)
def fixed_times(monkeypatch):
    monkeypatch.setattr(provenance, "times", lambda *_: {"date": "today"})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "times", lambda *_: {"date": "today"})
        return jaxdrop.report(PREDICT, X, Y, out=out, show=HOSTILE * 22 + HOSTILE[:2], **OPTIONS)


@pytest.mark.slow
def test_the_held_out_part_is_not_scored(found):
    assert sorted([*found.held_out, *found.scored]) == list(range(90))
    assert len(found.held_out) == 27
    logs = np.asarray(found.estimate.value["log_mean"])
    hits = logs.argmax(-1) == Y
    assert found.before["accuracy"].value == pytest.approx(hits[found.scored].mean())
    nll = -np.take_along_axis(logs, Y[:, None], -1)[:, 0]
    assert found.before["nll"].value == pytest.approx(nll[found.scored].mean(), rel=1e-5)
    from jaxdrop.uncertainty import fit_temperature

    temperature = fit_temperature(logs[found.held_out], Y[found.held_out]).temperature
    assert found.fitted["temperature"] == pytest.approx(float(temperature))


def test_the_page_and_the_numbers_are_written(found):
    page = found.path.read_text()
    assert sorted(path.name for path in found.path.parent.iterdir()) == [
        "report.html",
        "report.json",
        "samples",
    ]
    for name in HOSTILE[:2]:
        assert name not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Dropout_0" in page
    numbers = json.loads((found.path.parent / "report.json").read_text())
    assert numbers["as_predicted"]["scores"]["nll"]["value"] == pytest.approx(found.before["nll"].value)
    assert numbers["sites"][0]["rate"] == "0.3"
    assert numbers["examples"] == {"all": 90, "held_out": 27, "scored": 63}
    assert numbers["samples"]["num_samples"] == found.num_samples


@pytest.mark.slow
def test_a_report_that_was_stopped_is_continued(found, tmp_path):
    """The bytes are those of a run that was not stopped, and only the rest is computed."""
    folder = found.path.parent
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def stop(done, total):
        raise RuntimeError("stopped")

    show = HOSTILE * 22 + HOSTILE[:2]
    with pytest.raises(RuntimeError, match="stopped"):
        jaxdrop.report(PREDICT, X, Y, out=tmp_path, show=show, progress=stop, **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]
    (first,) = (tmp_path / "samples").glob("batch-*")
    written = first.stat().st_mtime_ns
    again = jaxdrop.report(PREDICT, X, Y, out=tmp_path, show=show, **OPTIONS)
    assert first.stat().st_mtime_ns == written
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    same = dataclasses.replace(again, path=None, estimate=None, held_out=None, scored=None)
    assert same == dataclasses.replace(found, path=None, estimate=None, held_out=None, scored=None)
    with pytest.raises(ValueError, match="`out` must be new or hold results of this same call"):
        jaxdrop.report(PREDICT, X + 1, Y, out=tmp_path, **OPTIONS)


@pytest.mark.slow
def test_a_nan_in_a_late_batch_says_what_stays_and_how_to_continue(found, tmp_path):
    tried = sampling.tried(found.held_out, found.scored, 32)
    late = next(row for row in range(64, 90) if row not in tried)
    broken = np.where(np.arange(90)[:, None] == late, np.float32(np.nan), X)
    options = {"out": tmp_path / "out", "show": HOSTILE * 22 + HOSTILE[:2], **OPTIONS}
    early = np.where(np.arange(90)[:, None] == tried[0], np.float32(np.nan), X)
    with pytest.raises(FloatingPointError, match="among the 32 examples, spread over the data, that are"):
        jaxdrop.report(PREDICT, early, Y, **options)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FloatingPointError, match=r"in batch 2, examples 64 to 89\. The results of other"):
        jaxdrop.report(PREDICT, broken, Y, **options)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "samples").glob("batch-*")}
    assert len(kept) == 2
    again = jaxdrop.report(PREDICT, X, Y, **options)
    assert again.before == found.before
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


@pytest.mark.slow
def test_own_data_to_fit_on(found):
    """All of the data are scored then."""
    own = X[:30] + np.float32(0.5), Y[:30]
    result = jaxdrop.report(PREDICT, X, Y, calibration=own, **OPTIONS)
    assert len(result.scored) == 90
    assert len(result.held_out) == 30
    assert result.path is None
    with pytest.raises(ValueError, match=r"`holdout` must be 0 or None with `calibration`, got 0\.5"):
        jaxdrop.report(PREDICT, X, Y, calibration=own, holdout=0.5, **OPTIONS)
    with pytest.raises(ValueError, match="`calibration` must be like the data"):
        jaxdrop.report(PREDICT, X, Y, calibration=(X[:30, :3], Y[:30]), **OPTIONS)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"data": X[:0], "targets": Y[:0]},
            ValueError,
            "`data` must have one number of examples",
        ),
        ({"targets": Y + 1}, ValueError, r"`targets` must be labels in \[0, 4\)"),
        ({"data": X[:, :3, None]}, ValueError, r"must return an array of shape \[B, K\] for labels"),
        ({"level": 1.0}, ValueError, "`level` must lie in"),
        ({"max_samples": 31}, ValueError, "`max_samples` must be at least 32, got 31"),
        ({"holdout": 1.0}, ValueError, r"`holdout` must be in \[0, 1\), got 1"),
        ({"holdout": 0.99}, ValueError, "`data` must leave at least 2 examples"),
        ({"names": ["a"]}, ValueError, "`names` must have 4 names, one per class, got 1"),
        ({"ignore": 3}, ValueError, "`ignore` must be None for one label per example"),
        ({"predict": 3}, TypeError, "`predict` must be a function of a key and inputs, got int"),
        ({"unit": 3}, TypeError, "`unit` must be a string, got int"),
        (
            {"predict": lambda key, x: x @ jnp.ones((9, 2))},
            ValueError,
            r"`predict` must accept a key and a batch of the data, float32\[32, 4\], got TypeError",
        ),
        (
            {"predict": lambda key, x: x},
            ValueError,
            r"depend on its key, got none that do\. Run the model in training mode, or make [^.]*\.linen"
            r"\.stochastic` or `jaxdrop\.nnx\.stochastic`\.$",
        ),
        (
            {
                "predict": lambda key, x: PREDICT(key, x)[:, 0],
                "targets": X[:, 0],
                "holdout": 0.1,
                "names": None,
            },
            ValueError,
            "`holdout` must hold out at least 20 examples for a model that predicts no variance, .* got 9",
        ),
        (
            {
                "predict": lambda key, x: (x[:, 0] + 0 * jax.random.normal(key), 0 * x[:, 0]),
                "targets": X[:, 0],
                "outputs": "mean_stddev",
                "names": None,
            },
            ValueError,
            "`predict` must give each example a standard deviation above 0",
        ),
        (
            {"predict": lambda key, x: jaxdrop.dropout(key, x - x.mean(0, keepdims=True), 0.2)},
            ValueError,
            "`predict` must return the same outputs of an example whatever the others of its batch are",
        ),
        (
            {"predict": lambda key, x: nn.Dense(4).apply({"params": {"kernel": jnp.ones((3, 4))}}, x)},
            ValueError,
            r"`predict` must accept a key and a batch of the data, float32\[32, 4\], got ScopeParam",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(options, error, words, tmp_path):
    arguments = {"predict": PREDICT, "data": X, "targets": Y, **OPTIONS, "out": tmp_path / "out"} | options
    with pytest.raises(error, match=words):
        jaxdrop.report(arguments.pop("predict"), arguments.pop("data"), arguments.pop("targets"), **arguments)
    assert not (tmp_path / "out").exists()


def test_a_report_without_its_packages_says_what_to_install(monkeypatch):
    import importlib
    import sys

    import jaxdrop._report

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"needs matplotlib and jinja2; run `pip install"):
        importlib.reload(jaxdrop._report)


def test_it_is_a_name_of_the_library():
    assert jaxdrop.report is reporting.report
