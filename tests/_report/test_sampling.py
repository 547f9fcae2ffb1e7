"""How many samples are enough."""

import jax
import numpy as np
import pytest

from jaxdrop._report import kinds, labels, sampling

KIND = kinds.Kind("logits", 2)


def tried(noise, scored, most=128):
    """Labels that logits of one size and noise predict."""
    x = np.where(np.arange(64) % 4, 1.0, -1.0).astype(np.float32)[:, None] * np.array([0, 1.0], np.float32)
    y = np.where(np.arange(64) % 3, 1, 0)
    predict = jax.tree_util.Partial(lambda key, x: x + noise * jax.random.normal(key, x.shape))
    return sampling.try_out(
        predict,
        jax.random.key(0),
        x,
        KIND,
        lambda found: labels.losses(found.logs, y),
        score="nll",
        scored=scored,
        max_samples=most,
    )


@pytest.mark.slow
def test_the_error_of_the_main_score():
    """A draw spreads as 1 / sqrt(T), and the excess falls as 1 / T: both are what many samples show."""
    found = tried(1.0, 64)
    assert found.samples.tolist() == [8, 16, 32, 64, 128]
    assert np.isnan(found.error[-1])
    assert (np.diff(found.value) < 0.003).all()
    assert found.error[0] > 1.5 * found.error[2]
    # Of 16 and 8 draws: within a factor of two.
    expected = found.error[0] * np.sqrt(8 / found.num_samples)
    assert expected / 2 < found.monte_carlo_error < 2 * expected
    assert found.bias == pytest.approx((found.value[2] - found.value[-1]) * 4 / 3, rel=0.5)


@pytest.mark.slow
def test_more_examples_need_more_samples():
    few, many = tried(1.0, 64), tried(1.0, 100_000)
    assert few.num_samples == sampling.LEAST
    assert "32 samples are enough, the fewest that a standard error needs" in few.reason
    assert many.num_samples == 128
    assert many.reason.startswith("The limit `max_samples` ended the sampling")


def test_what_is_tried_is_spread_over_the_data():
    """Of data that are sorted by their labels, the first would have the same label."""
    held, scored = np.arange(0, 1000, 2), np.arange(1, 1000, 2)
    found = sampling.tried(held, scored, 50)
    np.testing.assert_array_equal(found, np.arange(0, 1000, 20))
    both = sampling.tried(held[:10], scored, 30)
    assert set(held[:10]) < set(both)
    assert both[-1] > 900
    assert len(both) == 30
    assert sampling.tried(held[:0], scored, 9999).tolist() == scored.tolist()


@pytest.mark.slow
def test_a_score_that_is_infinite_or_the_same_everywhere():
    """Of neither it is said that so many samples are enough by a share of its variance."""
    x = np.where(np.arange(8)[:, None] % 4 > 0, [0.0, 1], [1.0, 0]).astype(np.float32)

    def tried_on(x, kind):
        predict = jax.tree_util.Partial(lambda key, x: x + 0 * jax.random.normal(key, x.shape))
        losses = lambda found: labels.losses(found.logs, np.ones(8, int))  # noqa: E731
        return sampling.try_out(
            predict, jax.random.key(0), x, kind, losses, score="nll", scored=8, max_samples=64
        )

    infinite = tried_on(x, kinds.Kind("probabilities", 2))
    assert infinite.num_samples == 64
    assert infinite.reason.startswith("`max_samples` are drawn: the score is infinite")
    assert tried_on(0 * x, KIND).num_samples == sampling.LEAST


CASES = [
    (0, 1, 0.1, 128),
    (3.1, 0, 0.1, 32),
    (6.3, 0, 0.1, 64),
    (0, 0, 0, 32),
    (0, 1, 0, 128),
    (0, 0.6, 0.1, 64),
]


@pytest.mark.parametrize(("slope", "spread", "data", "chosen"), CASES)
def test_the_rule(slope, spread, data, chosen):
    """At most a tenth: the square of the excess and the variance."""
    assert sampling._enough(slope, spread, data, 128)[0] == chosen
