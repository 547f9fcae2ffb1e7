"""Last-layer Laplace against closed forms in float64: posteriors, predictions and evidence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from jaxdrop import mc

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
H = RNG.normal(size=(30, 5)).astype(np.float32)
Y = (H @ RNG.normal(size=(5, 2)) + 0.3 * RNG.normal(size=(30, 2)) + 1).astype(np.float32)
X = RNG.normal(size=(4, 5)).astype(np.float32)
KERNEL = RNG.normal(size=(5, 3)).astype(np.float32)
BIAS = RNG.normal(size=3).astype(np.float32)
LABELS = (H @ KERNEL + BIAS).argmax(-1)


def with_ones(h: np.ndarray) -> np.ndarray:
    return np.c_[h, np.ones(len(h))].astype(np.float64)


def log_evidence(alpha: float, beta: float) -> float:
    phi = with_ones(H)
    marginal = multivariate_normal(np.zeros(30), np.eye(30) / beta + phi @ phi.T / alpha)
    return sum(marginal.logpdf(column) for column in Y.T.astype(np.float64))


@pytest.mark.parametrize("count", [30, 3])  # more and fewer examples than features
def test_regression_is_bayesian_linear_regression(count: int):
    h, y = H[:count], Y[:count]
    phi, new = with_ones(h), with_ones(X)
    covariance = np.linalg.inv(4 * phi.T @ phi + 0.5 * np.eye(6))
    mean = 4 * covariance @ phi.T @ y
    found = mc.laplace_regression(h, y, prior_precision=0.5, noise_precision=4.0)
    np.testing.assert_allclose(np.r_[found.kernel, found.bias[None]], mean, atol=1e-5)
    moments = found.moments(X)
    np.testing.assert_allclose(moments.mean, new @ mean, atol=1e-5)
    variance = np.einsum("bi,ij,bj->b", new, covariance, new)
    np.testing.assert_allclose(moments.covariance, variance[:, None, None] * np.eye(2), rtol=1e-4, atol=1e-6)
    if count == 30:
        np.testing.assert_allclose(found.log_evidence, log_evidence(0.5, 4.0), rtol=1e-5)
        plain = mc.laplace_regression(h, y, bias=False, prior_precision=0.5, noise_precision=4.0)
        expected = np.linalg.solve(4 * h.T @ h + 0.5 * np.eye(5), 4 * h.T @ y)
        np.testing.assert_allclose(plain.kernel, expected, atol=1e-4)
        assert plain.bias is None


def test_precisions_of_the_largest_evidence():
    def best(fun, count: int) -> np.ndarray:
        found = minimize(lambda logs: -fun(*np.exp(logs)), np.zeros(count), method="Nelder-Mead")
        return np.exp(found.x)

    found = mc.laplace_regression(H, Y)
    # The maximum is flat: the evidence is compared closely, and where it is taken less so.
    expected = best(log_evidence, 2)
    np.testing.assert_allclose([found.prior_precision, found.noise_precision], expected, rtol=1e-2)
    np.testing.assert_allclose(found.log_evidence, log_evidence(*expected), rtol=1e-5)
    of_prior = mc.laplace_regression(H, Y, noise_precision=4.0).prior_precision
    np.testing.assert_allclose(of_prior, best(lambda a: log_evidence(a, 4.0), 1)[0], rtol=1e-2)


def classified(**options) -> mc.Laplace:
    return mc.laplace_classification(H, LABELS, KERNEL, BIAS, **options)


def test_classes_have_the_kronecker_factored_posterior():
    found = classified(prior_precision=0.7)
    phi, new, weights = with_ones(H), with_ones(X), np.r_[KERNEL, BIAS[None]].astype(np.float64)
    probs = np.exp(phi @ weights)
    probs /= probs.sum(-1, keepdims=True)
    of_outputs = np.diag(probs.mean(0)) - probs.T @ probs / 30
    precision = np.kron(phi.T @ phi, of_outputs) + 0.7 * np.eye(18)
    jacobian = np.einsum("bd,kl->bkdl", new, np.eye(3)).reshape(4, 3, 18)
    expected = np.einsum("bki,ij,blj->bkl", jacobian, np.linalg.inv(precision), jacobian)
    moments = found.moments(X)
    np.testing.assert_allclose(moments.covariance, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(moments.mean, new @ weights, atol=1e-4)

    def evidence(alpha: float) -> float:
        volume = np.linalg.slogdet(precision + (alpha - 0.7) * np.eye(18))[1] - 18 * np.log(alpha)
        return np.log(probs[np.arange(30), LABELS]).sum() - 0.5 * (volume + alpha * (weights**2).sum())

    np.testing.assert_allclose(found.log_evidence, evidence(0.7), rtol=1e-4)
    chosen = classified()
    alphas = chosen.prior_precision * np.array([0.9, 1.0, 1.1])
    assert evidence(alphas[1]) > max(evidence(alphas[0]), evidence(alphas[2]))


@pytest.mark.slow
def test_samples_agree_with_the_closed_form_and_the_probit_approximation():
    found = classified(prior_precision=2.0)
    drawn = np.asarray(mc.sample(found, KEY, X, num_samples=4000, chunk_size=4000), np.float64)
    mean, covariance = found.moments(X)
    spread = np.diagonal(covariance, axis1=1, axis2=2)
    assert (np.abs(drawn.mean(0) - mean) < 5 * np.sqrt(spread / 4000) + 1e-5).all()
    off = np.einsum("tbk,tbl->bkl", *(drawn - drawn.mean(0),) * 2) / 3999 - covariance
    error = np.sqrt((spread[:, :, None] * spread[:, None] + np.square(covariance)) / 4000)
    assert (np.abs(off) < 5 * error + 1e-5).all()
    probs = np.exp(drawn) / np.exp(drawn).sum(-1, keepdims=True)
    np.testing.assert_allclose(found.probabilities(X), probs.mean(0), atol=0.03)
    # One layer serves all examples, whichever they are.
    np.testing.assert_allclose(drawn[2, 1:], found(jax.random.fold_in(KEY, 2), X[1:]), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_classes_have_mackays_probit():
    """Against the integral by quadrature."""
    kernel = KERNEL[:, :2]
    found = mc.laplace_classification(H, LABELS % 2, kernel, prior_precision=1.0)
    mean, covariance = (np.asarray(part, np.float64) for part in found.moments(X))
    gap = mean[:, 1] - mean[:, 0]
    spread = covariance[:, 1, 1] + covariance[:, 0, 0] - 2 * covariance[:, 0, 1]
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    exact = (weights / (1 + np.exp(-(gap[:, None] + np.sqrt(spread)[:, None] * points)))).sum(-1)
    np.testing.assert_allclose(found.probabilities(X)[:, 1], exact / weights.sum(), atol=0.02)


@pytest.mark.parametrize(
    ("fit", "args", "message"),
    [
        (mc.laplace_regression, (H, Y[:, 0]), r"`targets` must have shape \[N, K\] with N = 30, got \(30,\)"),
        (mc.laplace_regression, (H, Y[:, :0]), r"`targets` must have shape .* got \(30, 0\)"),
        (
            mc.laplace_regression,
            (H, 0 * Y),
            "`noise_precision` must be given, as none has the largest evidence",
        ),
        (mc.laplace_classification, (0 * H, LABELS, KERNEL), "`prior_precision` and .* must be given"),
        (mc.laplace_regression, (H[0], Y), r"`features` must have shape \[N, D\], not empty, got \(5,\)"),
        (mc.laplace_regression, (H * np.nan, Y), "`features` must be finite"),
        (mc.laplace_classification, (H, LABELS, KERNEL[:4]), r"`kernel` must have shape \[D, K\] with D = 5"),
        (mc.laplace_classification, (H, LABELS, KERNEL, BIAS[:2]), r"`bias` must have shape \[K\], \(3,\)"),
        (mc.laplace_classification, (H, LABELS + 3, KERNEL), r"`labels` must lie in \[0, 2\]"),
        (mc.laplace_classification, (H, LABELS, KERNEL[:, :1]), "`kernel` must have at least 2 classes"),
    ],
)
def test_wrong_arguments(fit, args: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        fit(*args)


def test_wrong_precisions_and_features():
    with pytest.raises(ValueError, match="`prior_precision` must be above 0, got 0"):
        mc.laplace_regression(H, Y, prior_precision=0.0)
    with pytest.raises(ValueError, match=r"`features` must have shape \[B, 5\], got \(4, 4\)"):
        classified(prior_precision=1.0)(KEY, X[:, :4])


def test_integers_are_not_features():
    with pytest.raises(TypeError, match="`features` must be a floating-point array"):
        mc.laplace_regression(jnp.ones((3, 2), int), Y[:3])
