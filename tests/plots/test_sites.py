"""Shares of a variance: the bars of sites, and the map of pixels or units."""

import numpy as np
import pytest

from jaxdrop import mc, plots
from tests.plots.axes import axes


def test_bars_of_shares_have_the_first_site_on_top_and_the_rest_in_gray():
    shares = {
        "input": np.array([[1.0], [3.0]]),
        "hidden": np.ones((2, 1)),
        "interactions": np.ones((2, 1)) / 2,
    }
    table = mc.site_shares(shares)
    ax = axes()
    assert plots.share_bars(table, ax=ax) is ax
    bars = sorted(ax.patches, key=lambda bar: bar.get_y())
    np.testing.assert_allclose([bar.get_width() for bar in bars], table.mean)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(shares)
    assert ax.yaxis_inverted()
    assert [bar.get_hatch() for bar in bars] == [None, None, "//"]
    (ranges,) = ax.collections
    np.testing.assert_allclose([line[:, 0] for line in ranges.get_segments()], table.range().T)
    assert plots.share_bars(table).figure is not ax.figure
    with pytest.raises(TypeError, match=r"`shares` must be a `jaxdrop.mc.SiteShares`, got dict\."):
        plots.share_bars(shares)


def test_maps_of_pixels_and_of_units():
    pixels = np.arange(6.0).reshape(2, 3)
    ax = plots.share_map(pixels, label="variance of the logit")
    np.testing.assert_array_equal(ax.images[0].get_array(), pixels)
    assert ax.figure.axes[1].get_ylabel() == "variance of the logit"
    ax = plots.share_map(np.array([1.0, 3.0, 2.0]), ax=axes())
    assert [bar.get_height() for bar in ax.patches] == [3, 2, 1]
    assert ax.get_ylabel() == "variance"
    with pytest.raises(
        ValueError, match=r"`values` must have shape \[H, W\] or \[N\], not empty, got \(0,\)"
    ):
        plots.share_map(np.zeros(0))
    with pytest.raises(ValueError, match="`values` must be finite, got nan"):
        plots.share_map(np.full(3, np.nan))
