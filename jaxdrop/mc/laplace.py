"""Last-layer Laplace approximation: a Gaussian of the weights of a linear layer, in closed form."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.mc import _devices, _laplace
from jaxdrop.mc.last_layer import LastLayer

__all__ = ["Laplace", "laplace_classification", "laplace_regression"]


class Laplace(NamedTuple):
    """The posterior of the weights of a last linear layer: a predictor of features, and a pytree of arrays.

    The posterior is Gaussian. Its covariance is diagonal in the basis `left x right`, so that nothing as
    large as the square of the number of weights is stored. `laplace(key, features)` draws one layer for all
    examples and gives its outputs. With a network before it, bind both:
    `Partial(lambda laplace, params, key, x: laplace(key, features(params, x)), laplace, params)`. The
    features do not depend on the key, so they are computed once.

    Attributes:
      kernel: The mean of the weights, `[D, K]`.
      bias: The mean of the biases, `[K]`; None for a layer without.
      left: An orthonormal basis of the features, `[D, D]`; of D + 1 with a bias, whose feature is 1.
      right: An orthonormal basis of the outputs, `[K, K]`.
      precision: The posterior precisions in these bases, `[D, K]` or `[D + 1, K]`.
      prior_precision: The precision of the prior of all weights, a scalar.
      noise_precision: The precision of the targets' noise, a scalar; None for classes.
      log_evidence: The logarithm of the marginal likelihood, of which the Laplace approximation for classes.
    """

    kernel: jax.Array
    bias: jax.Array | None
    left: jax.Array
    right: jax.Array
    precision: jax.Array
    prior_precision: jax.Array
    noise_precision: jax.Array | None
    log_evidence: jax.Array

    def __call__(self, key: Key, features: ArrayLike) -> jax.Array:
        """Draws the outputs of one layer.

        Args:
          key: A PRNG key.
          features: Inputs of the layer, `[B, D]`, without the column of a bias.

        Returns:
          Outputs `[B, K]`: logits, or targets without their noise.

        Raises:
          TypeError: If the features are not floating-point.
          ValueError: If their shape does not fit.
        """
        h = self._checked(features)
        return _devices.on_automatic_axes(_draw, self, key, h, out=_of_examples(h))

    def moments(self, features: ArrayLike) -> LastLayer:
        """Exact mean and covariance of the outputs over the posterior.

        Args:
          features: Inputs of the layer, `[B, D]`, without the column of a bias.

        Returns:
          The mean `[B, K]` and covariance `[B, K, K]`: of logits, or of targets without their noise, whose
          variance is `1 / noise_precision`.

        Raises:
          TypeError: If the features are not floating-point.
          ValueError: If their shape does not fit.
        """
        h = self._checked(features)
        return _devices.on_automatic_axes(_moments, self, h, out=_of_examples(h))

    def probabilities(self, features: ArrayLike) -> jax.Array:
        """Class probabilities without sampling: the probit approximation, of pairs of classes.

        For two classes it is MacKay's, good to about 0.02. For more, the odds of each pair are averaged by it
        and the results normalized. A shift of all logits makes no difference.

        Args:
          features: Inputs of the layer, `[B, D]`, without the column of a bias.

        Returns:
          Probabilities `[B, K]`.

        Raises:
          TypeError: If the features are not floating-point.
          ValueError: If their shape does not fit.

        References:
          MacKay, "The evidence framework applied to classification networks", 1992; Lu, Ie and Sha,
          "Mean-field approximation to Gaussian-softmax integral", 2020.
        """
        mean, covariance = self.moments(features)
        variance = jnp.diagonal(covariance, axis1=1, axis2=2)
        gap = mean[:, None] - mean[:, :, None]
        spread = variance[:, None] + variance[:, :, None] - 2 * covariance
        odds = gap / jnp.sqrt(1 + jnp.pi / 8 * spread.clip(0))
        return jax.nn.softmax(-jax.nn.logsumexp(odds, -1))

    def _checked(self, features: ArrayLike) -> jax.Array:
        """Features in the dtype of the weights."""
        h = _predictions.as_wide(features, "features")
        if h.ndim != 2 or h.shape[1] != self.kernel.shape[0]:
            raise ValueError(f"`features` must have shape [B, {self.kernel.shape[0]}], got {h.shape}.")
        return h.astype(self.kernel.dtype)


def laplace_regression(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    bias: bool = True,
    prior_precision: Numeric | None = None,
    noise_precision: Numeric | None = None,
) -> Laplace:
    """Fits Bayesian linear regression on the features of a last layer; the posterior is exact.

    Targets are `features @ kernel + bias` plus normal noise, and all weights have a normal prior of mean 0.
    Precisions that are not given are those of the largest marginal likelihood; a prior precision is
    searched between 1e-11 and 3e6 times the largest curvature.

    Args:
      features: Floating-point inputs of the layer for the training examples, `[N, D]`.
      targets: Floating-point targets, `[N, K]`; outputs are independent.
      bias: If true, the layer has biases, with the same prior.
      prior_precision: The precision of the prior, a positive scalar; may be traced.
      noise_precision: The precision of the noise, a positive scalar; may be traced.

    Returns:
      A `Laplace`, in float32 at least. It is NaN if the evidence of traced values has no maximum.

    Raises:
      TypeError: If features or targets are not floating-point.
      ValueError: If shapes do not match, values are not finite, a precision is not positive, or none has the
        largest evidence, as for features or targets of 0.

    References:
      Bishop, "Pattern recognition and machine learning", 2006, sections 3.3 and 3.5.

    Examples:
      >>> x = jnp.linspace(-1, 1, 20)[:, None]
      >>> found = laplace_regression(x, 2 * x, prior_precision=0.01, noise_precision=100.0)
      >>> found.kernel.round(2), found.moments(x).covariance.shape
      (Array([[2.]], dtype=float32), (20, 1, 1))
    """
    h, y = _checked_examples(features), _predictions.as_wide(targets, "targets")
    if y.ndim != 2 or len(y) != len(h) or not y.size:
        raise ValueError(f"`targets` must have shape [N, K] with N = {len(h)}, got {y.shape}.")
    prior = _checked_precision(prior_precision, "prior_precision")
    noise = _checked_precision(noise_precision, "noise_precision")
    y = _predictions.check_finite(y, "targets").astype(h.dtype)
    fit = partial(_laplace.regression, bool(bias))
    return _checked_fit(Laplace(*_devices.on_automatic_axes(fit, h, y, prior, noise)))


def laplace_classification(
    features: ArrayLike,
    labels: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    prior_precision: Numeric | None = None,
) -> Laplace:
    """Fits the Laplace approximation of the last layer of a trained classifier.

    The posterior is a Gaussian about the trained weights. Its precision is that of the prior plus the
    Kronecker-factored Gauss-Newton matrix of the cross-entropy: the sum of `h h^T` times the mean of
    `diag(p) - p p^T` over the training examples, as if the two were independent.

    Args:
      features: Floating-point inputs of the layer for the training examples, `[N, D]`, without dropout.
      labels: Their classes, integers `[N]` in [0, K). Only the evidence depends on them.
      kernel: The trained weights of the layer, `[D, K]`.
      bias: Its trained biases, `[K]`, or None.
      prior_precision: The precision of the prior of weights and biases, a positive scalar; may be traced.
        None: that of the largest marginal likelihood, searched between 1e-11 and 3e6 times the largest
        curvature.

    Returns:
      A `Laplace`, in float32 at least. It is NaN if the evidence of traced values has no maximum.

    Raises:
      TypeError: If features, kernel or bias are not floating-point, or labels are not integers.
      ValueError: If shapes do not match, values are not finite, the precision is not positive, or none has
        the largest evidence, as for features of 0.

    References:
      Ritter, Botev and Barber, "A scalable Laplace approximation for neural networks", 2018; Kristiadi, Hein
      and Hennig, "Being Bayesian, even just a bit, fixes overconfidence in ReLU networks", 2020; Daxberger
      et al., "Laplace redux: effortless Bayesian deep learning", 2021.

    Examples:
      >>> h = jax.random.normal(jax.random.key(0), (100, 4))
      >>> found = laplace_classification(h, h[:, :3].argmax(-1), 3 * jnp.eye(4, 3), prior_precision=1.0)
      >>> found.probabilities(h).shape, found(jax.random.key(1), h).shape
      ((100, 3), (100, 3))
    """
    h, kernel = _checked_examples(features), _predictions.as_wide(kernel, "kernel")
    if kernel.ndim != 2 or h.shape[1] != kernel.shape[0]:
        raise ValueError(f"`kernel` must have shape [D, K] with D = {h.shape[1]}, got {kernel.shape}.")
    if bias is not None:
        bias = _predictions.as_wide(bias, "bias").astype(h.dtype)
        if bias.shape != kernel.shape[1:]:
            raise ValueError(f"`bias` must have shape [K], {kernel.shape[1:]}, got {bias.shape}.")
        bias = _predictions.check_finite(bias, "bias")
    kernel = _predictions.check_finite(kernel, "kernel").astype(h.dtype)
    _predictions.check_classes(kernel.shape, "kernel", "for one logit z, stack 0 and z")
    like = jax.ShapeDtypeStruct((len(h), kernel.shape[1]), h.dtype)
    labels = _predictions.check_labels(labels, like, of_name="logits")
    prior = _checked_precision(prior_precision, "prior_precision")
    fit = _laplace.classification
    return _checked_fit(Laplace(*_devices.on_automatic_axes(fit, h, labels, kernel, bias, prior)))


def _checked_fit(found: Laplace) -> Laplace:
    """The fit; raises if it is known not to be finite: then no precision has the largest evidence."""
    leaves = jax.tree.leaves(found)
    if all(map(_predictions.is_visible, leaves)) and not all(np.isfinite(leaf).all() for leaf in leaves):
        raise ValueError(
            "`prior_precision` and `noise_precision` must be given, as none has the largest evidence: "
            "features or targets are 0, or too large, "
            f"got {found.prior_precision} and {found.noise_precision}."
        )
    return found


def _checked_examples(features: ArrayLike) -> jax.Array:
    h = _predictions.as_wide(features, "features")
    if h.ndim != 2 or 0 in h.shape:
        raise ValueError(f"`features` must have shape [N, D], not empty, got {h.shape}.")
    return _predictions.check_finite(h, "features")


def _checked_precision(precision: Numeric | None, name: str) -> Numeric | None:
    if precision is None:
        return None
    return jnp.asarray(_predictions.check_positive(_checks.check_scalar(precision, name), name))


def _of_examples(h: jax.Array) -> PartitionSpec:
    return PartitionSpec(*jax.typeof(h).sharding.spec[:1])


def _parts(laplace: Laplace, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean outputs, and the features in the basis of the posterior."""
    mean = _laplace.product(h, laplace.kernel)
    if laplace.bias is None:
        return mean, _laplace.product(h, laplace.left)
    return mean + laplace.bias[None], _laplace.product(_laplace.with_ones(h), laplace.left)


def _draw(laplace: Laplace, key: Key, h: jax.Array) -> jax.Array:
    mean, along = _parts(laplace, h)
    shape, dtype = laplace.precision.shape, laplace.precision.dtype
    z = jax.random.normal(key, shape, dtype) / jnp.sqrt(laplace.precision)
    return mean + _laplace.product(_laplace.product(along, z), laplace.right.T)


def _moments(laplace: Laplace, h: jax.Array) -> LastLayer:
    mean, along = _parts(laplace, h)
    variance = _laplace.product(along**2, 1 / laplace.precision)
    covariance = jnp.einsum("bk,ik,jk->bij", variance, laplace.right, laplace.right, precision="highest")
    return LastLayer(mean, covariance)
