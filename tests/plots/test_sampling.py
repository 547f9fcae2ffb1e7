"""Monte-Carlo convergence: the estimates of the first samples, and their standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc, plots
from jaxdrop.plots import sampling
from tests.plots.axes import axes, legend
from tests.plots.test_detection import band

RNG = np.random.default_rng(0)
SAMPLES = 1e9 + RNG.normal(size=(64, 5))


def test_the_mean_of_the_first_samples_in_float64():
    ax = axes()
    assert plots.convergence(SAMPLES, index=2, label="mine", ax=ax) is ax
    counts, values = ax.lines[0].get_data()
    assert (counts[0], counts[-1], ax.get_xscale()) == (4, 64, "log")
    parts = [SAMPLES[: int(count), 2] for count in counts]
    np.testing.assert_allclose(values, [part.mean() for part in parts], rtol=1e-15)
    _, below, above = band(ax)
    errors = [part.std(ddof=1) / np.sqrt(len(part)) for part in parts]
    np.testing.assert_allclose((above - below) / 2, errors, rtol=1e-5)
    assert legend(ax)[0].startswith("mine: 10000000")
    assert legend(ax)[0].endswith("at T = 64")


def test_the_errors_of_all_estimates_and_the_line_of_the_rate():
    ax = plots.convergence(SAMPLES, show="error", ax=axes())
    counts, middle = ax.lines[0].get_data()
    errors = np.stack([SAMPLES[: int(n)].std(0, ddof=1) / np.sqrt(n) for n in counts])
    np.testing.assert_allclose(middle, np.median(errors, 1), rtol=1e-5)
    _, below, above = band(ax)
    np.testing.assert_allclose((below, above), np.percentile(errors, [5, 95], axis=1), rtol=1e-5)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), middle[-1] * np.sqrt(64 / counts))
    assert legend(ax)[1] == "1 / sqrt(T)"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert "5 % to 95 %" in ax.get_ylabel()


@pytest.mark.slow
def test_a_reducer_gives_what_it_gives_of_the_first_samples():
    probs = RNG.dirichlet(np.ones(3), (40, 2)).astype(np.float32)
    reducer = mc.Categorical(from_logits=False)
    options = {"reducer": reducer, "of": "mutual_information"}
    ax = plots.convergence(probs, **options, index=1, ax=axes())
    finished = jax.jit(lambda samples, index: reducer.finish(reducer.summarize(samples, index, None)))
    values, errors = finished(probs, jnp.arange(40))
    np.testing.assert_allclose(ax.lines[0].get_ydata()[-1], values["mutual_information"][1], rtol=1e-4)
    _, below, above = band(ax)
    np.testing.assert_allclose((above - below)[-1] / 2, errors["mutual_information"][1], rtol=1e-3)
    assert ax.get_ylabel() == "mutual information, ± standard error"


@pytest.mark.slow
def test_estimates_at_several_numbers_of_samples_in_any_order():
    predict = jax.tree_util.Partial(lambda key, x: jaxdrop.dropout(key, x, 0.5))
    found = [
        mc.estimate(predict, jax.random.key(0), jnp.ones((1, 3)), num_samples=n, reducers=mc.Moments())
        for n in (32, 8)
    ]
    ax = plots.convergence(found, index=(0, 1), show="error", ax=axes())
    expected = [found[i].standard_error["mean"][0, 1] for i in (1, 0)]
    np.testing.assert_allclose(ax.lines[0].get_data(), ([8, 32], expected))
    by_example = [one._replace(num_samples=np.full(1, one.num_samples)) for one in found]
    for index in ((0, 1), np.int64(0)):
        np.testing.assert_allclose(sampling._of_estimates(by_example, "mean", index).counts, [8, 32])
    with pytest.raises(ValueError, match=r"`index` must choose one of the estimates .*, got 7"):
        plots.convergence(by_example, index=7)
    with pytest.raises(ValueError, match="`samples` must hold estimates of different numbers of samples"):
        plots.convergence([found[0], found[0]], index=(0, 0))
    with pytest.raises(ValueError, match="`of` must be one of 'mean', 'variance', got 'median'"):
        plots.convergence(found, of="median", index=(0, 0))
    with pytest.raises(ValueError, match="`reducer` must be None for estimates"):
        plots.convergence(found, reducer=mc.Moments(), index=(0, 0))


def test_what_is_refused():
    with pytest.raises(
        ValueError, match=r"`index` must choose one of the estimates of shape \(5,\), got None"
    ):
        plots.convergence(SAMPLES)
    with pytest.raises(ValueError, match=r"`index` must choose one of the estimates of shape \(5,\), got 5"):
        plots.convergence(SAMPLES, index=5)
    with pytest.raises(
        ValueError, match=r"`samples` must have a first axis of at least 2 samples, got .*1, 5"
    ):
        plots.convergence(SAMPLES[:1])
    with pytest.raises(TypeError, match=r"`samples` must be an array or a list of `mc.Estimate`s, got dict"):
        plots.convergence({"a": SAMPLES})
    with pytest.raises(ValueError, match="`show` must be one of 'estimate', 'error', got 'both'"):
        plots.convergence(SAMPLES, show="both")
    with pytest.raises(
        ValueError, match=r"`samples` must be of shape \[T, B, ...\] for a reducer, got \(64,\)"
    ):
        plots.convergence(SAMPLES[:, 0], reducer=mc.Moments())
    with pytest.raises(ValueError, match="`of` must be one of 'mean', got 'variance'"):
        plots.convergence(SAMPLES, of="variance")
