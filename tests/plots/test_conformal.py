"""Sizes of sets and widths of intervals, with the coverage that NumPy finds too."""

import numpy as np
import pytest

from jaxdrop import plots
from jaxdrop.plots import _axes
from tests.plots.axes import axes, bars, legend

RNG = np.random.default_rng(0)
SETS = RNG.random((300, 5)) < 0.4
LABELS = RNG.integers(0, 5, 300)


def told(values: np.ndarray) -> str:
    error = values.std(ddof=1) / np.sqrt(values.size)
    return f"{values.mean():.3f} ± {error:.3f}"


@pytest.mark.slow
def test_shares_of_sizes_and_coverage_by_size():
    ax = axes()
    assert plots.set_sizes(SETS, labels=LABELS, label="mine", ax=ax) is ax
    sizes, hits = SETS.sum(-1), SETS[np.arange(300), LABELS]
    data = ax.patches[0].get_data()
    at = np.unique(sizes)
    np.testing.assert_allclose(data.values, [(sizes == size).mean() for size in at])
    np.testing.assert_allclose(data.edges, np.append(at - 0.5, at[-1] + 0.5))
    share = np.array([hits[sizes == size].mean() for size in at])
    ends = _axes.wilson(share, np.bincount(sizes)[at])
    np.testing.assert_allclose(bars(ax), (at, share, *ends), rtol=1e-5, atol=1e-6)
    coverage = f"{hits.mean():.3f} ± {hits.std() / np.sqrt(300):.3f}"
    texts = [f"mine: mean size {told(sizes)}", f"mine: coverage {coverage}, points by size"]
    assert legend(ax) == texts
    alone = plots.set_sizes(SETS.reshape(3, 100, 5), ax=axes())
    assert not alone.containers
    assert legend(alone) == [f"mean size {told(sizes)}"]


def test_widths_of_intervals_some_of_which_are_infinite():
    lower, upper = RNG.normal(size=200) - 1, RNG.normal(size=200) + 4
    lower[:20] = -np.inf
    targets = RNG.normal(size=200)
    ax = axes()
    assert plots.interval_widths(lower, upper, targets=targets, bins=9, ax=ax) is ax
    widths = (upper - lower)[20:]
    counts, edges = np.histogram(widths, 9)
    data = ax.patches[0].get_data()
    np.testing.assert_allclose(data.values, counts / 200)
    np.testing.assert_allclose(data.edges, edges)
    hits = (lower <= targets) & (targets <= upper)
    error = widths.std(ddof=1) / np.sqrt(180)
    text = f"mean width {widths.mean():.2f} ± {error:.2f}, coverage {told(hits)}, 10 % infinite"
    assert legend(ax) == [text]


def test_widths_that_are_equal_but_for_rounding_are_one_bar():
    middle = 50 * RNG.normal(size=200).astype(np.float32)
    data = plots.interval_widths(middle - 1, middle + 1, bins=5, ax=axes()).patches[0].get_data()
    np.testing.assert_allclose(data.values, [0, 0, 1, 0, 0])
    np.testing.assert_allclose(data.edges[[0, -1]], [0, 4], rtol=1e-5)
    with np.errstate(invalid="raise"):
        far = plots.interval_widths(np.array([0, np.inf]), np.array([1e-25, np.inf]), ax=axes())
    assert legend(far) == ["mean width 1e-25, 50 % infinite"]


def test_what_is_refused():
    with pytest.raises(TypeError, match="`sets` must be a boolean array, got float64"):
        plots.set_sizes(1.0 * SETS)
    with pytest.raises(ValueError, match=r"`sets` must be of shape \[..., K\], not empty, got \(0, 5\)"):
        plots.set_sizes(SETS[:0])
    with pytest.raises(ValueError, match=r"`labels` must lie in \[0, 4\], got 5"):
        plots.set_sizes(SETS, labels=LABELS + 1)
    with pytest.raises(ValueError, match="`upper` must not be below `lower`, got an interval that is"):
        plots.interval_widths(np.ones(2), np.zeros(2))
    with pytest.raises(ValueError, match="`lower` and `upper` must hold a finite interval, got none"):
        plots.interval_widths(np.full(2, -np.inf), np.zeros(2))
