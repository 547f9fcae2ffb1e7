"""Risk control against loops and MAPIE, and the risks of new examples over splits."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapie.risk_control.methods import (
    compute_hoeffding_bentkus_p_value,
    find_best_predict_param,
    get_r_hat_plus,
)

from jaxdrop import uncertainty
from jaxdrop.uncertainty.conformal import risk
from tests.splits import SPLITS, over_splits

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
PROBS = RNG.uniform(size=(100, 6))
LABELS = RNG.uniform(size=PROBS.shape) < PROBS
MASK = RNG.uniform(size=PROBS.shape) < 0.8
MASK[:10] = False
LAMBDAS = np.linspace(0.005, 0.995, 199)


def misses(
    probs: np.ndarray, labels: np.ndarray, threshold: float, where: np.ndarray | None = None
) -> np.ndarray:
    """The share of true labels below a threshold, of each example."""
    true = labels if where is None else labels & where
    return (true & (probs < threshold)).sum(-1) / np.maximum(true.sum(-1), 1)


LOSSES = np.stack([misses(PROBS, LABELS, 1 - value) for value in LAMBDAS], axis=-1)


def test_the_threshold_of_crc_is_that_of_mapie():
    """MAPIE asks for less than the risk, where the paper has at most; no bound of these is the risk."""
    _, bounds = get_r_hat_plus(LOSSES, LAMBDAS, "crc", None, None, None)
    expected = find_best_predict_param(LAMBDAS, bounds, np.array([0.203]))
    found = jax.jit(lambda losses, risk: uncertainty.risk_threshold(losses, LAMBDAS, risk=risk))
    np.testing.assert_allclose(found(LOSSES, 0.203), expected[0], rtol=1e-6)


def test_a_risk_that_cannot_be_had_gives_infinity():
    """MAPIE warns, and returns the last parameter, which has no guarantee."""
    losses = np.ones((9, 3))
    found = jax.jit(lambda losses, risk: uncertainty.risk_threshold(losses, np.arange(3.0), risk=risk))
    assert found(losses, 0.5) == np.inf
    assert found(losses * 0, 0.05) == np.inf
    assert found(losses * 0, 0.1) == 0


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_the_bound_is_that_of_mapie(share: float):
    """The largest sum of losses that the p-value of Hoeffding and Bentkus allows, for each count."""
    counts = np.array([5, 30, 100, 1000])
    sums = risk._hoeffding_bentkus(counts, share, 0.1)
    for count, most in zip(counts, sums, strict=True):
        steps = most + np.array([-1e-6, 1e-6 if most % 1 else 1.0])
        if most < 0:
            steps = np.array([np.nan, 0])
        values = compute_hoeffding_bentkus_p_value(steps / count, int(count), share)[:, 0]
        assert values[1] > 0.1
        assert most < 0 or values[0] <= 0.1


def test_a_concrete_mask_needs_the_bound_of_one_count(monkeypatch):
    """That of each count up to N takes seconds for a million examples."""
    asked, bound = [], risk._hoeffding_bentkus
    monkeypatch.setattr(
        risk, "_hoeffding_bentkus", lambda counts, *rest: asked.append(counts) or bound(counts, *rest)
    )
    where = np.arange(40) < 30
    uncertainty.risk_threshold(np.zeros((40, 2)), [1, 2], risk=0.2, delta=0.1, where=where)
    assert [list(counts) for counts in asked] == [[30]]


def test_losses_that_increase_count_as_their_largest():
    losses = np.tile([1.0, 0.0, 1.0, 0.0, 0.0], (9, 1))
    assert uncertainty.risk_threshold(losses, np.arange(5.0), risk=0.1) == 3


def test_fnr_sets_are_those_of_the_general_form():
    """The exact threshold is between the grid's and the next, with a mask as well."""
    masked = np.where(MASK, PROBS, np.nan), np.where(MASK, LABELS, 255)

    @jax.jit
    def both(losses: list[jax.Array]) -> list[tuple[jax.Array, jax.Array]]:
        found = []
        for delta in (None, 0.1):
            for data, lost, where in zip(((PROBS, LABELS), masked), losses, (None, MASK), strict=True):
                rows, options = None if where is None else where.any(-1), {"risk": 0.25, "delta": delta}
                exact = uncertainty.fit_fnr(*map(jnp.asarray, data), **options, where=where).threshold
                found.append((uncertainty.risk_threshold(lost, LAMBDAS, **options, where=rows), 1 - exact))
        return found

    masked_losses = np.stack([misses(PROBS, LABELS, 1 - value, MASK) for value in LAMBDAS], axis=-1)
    for general, exact in both([LOSSES, masked_losses]):
        assert 0 <= general - exact <= 0.005 + 1e-6


