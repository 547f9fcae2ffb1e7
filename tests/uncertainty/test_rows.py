"""The rows of a report against the functions of each score, and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxdrop import uncertainty

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_in_haste")]

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(300, 3))
LABELS = (LOGITS + RNG.gumbel(size=(300, 3))).argmax(-1)
SAMPLES = np.asarray(jax.nn.softmax(LOGITS + RNG.normal(size=(4, 300, 3))), np.float32)
MEAN = RNG.normal(size=300) + 1e6
STDDEV = RNG.uniform(0.5, 2.0, 300)
Y = MEAN + 1.3 * STDDEV * RNG.normal(size=300)


def close(found: uncertainty.ReportRow, score: uncertainty.Score, rtol: float = 1e-5) -> None:
    np.testing.assert_allclose((found.value, found.standard_error), score, rtol=rtol, err_msg=found.name)


def names(found: uncertainty.Report) -> list[str]:
    return [row.name for row in found.rows]


def root(values: np.ndarray) -> uncertainty.Score:
    square = values**2
    value = np.sqrt(square.mean())
    return uncertainty.Score(value, square.std(ddof=1) / np.sqrt(len(values)) / (2 * value))


def test_samples_of_classes():
    key = jax.random.key(0)
    found = uncertainty.report(SAMPLES, LABELS, samples=True, key=key)
    probs = SAMPLES.mean(0)
    right = uncertainty.accuracy(probs, LABELS)
    close(found["accuracy"], uncertainty.mean_with_error(right))
    close(found["nll"], uncertainty.mean_with_error(uncertainty.nll(probs, LABELS)))
    close(found["brier"], uncertainty.mean_with_error(uncertainty.brier(probs, LABELS)))
    close(found["ece"], uncertainty.ece_with_error(probs, LABELS), 1e-4)
    np.testing.assert_allclose(
        found["classwise_ece"].value, uncertainty.classwise_ece(probs, LABELS), rtol=1e-4
    )
    assert 0 < found["classwise_ece"].standard_error < 0.1
    wrong = np.asarray(right) == 0
    for name, doubt in {
        "total_entropy": uncertainty.total_entropy(SAMPLES),
        "mutual_information": uncertainty.mutual_information(SAMPLES),
    }.items():
        close(found[f"aurc_{name}"], uncertainty.aurc_with_error(doubt, wrong.astype(float)), 1e-4)
        score = uncertainty.auroc_with_error(doubt, doubt, where_in=~wrong, where_out=wrong)
        close(found[f"error_auroc_{name}"], score, 1e-4)
        close(found[name], uncertainty.mean_with_error(doubt))
    close(found["expected_entropy"], uncertainty.mean_with_error(uncertainty.expected_entropy(SAMPLES)))
    assert {row.name: row.unit for row in found.rows}["mutual_information"] == "nats"
    assert [found[name].better for name in ("accuracy", "ece", "total_entropy")] == ["higher", "lower", ""]


def test_samples_in_half_precision():
    half = jnp.asarray(SAMPLES, jnp.bfloat16)
    found = uncertainty.report(half, LABELS, samples=True)
    close(found["nll"], uncertainty.mean_with_error(uncertainty.nll(SAMPLES.mean(0), LABELS)), 0.01)


def test_probabilities_of_classes_and_of_binary_labels():
    probs = SAMPLES.mean(0)
    found = uncertainty.report(probs, LABELS)
    assert names(found) == [
        *("accuracy", "nll", "brier", "ece", "classwise_ece"),
        *("aurc_entropy", "error_auroc_entropy", "entropy"),
    ]
    assert np.isnan(found["classwise_ece"].standard_error)
    close(found["entropy"], uncertainty.mean_with_error(uncertainty.entropy(probs)))
    p, truth = probs[:, 0], LABELS == 0
    found = uncertainty.report(p, truth)
    assert found.title == "binary labels, 300 examples"
    both = np.stack([1 - p, p], -1)
    close(found["accuracy"], uncertainty.mean_with_error(uncertainty.accuracy(both, truth.astype(int))))
    close(found["nll"], uncertainty.mean_with_error(uncertainty.binary_nll(p, truth)))
    close(found["brier"], uncertainty.mean_with_error(uncertainty.binary_brier(p, truth)))
    np.testing.assert_allclose(found["ece"].value, uncertainty.binary_ece(p, truth), rtol=1e-4)
    close(found["auroc"], uncertainty.auroc_with_error(p, p, where_in=~truth, where_out=truth))
    close(found["aupr"], uncertainty.aupr_with_error(p, p, where_in=~truth, where_out=truth))
    # One label only: nothing to tell apart.
    assert np.isnan(uncertainty.report(p, np.ones(300, bool))["auroc"].value)


def test_normal_distributions_far_from_zero():
    """The numbers are subtracted in float64: of float32 few digits would be left."""
    found = uncertainty.report((MEAN, STDDEV), Y, level=0.8, unit="m")
    off = Y - MEAN
    nll = -scipy.stats.norm.logpdf(off, 0, STDDEV)
    close(found["nll"], uncertainty.mean_with_error(nll), 1e-4)
    close(found["rmse"], root(off), 1e-4)
    close(found["sharpness"], root(STDDEV), 1e-4)
    end = scipy.stats.norm.ppf(0.9) * STDDEV
    close(found["coverage"], uncertainty.mean_with_error(np.abs(off) <= end))
    assert found["coverage"].better == "nearer to 0.8"
    close(found["crps"], uncertainty.mean_with_error(uncertainty.crps_gaussian(MEAN, STDDEV, Y)))
    score = uncertainty.interval_score(-end, end, off, 0.8)
    close(found["interval_score"], uncertainty.mean_with_error(score), 1e-4)
    np.testing.assert_allclose(found["ence"].value, uncertainty.ence(MEAN, STDDEV, Y), rtol=1e-4)
    assert found["rmse"].unit == "m"


def test_samples_of_a_regression():
    samples = MEAN + STDDEV * RNG.normal(size=(39, 300))
    found = uncertainty.report(samples, Y, samples=True)
    close(found["crps"], uncertainty.mean_with_error(uncertainty.crps(samples, Y)))
    close(found["rmse"], root(Y - samples.mean(0)), 1e-4)
    close(found["sharpness"], root(samples.std(0, ddof=1)), 1e-4)
    lower, upper = np.quantile(samples, [0.05, 0.95], axis=0, method="weibull")
    close(found["coverage"], uncertainty.mean_with_error((lower <= Y) & (upper >= Y)))
    score = uncertainty.interval_score(lower - Y, upper - Y, 0 * Y, 0.9)
    close(found["interval_score"], uncertainty.mean_with_error(score), 1e-4)


def test_an_interval_of_samples_covers_one_more_of_them():
    """Also for few samples, and at a level between those of two ranks: quantiles would cover otherwise."""
    samples, y = RNG.normal(size=(9, 20_000)), RNG.normal(size=20_000)
    for count, level in ((9, 0.7), (2, 0.1)):
        found = uncertainty.report(samples[:count], y, samples=True, level=level)["coverage"]
        assert abs(found.value - level) < 5 * found.standard_error


def test_samples_of_means_and_deviations():
    means, stddevs = MEAN + 0.3 * RNG.normal(size=(5, 300)), np.tile(STDDEV, (5, 1))
    found = uncertainty.report((means, stddevs), Y, samples=True)
    density = scipy.stats.norm.pdf(Y, means, stddevs).mean(0)
    close(found["nll"], uncertainty.mean_with_error(-np.log(density)), 1e-4)
    crps = uncertainty.crps_gaussian_mixture(means, stddevs, Y)
    close(found["crps"], uncertainty.mean_with_error(crps))
    inside = np.abs(uncertainty.pit_gaussian_mixture(means, stddevs, Y) - 0.5) <= 0.45
    close(found["coverage"], uncertainty.mean_with_error(inside))
    variance = uncertainty.decompose_variance(jnp.asarray(means - MEAN), stddevs**2)
    close(found["epistemic_stddev"], root(np.sqrt(variance.epistemic)), 1e-3)
    np.testing.assert_allclose(
        found["sharpness"].value ** 2, np.mean(variance.aleatoric + variance.epistemic), rtol=1e-4
    )
