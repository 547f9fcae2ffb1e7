"""Out-of-distribution scores of features by Gaussians, fitted on training examples.

Scores are larger for examples that are more out of distribution. A fit returns a small pytree that is
called on new features. Covariances are computed from centered features and whitened twice, so that
float32 is enough for a condition number of up to about 1e6. Worse ones, and singular ones, are refused:
leave constant and dependent features out, or shrink the covariance.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty import _gaussians

__all__ = [
    "DDU",
    "Mahalanobis",
    "RelativeMahalanobis",
    "fit_ddu",
    "fit_mahalanobis",
    "fit_relative_mahalanobis",
]


class Mahalanobis(NamedTuple):
    """Gaussians of one covariance; a call returns the squared distance to the nearest mean.

    Attributes:
      means: The mean of each class, `[K, D]`.
      whitening: A matrix whose product with its transpose is the inverse covariance, `[D, D]`.
    """

    means: jax.Array
    whitening: jax.Array

    def __call__(self, features: ArrayLike) -> jax.Array:
        """Squared Mahalanobis distances of features `[..., D]` to the nearest mean, `[...]`."""
        return _gaussians.scored(_distance, features, *self)


class RelativeMahalanobis(NamedTuple):
    """A Mahalanobis distance to classes, and one to all examples; a call returns their difference.

    Attributes:
      classes: The Gaussians of the classes.
      background: The Gaussian of all examples together, of one mean.
    """

    classes: Mahalanobis
    background: Mahalanobis

    def __call__(self, features: ArrayLike) -> jax.Array:
        """Squared distances of features `[..., D]` to the nearest class minus those to all, `[...]`."""
        return self.classes(features) - self.background(features)


class DDU(NamedTuple):
    """A Gaussian per class; a call returns minus the log density of their mixture.

    Attributes:
      log_weights: The logarithm of each class's share of the examples, `[K]`.
      means: The mean of each class, `[K, D]`.
      whitening: Matrices whose products with their transposes are the inverse covariances, `[K, D, D]`;
        upper triangular.
    """

    log_weights: jax.Array
    means: jax.Array
    whitening: jax.Array

    def __call__(self, features: ArrayLike) -> jax.Array:
        """Minus the log density at features `[..., D]`, in nats, `[...]`."""
        return _gaussians.scored(_surprise, features, self.means, self.whitening, self.log_weights)


def fit_mahalanobis(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    shrinkage: Numeric = 0.0,
    where: ArrayLike | None = None,
) -> Mahalanobis:
    """Mahalanobis score: the squared distance to the nearest class mean, with one covariance for all.

    Args:
      features: Features of training examples, such as those before the last layer, `[N, D]`; further
        leading axes are examples, too.
      labels: Integers in [0, num_classes), `[N]`.
      num_classes: The number of classes, each with at least one example.
      shrinkage: The covariance S becomes `(1 - shrinkage) * S + shrinkage * trace(S) / D * identity`;
        in [0, 1], may be traced. Above 0 a singular one becomes regular: 1e-3, for example.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.

    Returns:
      A `Mahalanobis`. The covariance has the denominator N. NaN if a traced label is out of range, a
      class has no example, or the covariance is singular.

    Raises:
      TypeError: If `features` are not floating-point, `labels` or `num_classes` are not integers,
        `shrinkage` is not real, or `where` is not boolean.
      ValueError: If the shapes do not match, `features` are empty, `shrinkage` is outside [0, 1], or
        concrete features are not finite, labels out of range, a class has too few examples, or the
        covariance is singular.

    References:
      Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial
      attacks", 2018.

    Examples:
      >>> features = jnp.array([[0.0, 1.0], [2.0, 1.0], [1.0, 0.0], [1.0, 2.0]])
      >>> fit_mahalanobis(features, jnp.zeros(4, int), 1)(jnp.array([[1.0, 1.0], [1.0, 4.0]])).round(3)
      Array([ 0., 18.], dtype=float32)
    """
    given = _gaussians.check_features(features, labels, num_classes, shrinkage, where)
    return _gaussians.check_fit(Mahalanobis(*_gaussians.tied(given)), given)


def fit_relative_mahalanobis(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    shrinkage: Numeric = 0.0,
    where: ArrayLike | None = None,
) -> RelativeMahalanobis:
    """Relative Mahalanobis score: the distance to the nearest class minus that to all examples.

    The difference removes what all classes have in common, which helps for near out-of-distribution
    examples. It may be negative.

    Args:
      features: Features of training examples, such as those before the last layer, `[N, D]`; further
        leading axes are examples, too.
      labels: Integers in [0, num_classes), `[N]`.
      num_classes: The number of classes, each with at least one example.
      shrinkage: Both covariances S become `(1 - shrinkage) * S + shrinkage * trace(S) / D * identity`;
        in [0, 1], may be traced. Above 0 a singular one becomes regular: 1e-3, for example.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.

    Returns:
      A `RelativeMahalanobis`. Covariances have the denominator N. NaN if a traced label is out of range,
      a class has no example, or a covariance is singular.

    Raises:
      TypeError: If `features` are not floating-point, `labels` or `num_classes` are not integers,
        `shrinkage` is not real, or `where` is not boolean.
      ValueError: If the shapes do not match, `features` are empty, `shrinkage` is outside [0, 1], or
        concrete features are not finite, labels out of range, a class has too few examples, or a
        covariance is singular.

    References:
      Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD detection", 2021.

    Examples:
      >>> features = jnp.array([[0.0, 1.0], [2.0, 1.0], [1.0, 0.0], [5.0, 2.0], [7.0, 0.0]])
      >>> fitted = fit_relative_mahalanobis(features, jnp.array([0, 0, 0, 1, 1]), 2)
      >>> fitted(jnp.array([[1.0, 1.0], [3.0, 1.0]])).round(1)
      Array([-0.3, 10.3], dtype=float32)
    """
    given = _gaussians.check_features(features, labels, num_classes, shrinkage, where)
    whole = given._replace(labels=jnp.where(given.known, 0, -1), num_classes=1)
    parts = Mahalanobis(*_gaussians.tied(given)), Mahalanobis(*_gaussians.tied(whole))
    return _gaussians.check_fit(RelativeMahalanobis(*parts), given)


def fit_ddu(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    shrinkage: Numeric = 0.0,
    where: ArrayLike | None = None,
) -> DDU:
    """Deep deterministic uncertainty: minus the log density of a mixture of one Gaussian per class.

    Concrete labels are grouped first; with traced ones a fit takes `num_classes` times as long.

    Args:
      features: Features of training examples, such as those before the last layer, `[N, D]`; further
        leading axes are examples, too.
      labels: Integers in [0, num_classes), `[N]`.
      num_classes: The number of classes, each with at least two examples.
      shrinkage: Each covariance S becomes `(1 - shrinkage) * S + shrinkage * trace(S) / D * identity`;
        in [0, 1], may be traced. Needed for a class with fewer than D + 1 examples: 1e-3, for example.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.

    Returns:
      A `DDU`. The covariance of a class of n examples has the denominator n, and its weight is n / N.
      NaN if a traced label is out of range, or the covariance of a class is singular.

    Raises:
      TypeError: If `features` are not floating-point, `labels` or `num_classes` are not integers,
        `shrinkage` is not real, or `where` is not boolean.
      ValueError: If the shapes do not match, `features` are empty, `shrinkage` is outside [0, 1], or
        concrete features are not finite, labels out of range, a class has too few examples, or a
        covariance is singular.

    References:
      Mukhoti et al., "Deep deterministic uncertainty: a new simple baseline", 2023.

    Examples:
      >>> features = jnp.array([[0.0], [2.0], [5.0], [7.0]])
      >>> fit_ddu(features, jnp.array([0, 0, 1, 1]), 2)(jnp.array([[1.0], [20.0]])).round(2)
      Array([ 1.61, 99.61], dtype=float32)
    """
    given = _gaussians.check_features(features, labels, num_classes, shrinkage, where, least=2)
    return _gaussians.check_fit(DDU(*_gaussians.separate(given)), given)


@jax.jit
def _distance(x: jax.Array, means: jax.Array, whitening: jax.Array) -> jax.Array:
    center = jnp.mean(means, axis=0, keepdims=True)
    white = _gaussians.dot(x - center, whitening)
    each = jax.lax.map(
        lambda mean: jnp.sum((white - mean[None]) ** 2, axis=-1), _gaussians.dot(means - center, whitening)
    )
    return jnp.min(each, axis=0)


@jax.jit
def _surprise(x: jax.Array, means: jax.Array, whitening: jax.Array, log_weights: jax.Array) -> jax.Array:
    def log_density(of_class: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        mean, whitening, log_weight = of_class
        white = _gaussians.dot(x - mean[None], whitening)
        log_scale = jnp.sum(jnp.log(jnp.diagonal(whitening))) - 0.5 * len(mean) * float(np.log(2 * np.pi))
        return log_weight + log_scale - 0.5 * jnp.sum(white**2, axis=-1)

    return -jax.nn.logsumexp(jax.lax.map(log_density, (means, whitening, log_weights)), axis=0)
