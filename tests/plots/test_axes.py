"""The style: colors in turn, numbers with their errors, and what is said without matplotlib."""

import runpy
import sys

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc, plots
from jaxdrop.plots import _axes
from jaxdrop.uncertainty import Score
from tests.plots.axes import axes, legend


def test_a_series_has_the_first_color_that_the_axes_do_not_have():
    ax = axes()
    assert _axes.look(ax) == ("#0072B2", "o", "-")
    ax.plot([0, 1], color=plots.PALETTE[0])
    ax.fill_between([0, 1], [1, 2], color=plots.PALETTE[1], alpha=0.2)
    ax.stairs([1], [0, 1], color=plots.PALETTE[2], fill=True)
    assert _axes.look(ax).color == plots.PALETTE[3]
    ax.scatter(range(7), range(7), color=plots.PALETTE)
    assert _axes.look(ax).color in plots.PALETTE
    ax.clear()
    assert _axes.look(ax).color == plots.PALETTE[0]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.123456, 0.0123, "0.123 ± 0.012"),
        (0.123456, 0.096, "0.123 ± 0.096"),
        (1234.5, 67.8, "1234 ± 68"),
        (1.0, 0.0, "1 ± 0"),
        (0.25, np.nan, "0.25"),
        (1e-9, 2e-11, "1e-09 ± 2e-11"),
        (1.5e25, 2e23, "1.5e+25 ± 2e+23"),
    ],
)
def test_a_score_is_told_to_two_digits_of_its_error(value: float, error: float, text: str):
    assert _axes.told(Score(value, error)) == text


def test_wilson_intervals_end_one_standard_error_of_the_end_away():
    share, count = np.array([0.0, 0.3, 1.0]), np.array([10, 20, 10])
    for end in _axes.wilson(share, count):
        np.testing.assert_allclose((share - end) ** 2, end * (1 - end) / count, atol=1e-12)
    below, above = _axes.wilson(share, count)
    assert (below < share).tolist() == [False, True, True]
    assert (above > share).tolist() == [True, True, False]


def test_axes_are_given_or_new_and_nothing_else():
    ax = axes()
    assert _axes.axes(ax) is ax
    fresh = _axes.axes(None, (3, 2))
    assert fresh.figure.get_size_inches().tolist() == [3, 2]
    assert fresh.figure.get_layout_engine() is not None
    with pytest.raises(TypeError, match=r"`ax` must be matplotlib axes or None, got Figure\."):
        _axes.axes(fresh.figure)


def test_nothing_is_black_or_white_on_a_dark_page():
    with mpl.rc_context(), plt.style.context("dark_background"):
        ax = plots.prediction_bands(np.arange(3.0), np.zeros(3), 1.0, np.ones(3))
        assert ax.lines[-1].get_color() == "#ffffff"
    assert "black" not in plots.PALETTE


def test_traced_values_are_refused():
    with pytest.raises(TypeError, match=r"`probs` must hold known values: draw outside of `jit`"):
        jax.jit(lambda p: plots.reliability_diagram(p, np.zeros(3, int)))(np.ones((3, 2)) / 2)
    with pytest.raises(TypeError, match=r"`errors` must hold known values: draw outside of `jit`"):
        jax.jit(lambda x: plots.risk_coverage_curve(x, x))(np.ones(3))


@pytest.mark.slow
def test_strict_modes_and_64_bits():
    probs, labels = np.tile([[0.25, 0.75], [0.5, 0.5]], (8, 1)), np.arange(16) % 2
    doubt = np.arange(16.0)
    calls = (
        lambda: plots.reliability_diagram(probs, labels, cls=1, ax=axes()),
        lambda: plots.risk_coverage_curve(labels, doubt, ax=axes()),
        lambda: plots.roc_curve(doubt, doubt + 1, ax=axes()),
        lambda: plots.set_sizes(probs > 0.25, labels=labels, ax=axes()),
        lambda: plots.convergence(probs, reducer=mc.Moments(), index=0, ax=axes()),
    )
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
        found = [legend(call())[-1] for call in calls]
    # The gaps of both bins are 3 / 4 and 1 / 2; of 256 pairs 136 are in order, and 15 are ties.
    risk = np.mean(np.cumsum(labels) / np.arange(1, 17))
    values = [float(text.split()[1]) for text in found[:4]]
    np.testing.assert_allclose(values, (0.625, risk, 143.5 / 256, 0.5), atol=0.005)
    assert found[4] == "0.375 ± 0.032 at T = 16"


def test_without_matplotlib_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"`jaxdrop.plots` needs matplotlib; run `pip install "):
        runpy.run_path(_axes.__file__)
    assert "plots" not in jaxdrop.__all__
