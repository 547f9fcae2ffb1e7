"""Reports: the table, its forms, and what is refused; the scores are held in `test_rows`."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(size=(30, 40))
Y = RNG.normal(size=40)
PROBS = np.array([[0.5, 0.5], [0.25, 0.75]])


def test_the_table():
    rows = (
        uncertainty.ReportRow("nll", 1.23456, 0.0123, "lower", "nats"),
        uncertainty.ReportRow("rmse", 123456.0, 2345.0, "lower", "<m & s>"),
        uncertainty.ReportRow("ence", 0.1, np.nan, "lower", ""),
        uncertainty.ReportRow("coverage", 1.0, 0.0, "nearer to 0.9", ""),
        uncertainty.ReportRow("infinite", np.inf, np.nan, "lower", ""),
        uncertainty.ReportRow("tiny", 1.2346e-9, 2.345e-10, "", "m"),
    )
    found = uncertainty.Report("<b>regression</b>", 3, rows)
    assert (
        str(found)
        == """<b>regression</b>
score         value  std. error  unit     better
nll           1.235       0.012  nats     lower
rmse      1.235e+05     2.3e+03  <m & s>  lower
ence            0.1                       lower
coverage          1           0           nearer to 0.9
infinite        inf                       lower
tiny      1.235e-09     2.3e-10  m"""
    )
    page = found._repr_html_()
    assert page.startswith("<table><caption>&lt;b&gt;regression&lt;/b&gt;</caption><thead><tr><th>score</th>")
    assert "<tr><td>rmse</td><td>1.235e+05</td><td>2.3e+03</td><td>&lt;m &amp; s&gt;</td>" in page
    assert "<m" not in page
    assert page.count("<tr>") == 7
    assert json.loads(json.dumps(found.to_dict()))["scores"]["nll"] == {
        "value": 1.23456,
        "standard_error": 0.0123,
        "better": "lower",
        "unit": "nats",
    }
    assert found["coverage"].value == 1
    with pytest.raises(KeyError, match="must be one of nll, rmse"):
        _ = found["mae"]


def test_a_mask_leaves_examples_out():
    where = RNG.uniform(size=40) < 0.7
    nan = np.where(where, SAMPLES, np.nan), np.where(where, Y, np.nan)
    found = uncertainty.report(*nan, samples=True, where=where)
    assert found == uncertainty.report(SAMPLES[:, where], Y[where], samples=True)
    assert found.examples == where.sum()
    assert found.title == f"regression, {where.sum()} examples, 30 samples"


REFUSED = [
    ((SAMPLES, Y), {}, r"the 40 examples of `targets` along axis 0 \(for samples \[T, B, ...\] set `samples"),
    ((SAMPLES.T, Y), {}, "a pair of means and standard deviations, or samples with `samples=True`, as"),
    ((SAMPLES[:, :, None], Y), {"samples": True}, "a pair of means and standard deviations"),
    ((SAMPLES, Y), {"samples": True, "level": 0.95}, r"at most 0.935, .* \(take 39 samples\), got 0.95"),
    ((SAMPLES, Y), {"samples": True, "level": 1.0}, r"`level` must lie in \(0, 1\)"),
    ((SAMPLES[:1], Y), {"samples": True}, "at least 2 samples, got 1"),
    ((SAMPLES, Y), {"samples": True, "where": np.zeros(40, bool)}, "`where` must select an example"),
    ((SAMPLES * np.nan, Y), {"samples": True}, "`predictions` must not hold a NaN"),
    (((Y, 0 * Y), Y), {}, r"`predictions\[1\]` must be above 0"),
    (((Y, Y[:, None]), Y), {}, "a pair of one shape"),
    (((Y, Y, Y), Y), {}, "an array or a pair, got 3 parts"),
    (((Y, Y), Y.astype(int)), {}, r"probabilities, \[B, K\] or \[B\], as `targets` are labels"),
    ((PROBS, np.array([0, 2])), {}, r"`targets` must lie in \[0, 1\]"),
    ((PROBS + 1, np.array([0, 1])), {}, r"`predictions` must lie in \[0, 1\]"),
    ((PROBS[:, 0] + 1, np.array([0, 1])), {}, r"`predictions` must lie in \[0, 1\]"),
    ((PROBS, np.array([[0, 1]])), {}, r"`targets` must be of shape \[B\] \(flatten"),
]


@pytest.mark.parametrize(("args", "options", "message"), REFUSED)
def test_wrong_values(args: tuple, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        uncertainty.report(*args, **options)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((PROBS, np.array(["a", "b"])), {}, "`targets` must be integers, booleans or floating-point"),
        ((PROBS, np.array([0, 1])), {"samples": 1}, "`samples` must be a bool, got int"),
        ((PROBS, np.array([0, 1])), {"unit": None}, "`unit` must be a string"),
        (("probs", np.array([0, 1])), {}, "`predictions` must be an array, got str"),
    ],
)
def test_wrong_types(args: tuple, options: dict, message: str):
    with pytest.raises(TypeError, match=message):
        uncertainty.report(*args, **options)


def test_traced_arrays_are_refused():
    with pytest.raises(TypeError, match=r"must be concrete \(under `jit` use `tally_mean` and others\)"):
        jax.jit(lambda probs: uncertainty.report(probs, jnp.array([0, 1])).rows[0].value)(PROBS)
