"""Errors free of the reference's noise, and ratios that are known."""

import numpy as np
import pytest

from experiments.samples import measures

COUNTS = (10, 100, 1000)


def draw(rng, noise: float, examples: int = 64) -> measures.Found:
    """Statistics of 3 classes that are off by noise of a given size; labels for half of the examples."""
    truth = np.random.default_rng(0)
    mean, probs = truth.normal(size=(examples, 3)), truth.dirichlet(np.ones(3), examples)
    information = truth.uniform(size=examples)
    covariance = np.eye(3) + noise * rng.normal(size=(examples, 3, 3))
    return {
        "mean": mean + noise * rng.normal(size=mean.shape),
        "variance": np.exp(noise * rng.normal(size=mean.shape)),
        "covariance": covariance,
        "log_density": noise * rng.normal(size=examples // 2),
        "probabilities": probs + noise * rng.normal(size=probs.shape),
        **dict.fromkeys(measures.ENTROPIES, information + noise * rng.normal(size=examples)),
    }


def test_errors_are_those_of_the_method_not_of_the_reference():
    rng = np.random.default_rng(1)
    sums: dict[str, list[float]] = {}
    for _ in range(200):
        halves = draw(rng, 0.05), draw(rng, 0.05)
        for name, squared in measures.squared_errors(draw(rng, 0.02), halves).items():
            sums.setdefault(name, []).append(squared.mean())
    expected = {"mean": 4e-4, "deviation": 1e-4, "covariance": 3 * 4e-4, "log_density": 4e-4}
    expected |= {"probabilities": 3 * 4e-4, "inside": 4e-4} | dict.fromkeys(measures.ENTROPIES, 4e-4)
    assert set(sums) == set(measures.ERRORS) == set(expected) | {"ranking"}
    for name, value in expected.items():
        assert np.mean(sums[name]) == pytest.approx(value, abs=5 * np.std(sums[name]) / 200**0.5 + 2e-6)


def test_moments_alone_have_no_errors_of_classes():
    found = draw(np.random.default_rng(1), 0.1)
    alone = {name: found[name] for name in ("mean", "variance", "covariance")}
    assert set(measures.squared_errors(alone, (found, found))) == {"mean", "deviation", "covariance"}


def test_ranks_and_auroc():
    np.testing.assert_allclose(measures.ranking(np.array([3.0, 1.0, 1.0, 7.0])), [0.75, 0.375, 0.375, 1.0])
    assert measures.auroc(np.array([0.1, 0.3, 0.2, 0.4]), 2) == 0.75


def test_errors_within_the_noise_are_bounds():
    spread = np.array([-3.0, 3.0, -3.0, 3.0, -3.0, 3.0, -3.0, 3.0, -3.0, 3.0])
    assert measures.bounded(spread + 4, 1.0) == (4.0, True)
    assert measures.bounded(spread + 1, 0.6) == pytest.approx((2.2, False))
    assert measures.bounded(spread - 1, 9.0) == (2.0, False)  # the error over examples is 1
    # The variance of one sample.
    assert not np.isfinite(measures.bounded(np.full(3, np.nan), 1.0)[0])
    rng = np.random.default_rng(1)
    pairs = [(draw(rng, 0.05), draw(rng, 0.05)) for _ in range(100)]
    truth = draw(rng, 0.0)
    found = np.mean([measures.floors(pair)["mean"] for pair in pairs])
    spread = np.std([measures.squared_errors(truth, pair)["mean"].mean() for pair in pairs])
    # Three outputs are off by themselves: 3 + 2 over 1.
    assert found == pytest.approx(5**0.5 * spread, rel=0.2)


def test_groups_are_left_out():
    squared = np.arange(32.0)
    found = measures.leave_out(squared)
    assert found.shape == (16,)
    assert found[3] == pytest.approx(np.delete(squared, [3, 19]).mean())


@pytest.mark.parametrize(
    ("error", "samples"), [(1e-2, 100), (3e-2, 100 / 3), (1e-4, 10_000), (10.0, 10)], ids=str
)
def test_samples_of_an_error(error, samples):
    errors = np.array([np.nan, *(1 / count for count in COUNTS)])
    found = measures.samples_needed(error, np.array([1, *COUNTS]), errors)
    assert found == pytest.approx(samples)


def test_time_of_samples():
    times = np.array([2.0, 11.0, 101.0])
    assert measures.time_needed(100, np.array(COUNTS), times) == pytest.approx(11)
    assert measures.time_needed(5000, np.array(COUNTS), times) == pytest.approx(505)


def test_ratios_and_their_errors():
    rng = np.random.default_rng(0)
    noise = rng.exponential(size=(4, 64))
    curve = {count: noise[i] / count for i, count in enumerate(COUNTS)}
    prices = {count: count * np.array([1.0, 1.1, 0.9]) for count in COUNTS}
    found = measures.ratio(noise[3] / 100, curve, np.array([2.0, 2.2, 1.8]), prices)
    value = 100 * noise[1].mean() / noise[3].mean() / 2
    assert found.value.value == pytest.approx(value, rel=0.05)
    assert found.sign == ""
    # Two means of 64 exponentials: 18 %; the rounds agree.
    assert 0.1 < found.value.error / found.value.value < 0.3
    far = measures.ratio(noise[3] / 1e5, curve, np.array([2.0]), prices)
    assert far.sign == "~"
    assert far.value.value == pytest.approx(1e5 * noise[2].mean() / noise[3].mean() / 2)
    assert measures.ratio(noise[3] * 9, curve, np.array([2.0]), prices).sign == "<"
    lost = measures.ratio(rng.normal(size=64) / 1e5, curve, np.array([2.0]), prices, floor=1e-5)
    assert lost.sign == ">"
    assert far.show().startswith("~")
