"""Measures of curves that are known, and what is said of them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.co2 import networks, results

X = np.arange(10.0)
SERIES = results.Series(X, np.zeros(10), np.linspace(0, 20, 10), 6)
WAVE = SERIES._replace(y=np.sin(X))


def curves(far: float) -> networks.Curves:
    """Two seeds wrong by 1 where seen and by 4 later; the deviation is 3 where held out."""
    scaled = np.zeros((2, 20))
    scaled[:, :6], scaled[:, 6:10] = 1, 4
    deviation = np.ones((2, 20))
    deviation[:, 6:10] = 3
    deviation[:, -2:] = [[far], [far + 0.1]]
    return networks.Curves(scaled, scaled, deviation)


def test_the_noise_is_that_of_the_points_seen():
    rows = results.summarize(SERIES, curves(5.0))
    scaled, sampled = rows[results.SCALED], rows[results.MC]
    np.testing.assert_allclose(scaled["rmse_seen"], 1)
    np.testing.assert_allclose(scaled["rmse_held_out"], 4)
    # Variances of 1, and of 1 + 9 with the samples.
    np.testing.assert_allclose(scaled["nll_held_out"], 0.5 * (np.log(2 * np.pi) + 16), rtol=1e-5)
    np.testing.assert_allclose(sampled["nll_held_out"], 0.5 * (np.log(20 * np.pi) + 1.6), rtol=1e-5)
    np.testing.assert_allclose((scaled["covered"], sampled["covered"]), [[0, 0], [1, 1]])
    np.testing.assert_allclose(sampled["deviation_far"], [5, 5.1])
    np.testing.assert_allclose(sampled["deviation_seen"], 1)


def test_what_the_paper_sees():
    rows = {"ReLU": results.summarize(SERIES, curves(5.0)), "tanh": results.summarize(SERIES, curves(0.95))}
    found = results.claims(rows)
    assert [claim["verdict"] for claim in found] == ["higher", "unclear", "higher", "lower", "lower"]
    assert found[2]["difference"].value == pytest.approx(4.05)
    for header, body in (results.table(rows), results.claims_table(found)):
        assert all(len(row) == len(header) for row in body)
    assert results.table(rows)[1][-1][1:] == ["-", "5.05±0.05", "-", "1.00±0.05"]


def test_results_are_in_years_and_ppm():
    x = np.float32([-1.7256946, 1.7256946])  # the first and the last of 272 months
    series = results.Series(x, np.float32([1, -1]), x, 1).in_units()
    # The middle of March 1981; the five months that are missing end in April 1964.
    np.testing.assert_allclose(series.x, [1958 + 7.5 / 12, 1981 + 2.5 / 12], atol=2e-3)
    np.testing.assert_allclose(series.y, [2.135, -2.135], rtol=1e-6)
    seen = curves(5.0)._replace(learned=np.ones((2, 3)))
    for mine, ppm in zip(seen, results.in_ppm(seen), strict=True):
        np.testing.assert_allclose(ppm, 2.135 * mine)


def test_training_is_compared_with_a_constant():
    found = curves(5.0)._replace(learned=np.full((2, networks.CHUNKS), [[1.0], [3.0]]))
    (axis,) = results.plot_training(WAVE, {"ReLU": found, "tanh": found}, 200, "title").axes
    assert [line.get_label() for line in axis.lines] == ["ReLU", "tanh", "the mean of the points"]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), 2)
    assert axis.lines[0].get_xdata()[[0, -1]].tolist() == [10, 200]
    assert axis.lines[2].get_ydata()[0] == pytest.approx(WAVE.y[:6].std())
    plt.close(axis.figure)


def test_only_samples_have_a_band():
    figure = results.plot(WAVE, {"ReLU": curves(5.0)}, "title")
    assert [axis.get_title() for axis in figure.axes] == ["ReLU, weight scaling", "ReLU, MC dropout"]
    assert [len(axis.collections) for axis in figure.axes] == [0, 2]
    plt.close(figure)
