"""Scores, fits and intervals of a regression, against NumPy and SciPy."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from jaxdrop._report import kinds, numbers
from jaxdrop._report.kinds import Numbers

PAIR, MEAN = kinds.Kind("mean_variance", 0), kinds.Kind("mean", 0)


def examples(seed, n, noise=2.0):
    """Predicted deviations are half of what they should be."""
    rng = np.random.default_rng(seed)
    aleatoric, epistemic = rng.uniform(0.5, 1, n), rng.uniform(0.1, 0.5, n)
    mean = rng.normal(size=n)
    y = mean + noise * np.sqrt(aleatoric + epistemic) * rng.normal(size=n)
    return Numbers(mean, aleatoric, epistemic, np.full(n, 0.01)), y


def analyzed(kind, held, scored):
    return numbers.analyze(kind, *held, *scored, level=0.9, bins=5, key=jax.random.key(0), unit="m")


@pytest.mark.slow
def test_scores_before_and_after_a_scale():
    held, (found, y) = examples(0, 200), examples(1, 300)
    result = analyzed(PAIR, held, (found, y))
    nll = -norm.logpdf(y, found.mean, found.stddev)
    assert result.before["nll"].value == pytest.approx(nll.mean(), rel=1e-4)
    np.testing.assert_allclose(numbers.losses(PAIR, found, y), nll)
    scale = np.sqrt(np.mean(((held[1] - held[0].mean) / held[0].stddev) ** 2))
    assert result.factor["stddev_scale"] == pytest.approx(scale, rel=1e-4)
    after = -norm.logpdf(y, found.mean, scale * found.stddev)
    assert result.after["nll"].value == pytest.approx(after.mean(), rel=1e-4)
    assert result.after["epistemic_stddev"].value == pytest.approx(
        scale * np.sqrt(found.epistemic.mean()), rel=1e-4
    )
    (one,) = result.coverages
    assert abs(one.coverage[0] - 0.9) < 5 * np.hypot(one.coverage[1], np.sqrt(0.09 / 200))
    assert result.after["rmse"].unit == "m"
    np.testing.assert_allclose(result.doubt_error, 0.01 * scale, rtol=1e-4)


@pytest.mark.slow
def test_noise_of_a_model_that_predicts_none():
    def bare(seed, n):
        found, y = examples(seed, n)
        return found._replace(aleatoric=np.zeros(n)), y

    held, scored = bare(0, 200), bare(1, 300)
    result = analyzed(MEAN, held, scored)
    assert result.before is None
    off = held[1] - held[0].mean

    def loss(log_noise):
        return -norm.logpdf(off, 0, np.sqrt(held[0].epistemic + np.exp(log_noise))).mean()

    noise = np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-8}).x)
    assert result.factor["noise_stddev"] == pytest.approx(np.sqrt(noise), rel=1e-3)
    stddev = np.sqrt(scored[0].epistemic + noise)
    expected = -norm.logpdf(scored[1], scored[0].mean, stddev).mean()
    assert result.after["nll"].value == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="`holdout` must hold out at least 20 examples for a model"):
        analyzed(MEAN, bare(0, 10), scored)


def test_a_prediction_without_spread_is_refused():
    found, y = examples(0, 30)
    sure = found._replace(aleatoric=0 * found.mean, epistemic=np.r_[0.0, found.epistemic[1:]])
    with pytest.raises(ValueError, match=r"a standard deviation above 0, .* got 0; too small in 1 of 30"):
        analyzed(PAIR, (found, y), (sure, y))
