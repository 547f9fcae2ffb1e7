"""Intervals and boxes against MAPIE and loops, and their coverage of skewed and heteroscedastic data."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapie.conformity_scores import ResidualNormalisedScore
from mapie.regression import ConformalizedQuantileRegressor, SplitConformalRegressor
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin

from jaxdrop import uncertainty
from tests.splits import band, loop_quantile, over_splits

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
Y, MEAN = RNG.normal(size=(2, 99, 3))
STDDEV = np.exp(RNG.normal(size=(99, 3)))
GROUPS = np.arange(99) % 3


class Column(RegressorMixin, BaseEstimator):
    """A regressor whose prediction is one of its features."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, x, y):
        self.fitted_ = True
        return self

    def predict(self, x):
        return x[:, self.column]


def test_cqr_is_that_of_mapie():
    y = RNG.normal(size=99)
    x = np.stack([RNG.normal(-0.5, 0.3, 99), RNG.normal(0.5, 0.3, 99)], axis=-1)
    x = np.concatenate([x, x.mean(-1, keepdims=True)], axis=-1)
    columns = [Column(column).fit(None, None) for column in range(3)]
    peer = ConformalizedQuantileRegressor(columns, 0.8, prefit=True)
    peer.conformalize(x, y)
    _, expected = peer.predict_interval(x, symmetric_correction=True)
    lower, upper = uncertainty.fit_cqr(x[:, 0], x[:, 1], y, level=0.8)(x[:, 0], x[:, 1])
    np.testing.assert_allclose(np.stack([lower, upper], axis=-1), expected[..., 0], rtol=1e-4, atol=1e-5)


def test_cqr_of_several_outputs_has_a_margin_for_each():
    lower, y = RNG.normal(size=(2, 50, 3))
    margin = jax.jit(uncertainty.fit_cqr)(lower, lower + 1, y, level=0.9).margin
    expected = [
        uncertainty.fit_cqr(lower[:, i], lower[:, i] + 1, y[:, i], level=0.9).margin for i in range(3)
    ]
    np.testing.assert_allclose(margin, expected, rtol=1e-6)


def test_intervals_cover_as_often_as_they_say():
    """Whatever the intervals were: here half as wide as they should be."""

    def covered(key):
        y = jax.random.normal(key, (20,))
        half = jnp.full(20, 0.5 * stats.norm.ppf(0.95))
        cqr = uncertainty.fit_cqr(-half[1:], half[1:], y[1:], level=0.9)
        lower, upper = cqr(-half[:1], half[:1])
        return uncertainty.coverage(lower, upper, y[:1])

    share = jax.jit(jax.vmap(covered))(jax.random.split(jax.random.key(4), 10_000)).mean()
    assert abs(share - 0.9) <= 5 * np.sqrt(0.9 * 0.1 / 10_000)


def test_cqr_of_several_outputs():
    lower = np.random.default_rng(3).normal(size=(50, 2)).astype(np.float32)
    fitted = uncertainty.fit_cqr(lower, lower + 1, lower + 0.5, level=0.9)
    down, up = fitted(lower, lower + 1)
    margin = np.asarray(fitted.margin, np.float64)
    for end, exact, outward in ((down, lower - margin, -1), (up, np.float64(lower + 1) + margin, 1)):
        assert (outward * (np.float64(end) - exact) >= 0).all()
        np.testing.assert_allclose(end, exact, rtol=2e-7)
    with pytest.raises(ValueError, match=r"`margin` must broadcast to shape \(4, 3\), got \(2,\)"):
        fitted(np.zeros((4, 3)), np.ones((4, 3)))


def test_cqr_of_a_large_offset_covers():
    y = 1e6 + np.random.default_rng(0).random(999)
    ends = np.full(999, 1e6)
    cqr = uncertainty.fit_cqr(ends, ends, y, level=0.9)
    assert 0 <= np.float64(cqr.margin) - np.sort(y - 1e6)[899] <= 1e-7
    for given in (ends, ends.astype(np.float32)):
        for call in (cqr, lambda *both: jax.jit(lambda fitted, both: fitted(*both))(cqr, both)):
            assert uncertainty.coverage(*call(given, given), y).mean() >= 0.9
    lower, upper = jax.jit(lambda cqr: cqr(ends + 0.01, ends + 0.01))(cqr)
    assert (np.float64(lower) <= 1e6 + 0.01 - np.float64(cqr.margin)).all()
    assert (np.float64(upper) >= 1e6 + 0.01 + np.float64(cqr.margin)).all()


@pytest.mark.parametrize("normalized", [False, True])
def test_residual_intervals_are_those_of_mapie(normalized: bool):
    x = np.stack([MEAN[:, 0], STDDEV[:, 0]], axis=-1)
    score = ResidualNormalisedScore(Column(1).fit(None, None), prefit=True) if normalized else "absolute"
    peer = SplitConformalRegressor(Column(0).fit(None, None), 0.8, conformity_score=score, prefit=True)
    peer.conformalize(x, Y[:, 0])
    _, expected = peer.predict_interval(x)
    stddev = x[:, 1] if normalized else None
    fitted = uncertainty.fit_residual(x[:, 0], Y[:, 0], level=0.8, stddev=stddev)
    np.testing.assert_allclose(
        np.stack(fitted(x[:, 0], stddev=stddev), axis=-1), expected[..., 0], rtol=1e-5, atol=1e-5
    )


