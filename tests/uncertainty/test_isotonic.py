"""Isotonic fits against scikit-learn's in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn.isotonic import IsotonicRegression

from jaxdrop import uncertainty
from tests.devices import make_mesh

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
COUNT, CLASSES = 400, 4
TRUTH = 2 * RNG.normal(size=(COUNT, CLASSES))
LABELS = np.array([RNG.choice(CLASSES, p=p) for p in special.softmax(TRUTH, axis=-1)])
LOGITS = np.float32(TRUTH * 3 + 0.5 * RNG.normal(size=TRUTH.shape) + np.array([1, 0, -1, 0]))
PROBS = np.float32(special.softmax(LOGITS, axis=-1))

CURVES = {
    "noisy": (RNG.uniform(size=200), RNG.normal(size=200)),
    "labels": (RNG.uniform(size=200), RNG.integers(0, 2, 200)),
    "rising": (np.arange(50.0), np.arange(50.0) ** 2),
    "falling": (np.arange(50.0), -np.arange(50.0)),
    "ties": (RNG.integers(0, 12, 200), RNG.normal(size=200)),
    "constant": (np.zeros(9), np.arange(9.0)),
    "one": (np.zeros(1), np.ones(1)),
}


@pytest.mark.parametrize("name", CURVES)
def test_isotonic_regression_is_that_of_scikit_learn(name):
    x, y = (np.float32(a) for a in CURVES[name])
    expected = IsotonicRegression().fit(x, y).predict(x)
    for fit in (uncertainty.isotonic_regression, jax.jit(uncertainty.isotonic_regression)):
        np.testing.assert_allclose(fit(x, y), expected, rtol=1e-4, atol=1e-5)


def test_isotonic_regression_of_many():
    """Ten thousand coins."""
    x = RNG.uniform(size=10_000).astype(np.float32)
    y = (RNG.uniform(size=10_000) < x).astype(np.float32)
    expected = IsotonicRegression().fit(x, y).predict(x)
    np.testing.assert_allclose(jax.jit(uncertainty.isotonic_regression)(x, y), expected, atol=1e-4)


@pytest.mark.slow
def test_isotonic_regression_of_a_million_in_one_pool():
    fitted = jax.jit(uncertainty.isotonic_regression)(jnp.zeros(1_000_000), jnp.full(1_000_000, 0.1))
    np.testing.assert_allclose(fitted, 0.1, rtol=1e-4)


@pytest.mark.slow
def test_isotonic_regression_of_infinities():
    x, y = jnp.arange(6.0), jnp.array([-jnp.inf, 1.0, 0.0, 2.0, jnp.inf, 3.0])
    expected = [-np.inf, 0.5, 0.5, 2, np.inf, np.inf]
    np.testing.assert_array_equal(uncertainty.isotonic_regression(x, y), expected)
    assert np.isfinite(jax.grad(lambda y: uncertainty.isotonic_regression(x, y)[1:4].sum())(y)).all()


@pytest.mark.slow
def test_gradient_of_isotonic_regression_is_that_of_the_means():
    x, y = jnp.arange(4.0), jnp.array([0.0, 3.0, 1.0, 5.0])
    jacobian = jax.jacrev(uncertainty.isotonic_regression, 1)(x, y)
    expected = [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(jacobian, expected)


@pytest.mark.slow
def test_isotonic_calibration_is_scikit_learns_one_against_the_rest():
    fitted = jax.jit(uncertainty.fit_isotonic)(PROBS, LABELS)
    new = RNG.dirichlet(np.ones(CLASSES), size=100).astype(np.float32)
    peer = IsotonicRegression(out_of_bounds="clip")  # in float64: in float32 it joins close values
    fits = [peer.fit(np.float64(PROBS[:, k]), k == LABELS).predict(new[:, k]) for k in range(CLASSES)]
    expected = np.stack(fits, axis=-1) / np.sum(fits, axis=0)[:, None]
    np.testing.assert_allclose(fitted(new), expected, atol=1e-4)
    np.testing.assert_allclose(fitted(new).sum(-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_isotonic_calibration_of_two_classes_lowers_the_nll():
    probs = np.stack([1 - PROBS[:, 0], PROBS[:, 0]], axis=-1)
    labels = (LABELS == 0).astype(int)
    fitted = uncertainty.fit_isotonic(probs, labels)
    assert uncertainty.nll(fitted(probs), labels).mean() < uncertainty.nll(probs, labels).mean()
    assert uncertainty.ece(fitted(probs), labels) < uncertainty.ece(probs, labels)


def test_isotonic_calibration_where_each_class_is_given_0_is_uniform():
    fitted = uncertainty.fit_isotonic(jnp.eye(3)[:2], jnp.array([2, 2]))
    np.testing.assert_allclose(fitted(jnp.array([0.0, 0.0, 1.0])), [0, 0, 1])
    nothing = uncertainty.Isotonic(jnp.zeros((3, 1)), jnp.zeros((3, 1)))
    np.testing.assert_allclose(nothing(jnp.array([0.0, 0.5, 0.5])), 1 / 3, rtol=1e-6)


def test_fits_pass_through_jit():
    fitted = uncertainty.fit_isotonic(PROBS, LABELS)
    applied = jax.jit(lambda fitted, probs: fitted(probs))(fitted, PROBS)
    np.testing.assert_allclose(applied, fitted(PROBS), atol=1e-6)


def test_a_mislabeled_example_at_the_top():
    """Pools that grow by one point at a time: passes over all points would be quadratic."""
    y = np.float32(np.r_[2.0, np.arange(1, 20_000) / 20_000])
    x = np.arange(len(y))
    expected = IsotonicRegression().fit(x, np.float64(y)).predict(x)
    np.testing.assert_allclose(uncertainty.isotonic_regression(x, y), expected, rtol=1e-5)


def test_sorted_targets_are_their_own_fit():
    """A masked point after the last falls nowhere."""
    x, y = jnp.arange(7.0), jnp.array([0.0, 1.0, 1.0, 5.0, 6.0, 9.0, 0.0])
    for fit in (uncertainty.isotonic_regression, jax.jit(uncertainty.isotonic_regression)):
        np.testing.assert_array_equal(fit(x, y, where=jnp.arange(7) < 6)[:6], y[:6])


def test_values_far_from_zero():
    x, noise = np.arange(2000), RNG.normal(size=2000)
    y = np.float32(1e4 + noise + x / 2000)
    expected = IsotonicRegression().fit(x, np.float64(y)).predict(x)
    np.testing.assert_allclose(uncertainty.isotonic_regression(x, y), expected, atol=5e-3)


@pytest.mark.slow
def test_batches_and_their_gradients():
    """Batched by `vmap`, which takes one after another."""
    x, y = jnp.arange(4.0), jnp.array([[0.0, 3.0, 1.0, 5.0], [3.0, 2.0, 1.0, 0.0]])
    found = jax.jit(jax.vmap(uncertainty.isotonic_regression, in_axes=(None, 0)))(x, y)
    np.testing.assert_allclose(found, [[0, 2, 2, 5], [1.5] * 4])
    grad = jax.vmap(jax.grad(lambda y: uncertainty.isotonic_regression(x, y)[1]))(y)
    np.testing.assert_allclose(grad, [[0, 0.5, 0.5, 0], [0.25] * 4])


def test_positions_in_float64_keep_their_order():
    x = 1 - 1e-9 * RNG.permutation(50).astype(np.float64)
    y = RNG.normal(size=50)
    ranks = np.argsort(np.argsort(x))
    expected = IsotonicRegression().fit(ranks, y).predict(ranks)
    np.testing.assert_allclose(uncertainty.isotonic_regression(x, y), expected, rtol=1e-5, atol=1e-6)


def test_a_mask_leaves_points_out():
    x, y, where = RNG.uniform(size=60).round(1), RNG.normal(size=60), RNG.uniform(size=60) < 0.6
    expected = np.full(60, np.nan)
    expected[where] = uncertainty.isotonic_regression(x[where], y[where])
    x[~where], y[~where] = np.nan, np.nan
    for fit in (uncertainty.isotonic_regression, jax.jit(uncertainty.isotonic_regression)):
        np.testing.assert_allclose(fit(x, y, where=where), expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(uncertainty.isotonic_regression(x, y, where=np.zeros(60, bool))).all()


@pytest.mark.slow
def test_a_mask_leaves_labels_out():
    probs, labels, where = PROBS.copy(), LABELS.copy(), RNG.uniform(size=COUNT) < 0.7
    expected = uncertainty.fit_isotonic(PROBS[where], LABELS[where])(PROBS)
    probs[~where], labels[~where] = np.nan, 255
    for fit in (uncertainty.fit_isotonic, jax.jit(uncertainty.fit_isotonic)):
        np.testing.assert_allclose(fit(probs, labels, where=where)(PROBS), expected, atol=1e-6)


def test_a_traced_label_out_of_range_gives_nan():
    labels = LABELS.copy()
    labels[3] = -100
    assert np.isnan(jax.jit(uncertainty.fit_isotonic)(PROBS, labels)(PROBS)).all()


def test_a_traced_position_that_is_not_a_number_gives_nan():
    fit = jax.jit(uncertainty.isotonic_regression)
    assert np.isnan(fit(jnp.array([0.0, jnp.nan, 1.0]), jnp.array([3.0, 2.0, 1.0]))).all()


def test_points_on_an_explicit_mesh():
    mesh = make_mesh((2,), ("a",), (jax.sharding.AxisType.Explicit,))
    rows = jax.NamedSharding(mesh, jax.P("a"))
    x, y = (np.float32(part[:48]) for part in CURVES["ties"])
    found = uncertainty.isotonic_regression(*jax.device_put((x, y), rows))
    np.testing.assert_array_equal(found, uncertainty.isotonic_regression(x, y))
    fitted = uncertainty.fit_isotonic(*jax.device_put((PROBS, LABELS), rows))
    np.testing.assert_array_equal(fitted.values, uncertainty.fit_isotonic(PROBS, LABELS).values)


def test_tiny_thresholds_are_told_apart():
    """`jnp.interp` takes those closer than 1e-14 for equal."""
    thresholds = jnp.array([[0.0, 1e-16, 3e-16], [0.0, 0.5, 1.0]])
    fitted = uncertainty.Isotonic(thresholds, jnp.array([[0.0, 0.25, 0.75], [0.0, 0.5, 1.0]]))
    probs = np.array([[3e-16, 1.0], [2e-16, 1.0], [1.0, 0.0]], np.float32)
    expected = np.array([[0.75, 1], [0.5, 1], [0.75, 0]])
    np.testing.assert_allclose(fitted(probs), expected / expected.sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.fit_isotonic(PROBS, LABELS)(
                PROBS[:, :2] / PROBS[:, :2].sum(-1, keepdims=True)
            ),
            ValueError,
            "`probs` must have the 4 classes of the fit, got 2.",
        ),
        (
            lambda: uncertainty.isotonic_regression(np.ones(3), np.ones(4)),
            ValueError,
            "`y` must have the shape of `x`, (3,), got (4,).",
        ),
        (
            lambda: uncertainty.isotonic_regression(np.ones((3, 1)), np.ones(3)),
            ValueError,
            "`x` must have one axis",
        ),
        (
            lambda: uncertainty.isotonic_regression(np.ones(3), np.ones(3), where=np.ones(3)),
            TypeError,
            "`where` must be a boolean array, got float64.",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
