"""Gaussian scores of features, against SciPy and scikit-learn in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn import covariance

from jaxdrop import uncertainty

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
CLASSES, WIDTH, COUNT = 3, 6, 200
LABELS = RNG.integers(0, CLASSES, COUNT)
MIX = RNG.normal(size=(WIDTH, WIDTH))
FEATURES = np.float32(RNG.normal(size=(COUNT, WIDTH)) @ MIX + 3 * RNG.normal(size=(CLASSES, WIDTH))[LABELS])
NEW = np.float32(4 * RNG.normal(size=(40, WIDTH)))
FITS = {
    "mahalanobis": uncertainty.fit_mahalanobis,
    "relative": uncertainty.fit_relative_mahalanobis,
    "ddu": uncertainty.fit_ddu,
}
each = pytest.mark.parametrize("name", FITS)
# The relative score is two of the first.
both = pytest.mark.parametrize("name", ["mahalanobis", "ddu"])


def squares(x, mean, matrix):
    off = x - mean
    return np.sum(off * np.linalg.solve(matrix, off.T).T, -1)


def reference(name: str, x, labels, new, shrinkage: float = 0.0):
    """The score in float64."""
    x, new, classes = np.float64(x), np.float64(new), range(labels.max() + 1)
    means = [x[labels == c].mean(0) for c in classes]

    def shrunk(rest):
        return covariance.shrunk_covariance(rest.T @ rest / len(rest), shrinkage)

    if name == "ddu":
        parts = [stats.multivariate_normal(m, shrunk(x[labels == c] - m)) for c, m in enumerate(means)]
        logs = [p.logpdf(new) + np.log(np.mean(labels == c)) for c, p in enumerate(parts)]
        return -special.logsumexp(logs, axis=0)
    within = shrunk(x - np.stack(means)[labels])
    nearest = np.min([squares(new, m, within) for m in means], axis=0)
    mean = x.mean(0)
    return nearest - (squares(new, mean, shrunk(x - mean)) if name == "relative" else 0)


@pytest.mark.slow
@each
def test_scores_are_those_of_float64(name):
    for shrinkage in (0.0, 0.3):
        expected = reference(name, FEATURES, LABELS, NEW, shrinkage)
        fitted = FITS[name](FEATURES, LABELS, CLASSES, shrinkage=shrinkage)
        np.testing.assert_allclose(fitted(NEW.reshape(4, 10, -1)).reshape(-1), expected, rtol=1e-4, atol=1e-3)
    inside = fitted(FEATURES[:40])
    assert uncertainty.auroc(inside, fitted(FEATURES[:40] + 50)) == 1


@each
def test_a_mask_leaves_examples_out(name):
    where = RNG.uniform(size=COUNT) < 0.7
    expected = reference(name, FEATURES[where], LABELS[where], NEW)
    features, labels = np.where(where[:, None], FEATURES, np.nan), np.where(where, LABELS, 255)
    found = FITS[name](features, labels, CLASSES, where=where)(NEW)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    jitted = jax.jit(lambda *args: FITS[name](*args[:2], CLASSES, where=args[2])(NEW))
    np.testing.assert_allclose(jitted(features, labels, where), expected, rtol=1e-4, atol=1e-3)
    labels[np.flatnonzero(where)[0]] = 255
    assert np.isnan(jitted(features, labels, where)).all()
    # A class without an example, and a constant feature.
    assert np.isnan(jitted(FEATURES, LABELS // 2, where)).all()
    assert np.isnan(jitted(np.where(np.arange(WIDTH) == 1, 2, FEATURES), LABELS, where)).all()


def test_large_offsets_scales_and_condition_numbers():
    """Condition 1e5, means at 1e3 deviations, numbers near 1e-15: a covariance of raw float32 is lost."""
    basis = np.linalg.qr(RNG.normal(size=(WIDTH, WIDTH)))[0] * np.geomspace(1, 300, WIDTH) @ MIX
    mixed = RNG.normal(size=(COUNT, WIDTH)) @ basis
    x = np.float32(1e-15 * (mixed + 1e3 * np.abs(mixed).mean()))
    assert 1e5 < np.linalg.cond(np.cov(np.float64(1e15 * x).T)) < 1e7
    new = x[:30] + np.float32(1e-15) * np.float32(RNG.normal(size=(30, WIDTH)))
    expected = reference("mahalanobis", np.float64(x) * 1e15, LABELS, np.float64(new) * 1e15)
    found = uncertainty.fit_mahalanobis(x, LABELS, CLASSES)(new)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=0.02)


@both
def test_a_shrunk_singular_covariance(name):
    """A constant feature, one that repeats another, fewer examples than features."""
    wide = np.concatenate([FEATURES[:30], 0 * FEATURES[:30] + 2, FEATURES[:30]], -1)
    new = np.concatenate([NEW, 0 * NEW + 2.5, NEW], -1)
    labels = np.arange(30) % CLASSES
    expected = reference(name, wide, labels, new, 0.01)
    fitted = FITS[name](wide, labels, CLASSES, shrinkage=0.01)
    np.testing.assert_allclose(fitted(new), expected, rtol=1e-3, atol=1e-3)


SINGULAR = {
    "constant": (
        np.where(np.arange(WIDTH) == 1, 2, FEATURES),
        "200 examples of 6 features, 1 of them constant",
    ),
    "few": (np.eye(8, dtype=np.float32)[:, :6], "8 examples of 6 features, 0 of them constant"),
    "dependent": (
        np.concatenate([FEATURES, FEATURES.sum(-1, keepdims=True)], -1),
        "200 examples of 7 features, 0 of them constant",
    ),
}


@pytest.mark.slow
@both
def test_singular_covariances_are_refused(name):
    for features, told in SINGULAR.values():
        message = "to the precision of float32, got one of "
        with pytest.raises(ValueError, match=re.escape(message + told)):
            FITS[name](features, np.arange(len(features)) % CLASSES, CLASSES)


def test_a_fit_passes_through_jit():
    fitted = uncertainty.fit_mahalanobis(FEATURES, LABELS, CLASSES)
    found = jax.jit(lambda fitted, x: fitted(x))(fitted, NEW)
    np.testing.assert_allclose(found, fitted(NEW), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: uncertainty.fit_mahalanobis(FEATURES, LABELS, CLASSES + 1),
            ValueError,
            "`labels` must have at least 1 of each class, got 0 of class 3.",
        ),
        (
            lambda: uncertainty.fit_ddu(FEATURES, np.arange(COUNT) == 0 + 0, 2),
            TypeError,
            "`labels` must be an array of integers, got bool.",
        ),
        (
            lambda: uncertainty.fit_ddu(FEATURES, (np.arange(COUNT) == 0).astype(int), 2),
            ValueError,
            "`labels` must have at least 2 of each class, got 1 of class 1.",
        ),
        (
            lambda: uncertainty.fit_ddu(FEATURES, LABELS, 2),
            ValueError,
            "`labels` must lie in [0, 1], got 2.",
        ),
        (
            lambda: uncertainty.fit_ddu(FEATURES, LABELS, 3, shrinkage=1.5),
            ValueError,
            "`shrinkage` must lie in [0, 1], got 1.5.",
        ),
        (
            lambda: uncertainty.fit_ddu(np.where(FEATURES > 2, np.inf, FEATURES), LABELS, 3),
            ValueError,
            "`features` must be finite, got inf.",
        ),
        (
            lambda: uncertainty.fit_mahalanobis(FEATURES, LABELS, 3)(NEW[:, :4]),
            ValueError,
            "`features` must have 6 along the last axis, got 4.",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_density_sums_to_one():
    """On a grid of one feature."""
    x = jnp.concatenate([jnp.linspace(-1, 1, 20), jnp.linspace(4, 5, 30)])[:, None]
    fitted = uncertainty.fit_ddu(x, np.repeat([0, 1], [20, 30]), 2)
    grid = jnp.linspace(-10, 15, 5001)[:, None]
    np.testing.assert_allclose(jnp.exp(-fitted(grid)).sum() * 0.005, 1, rtol=1e-3)
