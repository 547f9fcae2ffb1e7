"""Losses for dropout and mixup: penalties on activations, and losses of several draws."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._strengths import check_strength
from jaxdrop._types import ArrayLike, Key, Numeric, PyTree
from jaxdrop.drops.mixup import mixup

__all__ = [
    "activation_regularization",
    "expectation_linear",
    "multi_sample",
    "r_drop",
    "reg_mixup",
    "temporal_activation_regularization",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


def activation_regularization(h: ArrayLike, strength: Numeric) -> jax.Array:
    """Activation regularization (AR): `strength * mean(h**2)`; the paper takes h after dropout.

    Args:
      h: Floating-point array of any shape.
      strength: Strength, finite and at least 0: a scalar; may be traced. AWD-LSTM uses 2.

    Returns:
      A scalar, summed in float32 or wider; 0 if `h` has no elements.

    Raises:
      TypeError: If `h` is not floating-point.
      ValueError: If a concrete strength is negative or not finite.

    References:
      Merity, McCann and Socher, "Revisiting activation regularization for language RNNs", 2017;
      Merity, Keskar and Socher, "Regularizing and optimizing LSTM language models", 2018.

    Examples:
      >>> activation_regularization(jnp.array([[1.0, 3.0]]), 2.0)
      Array(10., dtype=float32)
    """
    return jnp.asarray(check_strength(strength)) * _mean(_predictions.as_wide(h, "h") ** 2)


def temporal_activation_regularization(h: ArrayLike, strength: Numeric, *, time_axis: int = 1) -> jax.Array:
    """Temporal activation regularization (TAR): `strength * mean((h[t + 1] - h[t])**2)`.

    The paper takes h before dropout.

    Args:
      h: Floating-point array, such as `[B, T, C]`, of at least two time steps.
      strength: Strength, finite and at least 0: a scalar; may be traced. AWD-LSTM uses 1.
      time_axis: Axis of time.

    Returns:
      A scalar, summed in float32 or wider; 0 if `h` has no elements.

    Raises:
      TypeError: If `h` is not floating-point.
      ValueError: If a concrete strength is negative or not finite, the axis is out of range, or
        there are fewer than two steps.

    References:
      Merity, McCann and Socher, "Revisiting activation regularization for language RNNs", 2017;
      Merity, Keskar and Socher, "Regularizing and optimizing LSTM language models", 2018.

    Examples:
      >>> temporal_activation_regularization(jnp.array([[[1.0], [2.0], [4.0]]]), 2.0)
      Array(5., dtype=float32)
    """
    h = _predictions.as_wide(h, "h")
    (axis,) = _checks.check_axes((time_axis,), h.ndim, "time_axis")
    if h.shape[axis] < 2:
        raise ValueError(f"`h` must have at least 2 steps along axis {axis}, got shape {h.shape}.")
    return jnp.asarray(check_strength(strength)) * _mean(jnp.diff(h, axis=axis) ** 2)


def r_drop(logits: ArrayLike, other: ArrayLike) -> jax.Array:
    """R-Drop: the symmetric KL divergence between the class probabilities of two dropout draws.

    With p and q the softmax of the two: (KL(p || q) + KL(q || p)) / 2. The paper adds its mean over
    the batch, times a weight (5 for translation), to the two cross-entropies.

    Args:
      logits: Floating-point logits of one forward pass, `[..., K]`. A class whose logit is minus
        infinity in both passes is ignored.
      other: Floating-point logits of another forward pass, of the same shape.

    Returns:
      Array of shape `[...]`, one value per example, at least 0, in float32 or wider.

    Raises:
      TypeError: If `logits` or `other` is not floating-point.
      ValueError: If the shapes differ, or there is no axis of at least two classes.

    References:
      Wu, Liang et al., "R-Drop: regularized dropout for neural networks", 2021.

    Examples:
      >>> r_drop(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, jnp.log(3.0)]]))
      Array([0.13732654], dtype=float32)
    """
    logits, other = _predictions.as_wide(logits, "logits"), _predictions.as_wide(other, "other")
    _checks.check_same_shape(other, _predictions.check_class_logits(logits, "logits"), "other", "logits")
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(other)
    absent = jnp.isneginf(log_p) & jnp.isneginf(log_q)
    ratio = jnp.where(absent, 0, log_p) - jnp.where(absent, 0, log_q)
    # The two divergences under one sum: p * (log p - log q) + q * (log q - log p).
    return 0.5 * jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * ratio, axis=-1)


def multi_sample(key: Key, loss_fn: Callable[[Key], PyTree], num_samples: int) -> PyTree:
    """Multi-sample dropout: the mean of a loss over several draws.

    Computations in `loss_fn` that do not depend on its key run once: in the paper, all layers before
    the dropout.

    Args:
      key: A PRNG key, used once.
      loss_fn: `loss_fn(key) -> loss`, a scalar or any tree of arrays.
      num_samples: Number of draws, at least 1.

    Returns:
      Mean of each leaf over the draws, in float32 or wider.

    Raises:
      TypeError: If `num_samples` is not an integer.
      ValueError: If `num_samples` is below 1.

    References:
      Inoue, "Multi-sample dropout for accelerated training and better generalization", 2019.

    Examples:
      >>> multi_sample(jax.random.key(0), lambda key: jax.random.uniform(key, (2,)), 10_000).round(2)
      Array([0.5, 0.5], dtype=float32)
    """
    count = _checks.check_count(num_samples, "num_samples")
    losses = jax.vmap(loss_fn)(jax.random.split(_checks.check_key(key), count))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0, dtype=_mean_dtype(leaf)), losses)


def reg_mixup(
    key: Key,
    loss_fn: Callable[[Key, jax.Array, jax.Array], jax.Array],
    x: ArrayLike,
    y: ArrayLike,
    alpha: Numeric,
    *,
    strength: Numeric = 1.0,
) -> jax.Array:
    """RegMixup: the loss of a batch plus `strength` times the loss of the batch mixed by `mixup`.

    The paper takes the cross-entropy, strength 1 and a large alpha (10 or 20), so that mixed examples lie
    far from the data. `loss_fn` is called twice, so batch normalization sees the two batches apart. A model
    whose loss returns a state, such as batch statistics, calls `mixup` itself.

    Args:
      key: A PRNG key, used once.
      loss_fn: `loss_fn(key, x, y) -> loss`, a floating-point array: a scalar, or one value per example.
        Each call has its key, for dropout.
      x: Floating-point batch, `[B, ...]`.
      y: Floating-point soft labels of the examples, such as `[B, K]` from `jax.nn.one_hot`, or targets
        of a regression.
      alpha: Parameter of the Beta distribution, finite and at least 0: a scalar; may be traced. At 0 the
        two batches are the same.
      strength: Weight of the second loss, finite and at least 0: a scalar; may be traced.

    Returns:
      The sum, of the shape of the loss, in float32 or wider.

    Raises:
      TypeError: If `x`, `y` or a loss is not floating-point.
      ValueError: If `x` and `y` differ in the number of examples, or a concrete alpha or strength is
        negative, not finite or not a scalar.

    References:
      Pinto et al., "Using mixup as a regularizer can surprisingly improve accuracy and
      out-of-distribution robustness", 2022.

    Examples:
      >>> x, y = jnp.array([[0.0, 2.0], [2.0, 0.0]]), jnp.eye(2)
      >>> loss_fn = lambda key, x, y: -jnp.mean(jnp.sum(y * jax.nn.log_softmax(x), axis=-1))
      >>> reg_mixup(jax.random.key(0), loss_fn, x, y, 10.0)
      Array(2.847797, dtype=float32)
    """
    weight = jnp.asarray(check_strength(strength))
    of_mixup, *of_losses = jax.random.split(_checks.check_key(key), 3)
    mixed_batch = mixup(of_mixup, x, y, alpha)
    batches = (jnp.asarray(x), jnp.asarray(y)), mixed_batch
    clean, mixed = (
        _predictions.as_wide(loss_fn(own, *batch), "loss_fn(key, x, y)")
        for own, batch in zip(of_losses, batches, strict=True)
    )
    return clean + weight.astype(mixed.dtype) * mixed


def expectation_linear(stochastic: ArrayLike, deterministic: ArrayLike) -> jax.Array:
    """Expectation-linear dropout: the mean squared L2 distance between outputs with and without dropout.

    It is 0 for a network that is linear in expectation. With one draw for `stochastic`, its
    expectation is the squared gap of the mean output plus the output's variance; averaging several
    draws reduces the variance.

    Args:
      stochastic: Floating-point output with dropout, `[B, ...]`, or its mean over draws.
      deterministic: Floating-point output without dropout, of the same shape.

    Returns:
      A scalar, the squared distance per example averaged over the batch, summed in float32 or wider; 0
      for an empty batch.

    Raises:
      TypeError: If `stochastic` or `deterministic` is not floating-point.
      ValueError: If the shapes differ, or there is no batch axis.

    References:
      Ma et al., "Dropout with expectation-linear regularization", 2017.

    Examples:
      >>> expectation_linear(jnp.array([[1.0, 2.0], [3.0, 3.0]]), jnp.array([[0.0, 0.0], [3.0, 0.0]]))
      Array(7., dtype=float32)
    """
    stochastic = _predictions.as_wide(stochastic, "stochastic")
    deterministic = _predictions.as_wide(deterministic, "deterministic")
    _checks.check_rank(stochastic, 1, "[B, ...]", "stochastic")
    _checks.check_same_shape(deterministic, stochastic, "deterministic", "stochastic")
    return _mean(jnp.sum((stochastic - deterministic) ** 2, axis=tuple(range(1, stochastic.ndim))))


def _mean(x: jax.Array) -> jax.Array:
    """The mean; 0 of no elements, as in an empty batch."""
    return jnp.mean(x) if x.size else jnp.zeros((), x.dtype)


def _mean_dtype(leaf: jax.Array) -> np.dtype | None:
    """The dtype of a mean; None means the default float, for integers and booleans."""
    return _checks.widened(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else None
