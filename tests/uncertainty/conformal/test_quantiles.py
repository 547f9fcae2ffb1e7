"""Conformal quantiles: ranks, groups and weights against loops in float64, and coverage over splits."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import uncertainty
from tests.splits import band, loop_quantile, over_splits

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(120, 3)).astype(np.float32)
GROUPS = RNG.integers(0, 4, 120)
WEIGHTS = RNG.uniform(size=120)
MASK = RNG.uniform(size=(120, 3)) < 0.7


@pytest.mark.parametrize("percent", [1, 7, 10, 29, 55, 57, 90, 95, 99])
@pytest.mark.parametrize("count", [9, 19, 99, 999])
def test_the_rank_of_the_quantile_is_exact(percent, count):
    scores = RNG.permutation(count) + 1.0
    expected = loop_quantile(scores, percent)
    assert uncertainty.conformal_quantile(scores, percent / 100) == expected


@pytest.mark.parametrize(("percent", "rank"), [(10, 100_001), (90, 900_001)])
def test_the_rank_among_a_million_is_not_rounded_down(percent: int, rank: int):
    assert uncertainty.conformal_quantile(jnp.arange(1.0, 1e6 + 1), percent / 100) == rank


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_a_level_of_half_precision_has_a_rank_of_its_own(dtype):
    level = jnp.asarray(0.9, dtype)
    expected = np.ceil(5000 * float(level))
    assert uncertainty.conformal_quantile(np.arange(1.0, 5000), level) == expected


def test_the_quantile_under_jit_and_of_several_columns():
    scores = RNG.normal(size=(19, 3)).astype(np.float32)
    expected = [uncertainty.conformal_quantile(column, 0.9) for column in scores.T]
    np.testing.assert_array_equal(jax.jit(uncertainty.conformal_quantile)(scores, 0.9), expected)
    assert uncertainty.conformal_quantile([1.0], 0.9) == np.inf


def test_a_quantile_is_not_rounded_below_a_score():
    scores = 1e8 + np.arange(1.0, 20)
    quantile = uncertainty.conformal_quantile(scores, 0.9)
    assert float(quantile) >= scores[17]
    assert int(uncertainty.conformal_quantile(jnp.array([2**24 + 1]), 0.5)) >= 2**24 + 1


def test_traced_levels_out_of_range_break_nothing():
    threshold = jax.jit(lambda level: uncertainty.conformal_quantile(jnp.arange(5.0), level))
    assert threshold(2.0) == np.inf
    assert threshold(-1.0) == 0


def test_a_mask_of_several_columns():
    scores, mask = SCORES[:19], MASK[:19]
    expected = [uncertainty.conformal_quantile(scores[mask[:, i], i], 0.6) for i in range(3)]
    np.testing.assert_array_equal(uncertainty.conformal_quantile(scores, 0.6, where=mask), expected)


@pytest.mark.parametrize("where", [None, MASK])
def test_the_quantile_of_a_group_is_that_of_its_examples(where):
    """Group 4 has no example, and what is masked may be in a group that there is not."""
    groups = GROUPS if where is None else np.where(where.any(-1), GROUPS, 99)
    fitted = jax.jit(
        lambda scores, groups: uncertainty.fit_group_quantile(
            scores, groups, level=0.9, num_groups=5, where=where
        )
    )(SCORES, groups)
    kept = np.ones(SCORES.shape, bool) if where is None else where
    each = [kept & (groups == group)[:, None] for group in range(5)]
    expected = [uncertainty.conformal_quantile(SCORES, 0.9, where=mask) for mask in each]
    np.testing.assert_array_equal(fitted.quantiles, expected)
    assert np.isinf(expected[4]).all()
    np.testing.assert_array_equal(fitted(np.array([[2, 0]])), [[expected[2], expected[0]]])


def test_a_small_group_has_an_infinite_quantile():
    groups = np.repeat([0, 1], [8, 9])
    fit = jax.jit(lambda scores: uncertainty.fit_group_quantile(scores, groups, level=0.9, num_groups=3))
    found = fit(np.arange(17.0))
    np.testing.assert_array_equal(found.quantiles, [np.inf, 16, np.inf])


def test_traced_groups_out_of_range_and_scores_of_nan_are_seen():
    def found(scores, groups):
        return uncertainty.fit_group_quantile(scores, groups, level=0.6, num_groups=2).quantiles

    scores, groups = np.arange(8.0), np.arange(8) % 2
    assert np.isnan(jax.jit(found)(scores, groups + 1)).all()
    scores[1] = np.nan
    np.testing.assert_array_equal(jax.jit(found)(scores, groups), [4, np.nan])
    fitted = uncertainty.GroupQuantile(jnp.arange(2.0))
    np.testing.assert_array_equal(
        jax.jit(lambda groups: fitted(groups))(np.array([1, 2, -1])), [1, np.nan, np.nan]
    )


@pytest.mark.parametrize("where", [None, MASK])
def test_the_weighted_quantile_is_that_of_a_loop(where):
    new = np.array([0.0, 0.5, 3.0, 30.0])
    fitted = jax.jit(
        lambda scores, weights: uncertainty.fit_weighted_quantile(scores, weights, level=0.9, where=where)
    )(SCORES, WEIGHTS)
    found = jax.jit(lambda fitted, weights: fitted(weights))(fitted, new)
    for column, scores in enumerate(SCORES.T):
        kept = slice(None) if where is None else where[:, column]
        order = np.argsort(scores[kept])
        ranked, total = np.append(scores[kept][order], np.inf), np.cumsum(WEIGHTS[kept][order])
        index = np.searchsorted(total, 0.9 * (total[-1] + new))
        np.testing.assert_array_equal(found[:, column], ranked[index])
    assert np.isinf(found[3]).all()


def test_equal_weights_give_the_conformal_quantile():
    @jax.jit
    def both(scores: jax.Array, level: jax.Array) -> tuple[jax.Array, jax.Array]:
        fitted = uncertainty.fit_weighted_quantile(scores, jnp.full(99, 0.25), level=level)
        return fitted(jnp.array(0.25)), uncertainty.conformal_quantile(scores, level)

    for level in (0.07, 0.29, 0.55, 0.9):
        found, expected = both(np.arange(1.0, 100), level)
        assert found == expected


def test_weights_that_are_not_known_give_nan_and_no_weight_gives_infinity():
    fit = jax.jit(lambda scores, weights: uncertainty.fit_weighted_quantile(scores, weights, level=0.5))
    call = jax.jit(lambda fitted, weights: fitted(weights))
    scores, ones = np.arange(5.0), np.ones(5)
    for bad in (np.nan, -1.0, np.inf):
        assert np.isnan(call(fit(scores, np.array([bad, 1, 1, 1, 1])), np.float32(1)))
    assert np.isnan(call(fit(np.where(scores == 2, np.nan, scores), ones), np.float32(1)))
    np.testing.assert_array_equal(call(fit(scores, ones), np.array([-1.0, np.nan])), [np.nan, np.nan])
    assert call(fit(scores, ones * 0), np.float32(0)) == np.inf
    # Their sum is beyond float32.
    assert call(fit(scores, ones * 1e38), np.float32(0)) == np.inf


@pytest.mark.slow
def test_groups_and_weights_cover_where_one_threshold_fails():
    """Group 1, a fifth of the examples, has twice the noise; new inputs under shift have density 3 x^2."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        normal, uniform = jax.random.split(key)
        noise, groups = jnp.abs(jax.random.normal(normal, (2, 200))), (jnp.arange(200) % 5 == 0).astype(int)
        old, new = noise * (1.0 + groups)[None]
        by_group = uncertainty.fit_group_quantile(old, groups, level=0.9, num_groups=2)(groups)
        covered = new[None] <= jnp.stack([by_group, jnp.full(200, uncertainty.conformal_quantile(old, 0.9))])

        x, shifted = jax.random.uniform(uniform, (2, 200))
        shifted = shifted ** (1 / 3)
        old, new = noise * jnp.stack([x, shifted])
        weighted = uncertainty.fit_weighted_quantile(old, 3 * x**2, level=0.9)(3 * shifted**2)
        moved = new[None] <= jnp.stack([weighted, jnp.full(200, uncertainty.conformal_quantile(old, 0.9))])
        return covered[:, ::5].mean(1), covered.mean(1), moved.mean(1)

    noisy, everyone, moved = (shares.mean(0) for shares in over_splits(one, 1))
    mean, error = band(0.9, 40, 40)
    assert abs(noisy[0] - mean) <= error
    assert noisy[1] < 0.9 - error
    mean, error = band(0.9, 200, 200)
    assert abs(everyone[1] - mean) <= error  # one threshold covers, but not in the group
    assert 0.9 - error <= moved[0] <= 0.93
    assert moved[1] < 0.9 - error


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: uncertainty.conformal_quantile([], 0.5), ValueError, "`scores` must not be empty"),
        (
            lambda: uncertainty.fit_group_quantile(SCORES, GROUPS[:3], level=0.5, num_groups=4),
            ValueError,
            "`groups` must have one value per example, shape (120,), got (3,).",
        ),
        (
            lambda: uncertainty.fit_group_quantile(SCORES, GROUPS, level=0.5, num_groups=3),
            ValueError,
            "`groups` must lie in [0, 2], got 3.",
        ),
        (
            lambda: uncertainty.fit_group_quantile(SCORES, WEIGHTS, level=0.5, num_groups=3),
            TypeError,
            "`groups` must be an array of integers, got float32.",
        ),
        (
            lambda: uncertainty.fit_group_quantile(
                SCORES, GROUPS[:3], level=0.5, num_groups=9, where=SCORES[:, :1] > 0
            ),
            ValueError,
            "`groups` must have one value per example, shape (120,), got (3,).",
        ),
        (
            lambda: uncertainty.fit_group_quantile(SCORES, GROUPS, level=0.5, num_groups=0),
            ValueError,
            "`num_groups` must be at least 1, got 0.",
        ),
        (
            lambda: uncertainty.fit_weighted_quantile(SCORES, WEIGHTS[:3], level=0.5),
            ValueError,
            "`weights` must have one value per example, shape (120,), got (3,).",
        ),
        (
            lambda: uncertainty.fit_weighted_quantile(SCORES, -WEIGHTS, level=0.5),
            ValueError,
            "`weights` must be finite and at least 0, got -",
        ),
        (
            lambda: uncertainty.fit_weighted_quantile(SCORES, WEIGHTS, level=0.5)(np.array([np.inf])),
            ValueError,
            "`weights` must be finite and at least 0, got inf.",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
