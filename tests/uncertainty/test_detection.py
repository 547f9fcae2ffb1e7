"""Standard errors of detection: DeLong's formula, and the spread over many simulated data sets."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
INSIDE, OUTSIDE = RNG.normal(size=60).round(1), RNG.normal(0.8, size=40).round(1)
SETS = 200
SCORES = ("auroc", "aupr", "fpr95")


def placements(inside, outside) -> tuple[np.ndarray, np.ndarray]:
    """Of each example the share of the other set that it is on the right side of."""
    wins = (outside > inside[:, None]) + (outside == inside[:, None]) / 2
    return wins.mean(0), wins.mean(1)


def error(outside: np.ndarray, inside: np.ndarray) -> float:
    return np.sqrt(outside.var(ddof=1) / len(outside) + inside.var(ddof=1) / len(inside))


def test_delong():
    first, second = placements(INSIDE, OUTSIDE), placements(INSIDE**2, OUTSIDE)
    found = uncertainty.auroc_with_error(INSIDE, OUTSIDE)
    np.testing.assert_allclose(found, (first[0].mean(), error(*first)), rtol=1e-5)
    found = uncertainty.auroc_difference((INSIDE, OUTSIDE), (INSIDE**2, OUTSIDE))
    expected = (first[0] - second[0]).mean(), error(first[0] - second[0], first[1] - second[1])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SCORES)
def test_values_are_those_of_the_scores_and_masks_leave_examples_out(name):
    score, with_error = getattr(uncertainty, name), getattr(uncertainty, f"{name}_with_error")
    expected = with_error(INSIDE, OUTSIDE)
    np.testing.assert_allclose(expected.value, score(INSIDE, OUTSIDE), rtol=1e-6)
    more = np.append(INSIDE, [np.nan, 7]), np.append([9, -9], OUTSIDE)
    masks = {"where_in": np.arange(62) < 60, "where_out": np.arange(42) > 1}
    jitted = jax.jit(with_error)
    np.testing.assert_allclose(jitted(*more, **masks), expected, rtol=1e-5)
    everyone = {"where_in": np.ones(62, bool), "where_out": np.ones(42, bool)}
    assert np.isnan(jitted(*more, **everyone).value)


def drawn(key: jax.Array) -> tuple[jax.Array, ...]:
    """Scores of two methods, some of them tied."""
    keys = jax.random.split(key, 4)
    inside, outside = jax.random.normal(keys[0], (250,)), jax.random.normal(keys[1], (200,)) + 1
    noisy = [x + jax.random.normal(k, x.shape) for x, k in ((inside, keys[2]), (outside, keys[3]))]
    return inside, jnp.round(outside, 1), *noisy


@pytest.mark.slow
def test_errors_are_the_spread_over_many_data_sets():
    """The spread of 200 is known to 5 %, and that of FPR95 is estimated from few examples."""

    def of_all(key: jax.Array) -> dict[str, uncertainty.Score]:
        a, b, c, d = drawn(key)
        found = {name: getattr(uncertainty, f"{name}_with_error")(a, b) for name in SCORES}
        return found | {"difference": uncertainty.auroc_difference((a, b), (c, d))}

    keys = jax.random.split(jax.random.key(0), SETS)
    for name, found in jax.jit(jax.vmap(of_all))(keys).items():
        spread, stated = np.std(found.value, ddof=1), np.sqrt(np.mean(found.standard_error**2))
        uncertain = 5 * np.hypot(1 / np.sqrt(2 * SETS), np.std(found.standard_error) / stated / np.sqrt(SETS))
        assert abs(stated / spread - 1) < uncertain, name


@pytest.mark.slow
def test_sets_that_do_not_overlap():
    apart = jnp.arange(30.0), jnp.arange(50.0, 80.0)
    assert tuple(uncertainty.auroc_with_error(*apart)) == (1, 0)
    assert uncertainty.fpr95_with_error(*apart).standard_error > 0
    assert np.isnan(uncertainty.auroc_with_error(apart[0], apart[1][:1]).standard_error)


def test_bad_arguments():
    with pytest.raises(ValueError, match=re.escape("`second` must have the shapes of `first`")):
        uncertainty.auroc_difference((INSIDE, OUTSIDE), (OUTSIDE, INSIDE))