def test_tails_are_those_of_mapie():
    """Each tail is missed with a probability of 0.1 at most: MAPIE splits alpha likewise."""
    x = np.stack([MEAN[:, 0] - 0.5, MEAN[:, 0] + 0.2, MEAN[:, 0]], axis=-1)
    peer = ConformalizedQuantileRegressor(
        [Column(column).fit(None, None) for column in range(3)], 0.8, prefit=True
    )
    peer.conformalize(x, Y[:, 0])
    _, expected = peer.predict_interval(x, symmetric_correction=False)
    fit = jax.jit(lambda *fitted: uncertainty.fit_cqr(*fitted, level=0.8, symmetric=False))
    found = fit(x[:, 0], x[:, 1], Y[:, 0])(x[:, 0], x[:, 1])
    np.testing.assert_allclose(np.stack(found, axis=-1), expected[..., 0], rtol=1e-4, atol=1e-5)


def test_a_mask_leaves_targets_out():
    where = RNG.uniform(size=Y.shape) < 0.7
    y, stddev = np.where(where, Y, np.nan), np.where(where, STDDEV, -1)
    found = uncertainty.fit_cqr(y - 1, y - 0.5, y, level=0.8, where=where)
    np.testing.assert_allclose(found.margin, 0.5, rtol=1e-5)
    found = jax.jit(uncertainty.fit_residual)(MEAN, y, level=0.8, stddev=stddev, where=where).factor
    scores = np.abs(Y - MEAN) / STDDEV
    expected = [loop_quantile(scores[where[:, i], i], 80) for i in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    rows = where.all(-1)
    found = uncertainty.fit_box(MEAN, y, np.abs(stddev), level=0.8, where=rows).factor
    np.testing.assert_allclose(found, loop_quantile(scores[rows].max(-1), 80), rtol=1e-6)


@pytest.mark.slow
def test_groups_and_weights_of_examples():
    """Each group has the intervals of a fit to it, and weights of 0 and 1 are a mask."""
    some = GROUPS == 1
    grouped, chosen = {"groups": GROUPS, "num_groups": 3}, {"groups": np.ones(99, int)}
    weighted, equal = {"weights": some.astype(np.float32)}, {"weights": np.ones(99)}

    @jax.jit
    def ends(mean: jax.Array, y: jax.Array, stddev: jax.Array) -> list[list[tuple[jax.Array, jax.Array]]]:
        def both(where: np.ndarray, given: dict, new: dict) -> list[tuple[jax.Array, jax.Array]]:
            box = uncertainty.fit_box(mean, y, stddev, level=0.8, where=where, **given)
            where = where[:, None]
            scaled = uncertainty.fit_residual(mean, y, level=0.8, stddev=stddev, where=where, **given)
            tails = uncertainty.fit_cqr(mean, mean, y, level=0.8, symmetric=False, where=where, **given)
            normal = (fitted(mean, stddev=stddev, **new) for fitted in (box, scaled))
            return [*normal, tails(mean, mean, **new)]

        everyone = np.ones(99, bool)
        return [both(some, {}, {}), both(everyone, grouped, chosen), both(everyone, weighted, equal)]

    expected, *found = map(np.asarray, ends(MEAN, Y, STDDEV))
    for one in found:
        np.testing.assert_allclose(one, expected, rtol=1e-6)


@pytest.mark.slow
def test_coverage_of_skewed_and_heteroscedastic_data():
    """Three outputs share a noise with a long upper tail, whose deviation is known up to a factor.

    All cover; scaled intervals cover where the noise is largest, and each tail is missed as it says.
    """

    def one(key: jax.Array) -> dict[str, jax.Array]:
        inputs, noise, other = jax.random.split(key, 3)
        stddev = jax.random.uniform(inputs, (2, 99, 1), minval=0.2, maxval=2.0)
        shape = (2, 99, 3)
        skewed = jax.random.exponential(noise, shape).at[..., 1].set(jax.random.normal(other, shape[:2]))
        y, mean = stddev * (skewed + skewed[..., :1]), jnp.zeros(shape)
        (old, new), scale, center = y, 3 * jnp.broadcast_to(stddev, shape), mean[0]
        noisy = stddev[1, :, 0] > 1.6

        def covered(ends: tuple[jax.Array, jax.Array], some: jax.Array | None = None) -> jax.Array:
            return jnp.mean((ends[0] <= new) & (new <= ends[1]), 0, where=some)

        plain = uncertainty.fit_residual(center, old, level=0.9)(center)
        scaled = uncertainty.fit_residual(center, old, level=0.9, stddev=scale[0])(center, stddev=scale[1])
        low, high = uncertainty.fit_cqr(center, center, old, level=0.8, symmetric=False)(center, center)
        down, up = uncertainty.fit_box(center, old, scale[0], level=0.9)(center, stddev=scale[1])
        return {
            "plain": covered(plain),
            "scaled": covered(scaled),
            "plain, noisy": covered(plain, noisy[:, None]),
            "scaled, noisy": covered(scaled, noisy[:, None]),
            "low": (new >= low).mean(0),
            "high": (new <= high).mean(0),
            "box": ((down <= new) & (new <= up)).all(-1).mean(),
        }

    found = jax.tree.map(lambda shares: shares.mean(0), over_splits(one, 3))
    mean, error = band(0.9, 99, 99)
    for name in ("plain", "scaled", "low", "high", "box"):
        np.testing.assert_allclose(found[name], mean, rtol=0, atol=error, err_msg=name)
    assert (found["plain, noisy"] < 0.9 - error).all()
    assert (abs(found["scaled, noisy"] - 0.9) <= 2 * error).all()


def test_too_few_examples_give_the_whole_line():
    zeros = jnp.zeros(8)
    ends = jax.jit(
        lambda: (
            uncertainty.fit_cqr(zeros, zeros + 1, zeros, level=0.9)(zeros, zeros + 1),
            uncertainty.fit_residual(zeros, zeros, level=0.9)(zeros),
            uncertainty.fit_residual(zeros, zeros, level=0.9, stddev=zeros + 1)(zeros, stddev=zeros + 1),
        )
    )()
    for lower, upper in ends:
        assert (lower == -jnp.inf).all()
        assert (upper == jnp.inf).all()
    assert uncertainty.coverage(*ends[0], zeros) == 1


def test_a_traced_deviation_of_0_gives_the_whole_line():
    fit = jax.jit(lambda stddev: uncertainty.fit_residual(MEAN[:, 0], Y[:, 0], level=0.9, stddev=stddev))
    call = jax.jit(lambda fitted, stddev: fitted(MEAN[:2, 0], stddev=stddev))
    assert fit(np.zeros(99)).factor == np.inf
    lower, upper = call(fit(STDDEV[:, 0]), np.array([0.0, 1.0]))
    np.testing.assert_array_equal(np.isinf(lower), [True, False])
    np.testing.assert_array_equal(np.isinf(upper), [True, False])


def test_scaled_intervals_of_a_large_offset_contain_what_they_were_fitted_to():
    """Scores of float64 are formed before the cast, and the rounding of a score loses no target."""
    y, stddev = 1e6 + RNG.random(999), RNG.uniform(0.5, 2, 999)
    mean = np.full(999, 1e6)
    fitted = uncertainty.fit_residual(mean, y, level=0.9, stddev=stddev)
    np.testing.assert_allclose(fitted.factor, loop_quantile((y - 1e6) / stddev, 90), rtol=1e-6)
    assert uncertainty.coverage(*fitted(mean, stddev=stddev), y) >= 0.9
    near = (y - 1e6).astype(np.float32)
    fitted = uncertainty.fit_residual(near * 0, near, level=0.999, stddev=near)
    assert uncertainty.coverage(*fitted(near * 0, stddev=near), near) == 1


@pytest.mark.slow
def test_intervals_contain_targets_at_a_distance_that_float32_rounds():
    """The distance is 1 and a little; at 1 all nine would be missed."""
    mean, y = jnp.ones(9), jnp.full(9, -1e-10)

    def covered(mean: jax.Array, y: jax.Array) -> list[jax.Array]:
        both = (
            uncertainty.fit_residual(mean, y, level=0.8)(mean),
            uncertainty.fit_cqr(mean, mean, y, level=0.8)(mean, mean),
        )
        return [uncertainty.coverage(*ends, y) for ends in both]

    assert covered(mean, y) == jax.jit(covered)(mean, y) == [1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uncertainty.fit_cqr([np.inf], [1.0], [0.0], level=0.5), "`lower` must be finite, got inf."),
        (
            lambda: uncertainty.fit_cqr([0.0], [1.0, 2.0], [0.0], level=0.5),
            "`upper` must have the shape of `lower`, (1,), got (2,).",
        ),
        (
            lambda: uncertainty.fit_residual(MEAN, Y, level=0.5, stddev=0 * Y),
            "`stddev` must be finite and above 0 (add a constant where samples agree), got 0.",
        ),
        (
            lambda: uncertainty.fit_residual(MEAN, Y, level=0.5, stddev=STDDEV[:, :2]),
            "`stddev` must broadcast to shape (99, 3), got (99, 2).",
        ),
        (
            lambda: uncertainty.fit_residual(MEAN, Y[:3], level=0.5),
            "`y` must have the shape of `mean`, (99, 3), got (3, 3).",
        ),
        (
            lambda: uncertainty.fit_residual(MEAN, Y, level=0.5)(MEAN, stddev=STDDEV),
            "`stddev` must be None, as it was for the fit, got an array.",
        ),
        (
            lambda: uncertainty.fit_box(MEAN, Y, STDDEV, level=0.5)(MEAN),
            "`stddev` must be given, as it was for the fit, got None.",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
