"""Class probabilities and entropies of Gaussian logits, by fixed points: no key and no Monte-Carlo error."""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike
from jaxdrop.mc import _covariances, _devices
from jaxdrop.uncertainty._unchecked import entropy_of

__all__ = ["gaussian_classes"]

# Numbers of one intermediate array: a few of them fit the cache of a CPU.
_CHUNK = 2**19


def gaussian_classes(
    mean: ArrayLike,
    covariance: ArrayLike,
    *,
    num_points: int = 1024,
    log_mean: bool = False,
    chunk_size: int | None = None,
) -> dict[str, jax.Array]:
    """Mean class probabilities and uncertainties of Gaussian logits, by quasi-Monte Carlo on fixed points.

    The estimates of `Categorical` for infinitely many samples of logits with this mean and covariance, if
    their distribution is Gaussian. The points are a Sobol' sequence along the principal axes of the
    covariance, so the result is a function of the arguments alone.

    The error of the integral was measured on 272 random Gaussians of 2 to 1000 classes with standard
    deviations of about 0.1 to 10. In a probability it is typically (median) below 0.0004 and at most 0.01,
    in an entropy 0.002 and 0.04 nats; with 4096 points half of that or less. For two classes it is at most
    0.0002 and 0.0005. The error of taking the logits of dropout for Gaussian is another, and larger: see
    "Moments, matched, balanced or independent" in the README.

    The time of an example is that of `num_points * K * (K + 30)` multiplications and of one
    eigendecomposition of `[K, K]`, about `10 * K**3`. The memory is about
    `B * (5 * chunk_size * K + 4 * K**2)` numbers.

    Args:
      mean: The means of the logits, `[B, K]`.
      covariance: Their covariances, `[B, K, K]`, symmetric and positive semidefinite to rounding. They may
        be singular. Variances alone are refused: logits vary together, and without their correlations
        probabilities are up to ten times as far off.
      num_points: The number of points, a power of 2 of at least 16.
      log_mean: Whether to return the log of the mean probabilities, too.
      chunk_size: The number of points computed at once. None: as many as fit the cache of a CPU.

    Returns:
      A dictionary of arrays, in float32 at least. "mean" has the mean probabilities, `[B, K]`. Of shape
      `[B]` are "total_entropy", "expected_entropy" and "mutual_information", in nats, and
      "variation_ratio". With `log_mean` there is "log_mean" `[B, K]`, too. Values of the mutual
      information below 1e-6 are rounding. First derivatives in `covariance` are those of the integral; the
      variation ratio has none. NaN for traced covariances with a negative eigenvalue. On an explicit mesh
      the results are sharded as the examples of `mean`.

    Raises:
      TypeError: If an argument is not floating-point, or a count is not an integer.
      ValueError: If the shapes do not match, a count is out of range, or concrete values are not finite or
        not a covariance.
      NotImplementedError: For second derivatives in `covariance`.

    References:
      Sobol', "On the distribution of points in a cube and the approximate evaluation of integrals", 1967;
      Joe and Kuo, "Constructing Sobol sequences with better two-dimensional projections", 2008 (the
      sequence); Price, "A useful theorem for nonlinear devices having Gaussian inputs", 1958 (the gradient).

    Examples:
      >>> found = gaussian_classes(jnp.array([[2.0, 0.0]]), 4 * jnp.eye(2)[None])
      >>> found["mean"][:, 0].round(3), found["mutual_information"].round(3)
      (Array([0.726], dtype=float32), Array([0.27], dtype=float32))
    """
    tolerance = _covariances.tolerance_of(covariance)
    mean, covariance = _covariances.as_moments(mean, covariance)
    _predictions.check_classes(mean.shape, "mean", "for one logit z, stack 0 and z")
    num_points = _checks.check_count(num_points, "num_points", 16)
    if num_points & (num_points - 1):
        raise ValueError(f"`num_points` must be a power of 2, got {num_points}.")
    if chunk_size is None:
        chunk_size = max(_CHUNK // mean.size, 1)
    # A power of 2, so that it divides the number of points.
    chunk = 1 << (min(_checks.check_count(chunk_size, "chunk_size"), num_points).bit_length() - 1)
    batch = PartitionSpec(*jax.typeof(mean).sharding.spec[:1])
    run = partial(_estimates, _Rule(num_points, chunk, tolerance), bool(log_mean))
    found = _devices.on_automatic_axes(run, mean, covariance, out=batch)
    if _predictions.is_visible(found["mean"]) and np.isnan(np.asarray(found["mean"])).any():
        _covariances.check_semidefinite(covariance, tolerance)
    return found


class _Rule(NamedTuple):
    """How an integral is computed.

    Attributes:
      num_points: The number of points.
      chunk: The number of them computed at once, a divisor.
      tolerance: The relative rounding of the covariances.
    """

    num_points: int
    chunk: int
    tolerance: float


@partial(jax.jit, static_argnums=(0, 1))
def _estimates(rule: _Rule, log_mean: bool, mean: jax.Array, covariance: jax.Array) -> dict[str, jax.Array]:
    logs, expected, shares = _integrals(rule, mean, covariance)
    probs = jnp.exp(logs)
    total = entropy_of(probs)
    information = total - expected
    # At least 0, with the gradient of the difference.
    information = information + jax.lax.stop_gradient(jnp.maximum(information, 0) - information)
    return ({"log_mean": logs} if log_mean else {}) | {
        "mean": probs,
        "total_entropy": total,
        "expected_entropy": expected,
        "mutual_information": information,
        "variation_ratio": 1 - shares.max(-1),
    }


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _integrals(rule: _Rule, mean: jax.Array, covariance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logs of mean probabilities `[B, K]`, mean entropies `[B]` and the shares of each class `[B, K]`."""
    factor = _factor(rule, covariance)
    start = (jnp.full_like(mean, -jnp.inf), jnp.zeros_like(mean[:, 0]), jnp.zeros_like(mean))

    def add(sums: tuple[jax.Array, jax.Array, jax.Array], points: jax.Array):
        logits = _logits(mean, factor, points)
        logs = jax.nn.log_softmax(logits)
        entropies = -(jnp.exp(logs) * logs).sum(-1)
        votes = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=logits.dtype)
        log_sum = jnp.logaddexp(sums[0], jax.nn.logsumexp(logs, 1))
        return (log_sum, sums[1] + entropies.sum(1), sums[2] + votes.sum(1)), None

    (log_sum, entropy, votes), _ = jax.lax.scan(add, start, _chunks(rule, mean))
    return log_sum - float(np.log(rule.num_points)), entropy / rule.num_points, votes / rule.num_points


@_integrals.defjvp
def _integrals_jvp(rule: _Rule, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]):
    """The derivative of an expectation of f in the covariance is half the expected Hessian of f (Price).

    That of the points would need the derivatives of eigenvectors, which are infinite where eigenvalues are
    equal or 0.
    """
    (mean, covariance), (shift, spread) = primals, tangents
    logs, expected, shares = found = _integrals(rule, mean, covariance)
    factor = _factor(rule, covariance)
    spread = (spread + spread.swapaxes(1, 2)) / 2
    variances = jnp.diagonal(spread, axis1=1, axis2=2)

    @jax.checkpoint
    def add(sums: tuple[jax.Array, jax.Array], points: jax.Array):
        log_probs = jax.nn.log_softmax(_logits(mean, factor, points))
        probs = jnp.exp(log_probs)

        def average(values: jax.Array) -> jax.Array:
            return (probs * values).sum(-1, keepdims=True)

        along = jnp.einsum("bnk,bkj->bnj", probs, spread, precision="highest")
        # Relative changes of each probability: of first order in the mean, of second in the spread.
        first = shift[:, None] - average(shift[:, None])
        second = variances[:, None] - average(variances[:, None]) - 2 * (along - average(along))
        change = first + second / 2
        # Of p * log p, whose second derivative has a term of the squared change more.
        entropy = -(log_probs * probs * change).sum(-1)
        squares = average(variances[:, None]) - average(along)
        weights = jnp.exp(log_probs - logs[:, None]) / rule.num_points
        return (sums[0] + (weights * change).sum(1), sums[1] + (entropy - squares[..., 0] / 2).sum(1)), None

    start = jnp.zeros_like(mean), jnp.zeros_like(expected)
    (change, entropy), _ = jax.lax.scan(add, start, _chunks(rule, mean))
    return found, (change, entropy / rule.num_points, jnp.zeros_like(shares))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _factor(rule: _Rule, covariance: jax.Array) -> jax.Array:
    """A factor `[B, K, K - 1]` of the covariance of the logits less their mean, in descending order.

    A softmax does not change if all logits change alike.
    """
    centered = covariance - covariance.mean(1, keepdims=True)
    centered = centered - centered.mean(2, keepdims=True)
    roots, vectors = _covariances.eigen(centered, _covariances.largest(covariance), rule.tolerance)
    return (vectors * roots[:, None])[:, :, :-1]


@_factor.defjvp
def _factor_jvp(rule: _Rule, primals: tuple[jax.Array], tangents: tuple[jax.Array]):
    raise NotImplementedError("`gaussian_classes` has no second derivatives in `covariance`.")


def _logits(mean: jax.Array, factor: jax.Array, points: jax.Array) -> jax.Array:
    """Logits `[B, n, K]` at some points."""
    return mean[:, None] + jnp.einsum("nr,bkr->bnk", points, factor, precision="highest")


def _chunks(rule: _Rule, mean: jax.Array) -> jax.Array:
    """The points, `[chunks, n, K - 1]`."""
    points = _points(rule.num_points, mean.shape[-1] - 1).astype(mean.dtype)
    return jnp.asarray(points.reshape(-1, rule.chunk, points.shape[-1]))


@lru_cache(maxsize=8)
def _points(count: int, dimensions: int) -> np.ndarray:
    """Normal quantiles at the points of a scrambled Sobol' sequence, of one fixed scrambling `[n, d]`.

    Without scrambling, the tails have too little weight, and so has the mutual information.
    """
    from scipy.special import ndtri  # comes with JAX; takes long to import
    from scipy.stats import qmc

    uniform = qmc.Sobol(dimensions, rng=np.random.default_rng(0)).random(count)
    return ndtri(uniform + 2.0**-31)  # they are multiples of 2**-30
