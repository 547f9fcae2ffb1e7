"""Bands, targets and the calibration of distributions, against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.stats

from jaxdrop import plots, uncertainty
from jaxdrop.plots import _axes, regression
from tests.plots.axes import axes, bars, legend
from tests.plots.test_detection import band

RNG = np.random.default_rng(0)
X = RNG.random(200)
MEAN, STDDEV = np.sin(X), 0.1 + X
TARGETS = MEAN + STDDEV * RNG.normal(size=200)
PIT = scipy.stats.norm.cdf((TARGETS - MEAN) / STDDEV)


def test_bands_are_quantiles_in_the_order_of_x():
    ax = axes()
    assert plots.prediction_bands(X, MEAN, STDDEV, TARGETS, levels=(0.5, 0.8), ax=ax) is ax
    order = np.argsort(X)
    np.testing.assert_array_equal(ax.lines[0].get_data(), (X[order], MEAN[order]))
    np.testing.assert_array_equal(ax.lines[1].get_data(), (X[order], TARGETS[order]))
    texts = []
    for i, level in enumerate((0.8, 0.5)):
        x, below, above = band(ax, i)
        np.testing.assert_array_equal(x, X[order])
        expected = scipy.stats.norm.interval(level, MEAN[order], STDDEV[order])
        np.testing.assert_allclose((below, above), expected)
        inside = (TARGETS[order] >= expected[0]) & (TARGETS[order] <= expected[1])
        error = 100 * inside.std(ddof=1) / np.sqrt(200)
        texts.append(f"{100 * level:g} % band: covers {100 * inside.mean():.1f} ± {error:.1f} %")
    assert legend(ax) == ["mean", *texts, "targets"]


@pytest.mark.slow
def test_large_offsets_keep_their_digits_and_many_points_are_thinned():
    x = 1.7e9 + np.arange(5000.0)
    ax = plots.prediction_bands(x, 1e9 + np.zeros(5000), 0.5, 1e9 + np.ones(5000), levels=[0.9], ax=axes())
    drawn = ax.lines[0].get_xdata()
    assert (len(drawn), drawn[0], drawn[-1]) == (1000, x[0], x[-1])
    assert len(ax.lines[1].get_xdata()) == 2000
    assert legend(ax)[1] == "90 % band: covers 0 ± 0 %"
    assert legend(plots.prediction_bands(x, x, 1.0, ax=axes()))[1:] == ["90 % band", "50 % band"]


def test_targets_against_predictions():
    ax = axes()
    assert plots.targets_against_predictions(MEAN, STDDEV, TARGETS, label="mine", ax=ax) is ax
    line, _, (error,) = ax.containers[0].lines
    order = np.argsort(MEAN)
    np.testing.assert_array_equal(line.get_data(), (MEAN[order], TARGETS[order]))
    widths = [np.ptp(segment[:, 0]) / 2 for segment in error.get_segments()]
    np.testing.assert_allclose(widths, STDDEV[order])
    squares = (TARGETS - MEAN) ** 2
    rmse = np.sqrt(squares.mean())
    text = f"{rmse:.3f} ± {squares.std(ddof=1) / np.sqrt(200) / 2 / rmse:.3f}"
    assert legend(ax) == ["target = prediction", f"mine: RMSE {text}"]


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_the_error_is_in_the_unit_of_the_targets(unit: float):
    gap = RNG.normal(size=100)
    ax = plots.targets_against_predictions(np.zeros(100), 0.0, unit * gap, ax=axes())
    found, error = (float(number) / unit for number in legend(ax)[1].removeprefix("RMSE ").split(" ± "))
    rms = np.sqrt(np.mean(gap**2))
    np.testing.assert_allclose(found, rms, rtol=0.01)
    np.testing.assert_allclose(error, np.std(gap**2, ddof=1) / 2 / rms / 10, rtol=0.2)


def test_one_target_has_no_error():
    assert legend(plots.quantile_calibration(np.array([0.5]), ax=axes()))[1] == "miscalibration 0.263"


def test_the_histogram_of_pit_values_has_the_band_of_uniform_ones():
    ax = axes()
    assert plots.pit_histogram(PIT.reshape(2, 100), bins=8, ax=ax) is ax
    around, fill, steps = (patch.get_data() for patch in ax.patches)
    share = np.histogram(PIT, 8, (0, 1))[0] / 200
    np.testing.assert_allclose(fill.values, share)
    np.testing.assert_allclose(steps.values, share)
    low, high = scipy.stats.binom(200, 1 / 8).interval(0.95)
    np.testing.assert_allclose((around.baseline, around.values), np.full((2, 8), [[low], [high]]) / 200)
    plots.pit_histogram(PIT, bins=8, label="again", ax=ax)
    band = "calibrated: 95 % of the bars of 200 examples"
    assert legend(ax) == [band, "forecast", "again"]


def test_ranks_of_samples_are_compared_at_their_borders():
    samples, targets = RNG.normal(size=(7, 300)), RNG.normal(size=300)
    pit = (np.sum(samples < targets, 0) + 0.5) / 8
    np.testing.assert_allclose(uncertainty.pit(samples, targets), pit, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`bins` must divide the 8 ranks of PIT values .*got 10"):
        plots.pit_histogram(pit.astype(np.float32))
    counts = np.bincount((8 * pit).astype(int))
    ax = plots.pit_histogram(pit, bins=8, ax=axes())
    np.testing.assert_allclose(ax.patches[-1].get_data().values, counts / 300)
    level, share, _, _ = bars(plots.quantile_calibration(pit, ax=axes()))
    np.testing.assert_allclose(level, np.arange(1, 8) / 8)
    np.testing.assert_allclose(share, np.cumsum(counts)[:-1] / 300)


def test_the_calibration_of_quantiles_from_both_kinds():
    level = np.arange(1, 20) / 20
    ax = plots.quantile_calibration(PIT, label="mine", ax=axes())
    quantiles = scipy.stats.norm.ppf(level[:, None], MEAN, STDDEV)
    found = uncertainty.quantile_reliability(quantiles, TARGETS, level)
    plots.quantile_calibration(found, ax=ax)
    share = (level[:, None] >= PIT).mean(1)
    expected = (level, share, *_axes.wilson(share, 200))
    for i in (0, 1):
        np.testing.assert_allclose(bars(ax, i), expected, rtol=1e-5, atol=1e-7)
    # To first order the mean distance is a mean over examples.
    each = ((level[:, None] >= PIT) * np.sign(share - level)[:, None]).mean(0)
    text = f"miscalibration {np.abs(share - level).mean():.3f} ± {each.std() / np.sqrt(200):.3f}"
    assert legend(ax) == ["calibrated", f"mine: {text}", text]


def test_the_error_of_the_miscalibration_is_its_spread():
    values, errors = [], []
    for _ in range(300):
        pit = np.sort(RNG.beta(0.5, 0.5, 400))
        share = np.searchsorted(pit, regression._LEVELS, side="right") / 400
        found = regression._miscalibration(regression._LEVELS, share, 400)
        values.append(found.value)
        errors.append(found.standard_error)
    np.testing.assert_allclose(np.mean(errors), np.std(values), rtol=0.25)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`mean` must have the shape of `x`, \(200,\), got \(3,\)"):
        plots.prediction_bands(X, MEAN[:3], STDDEV)
    with pytest.raises(ValueError, match=r"`levels` must lie in \(0, 1\), got 90"):
        plots.prediction_bands(X, MEAN, STDDEV, levels=(90,))
    with pytest.raises(ValueError, match="`targets` must not hold a NaN"):
        plots.targets_against_predictions(MEAN, STDDEV, TARGETS * np.nan)
    with pytest.raises(ValueError, match=r"`pit` must lie in \[0, 1\], got 1.5"):
        plots.pit_histogram(np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match=r"`found` must lie in \[0, 1\], got -1"):
        plots.quantile_calibration(np.array([-1.0]))