def test_risks_of_new_examples_over_splits():
    """CRC: the mean is between `risk - 2 / (N + 1)` and `risk`. RCPS: few splits have a larger risk."""

    def one(key: jax.Array) -> jax.Array:
        first, second, other = jax.random.split(key, 3)
        # Examples differ in their share of true labels.
        power = jax.random.uniform(other, (500, 1), maxval=3.0)
        probs = jax.random.uniform(first, (500, 4)) ** power
        labels = jax.random.uniform(second, probs.shape) < probs
        old, new = slice(0, 100), slice(100, None)
        bounds = [uncertainty.fit_fnr(probs[old], labels[old], risk=0.2, delta=d) for d in (None, 0.2)]
        missed = [(labels[new] & ~fitted(probs[new])).sum(-1) for fitted in bounds]
        return jnp.stack(missed).astype(float) / jnp.maximum(labels[new].sum(-1), 1)[None].astype(float)

    risks = over_splits(one, 4).mean(-1)
    mean, error = risks[:, 0].mean(), 5 * risks[:, 0].std() / np.sqrt(SPLITS)
    assert 0.2 - 2 / 101 - error <= mean <= 0.2 + error
    assert (risks[:, 1] > 0.2).mean() <= 0.2 + 5 * np.sqrt(0.2 * 0.8 / SPLITS)
    assert (risks[:, 0] > 0.2).mean() > 0.3  # which CRC does not promise


def test_too_few_examples_and_invalid_labels_give_all_labels():
    fit = jax.jit(lambda labels, risk: uncertainty.fit_fnr(PROBS[:8], labels, risk=risk))
    few, invalid = fit(LABELS[:8] + 0, 0.1), fit(LABELS[:8] + 1, 0.3)
    assert few.threshold == -np.inf
    assert few(PROBS).all()
    assert np.isnan(invalid.threshold)
    assert invalid(PROBS).all()
    traced = jax.jit(lambda losses: uncertainty.risk_threshold(losses, LAMBDAS, risk=0.2))
    assert traced(LOSSES - 0.01) == np.inf
    assert traced(np.where(LOSSES > 0.5, np.nan, LOSSES)) == np.inf


def test_pixels_of_a_mask():
    """Images without a true pixel lose nothing and count."""
    probs, labels = RNG.uniform(size=(2, 40, 3, 5))
    labels = (labels < probs) & (np.arange(40) % 4 > 0)[:, None, None]
    fitted = jax.jit(lambda *args: uncertainty.fit_fnr(*args, risk=0.2))(probs, labels)
    assert fitted(probs).shape == probs.shape
    missed = misses(np.float32(probs).reshape(40, -1), labels.reshape(40, -1), np.float32(fitted.threshold))
    assert missed.sum() <= 41 * 0.2 - 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.risk_threshold(LOSSES * 2, LAMBDAS, risk=0.2),
            ValueError,
            "`losses` must lie in [0, 1], got ",
        ),
        (
            lambda: uncertainty.risk_threshold(LOSSES[0], LAMBDAS, risk=0.2),
            ValueError,
            "`losses` must be of shape [N, M], got (199,).",
        ),
        (
            lambda: uncertainty.risk_threshold(LOSSES, LAMBDAS[:-1], risk=0.2),
            ValueError,
            "`lambdas` must have one value per column of `losses`, shape (199,), got (198,).",
        ),
        (
            lambda: uncertainty.risk_threshold(LOSSES, -LAMBDAS, risk=0.2),
            ValueError,
            "`lambdas` must be in ascending order",
        ),
        (
            lambda: uncertainty.risk_threshold(LOSSES[:, :2], np.array([3, 1], np.uint8), risk=0.2),
            ValueError,
            "`lambdas` must be in ascending order",
        ),
        (
            lambda: uncertainty.risk_threshold(LOSSES, LAMBDAS, risk=1.0),
            ValueError,
            "`risk` must lie in (0, 1), got 1.",
        ),
        (
            lambda: uncertainty.fit_fnr(PROBS, LABELS, risk=0.2, delta=0.0),
            ValueError,
            "`delta` must lie in (0, 1), got 0.",
        ),
        (
            lambda: jax.jit(lambda risk: uncertainty.fit_fnr(PROBS, LABELS, risk=risk, delta=0.1))(0.2),
            TypeError,
            "`risk` must be a number known when tracing",
        ),
        (
            lambda: uncertainty.fit_fnr(PROBS[0], LABELS[0], risk=0.2),
            ValueError,
            "`probs` must be of shape [N, ..., L], got (6,).",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
