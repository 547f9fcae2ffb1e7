"""Losses that go with dropout: on activations, and on how far its draws disagree."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike, Key, Numeric

__all__ = [
    "activation_regularization",
    "expectation_linear",
    "multi_sample",
    "r_drop",
    "temporal_activation_regularization",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


def activation_regularization(h: ArrayLike, strength: Numeric) -> jax.Array:
    """AR: `strength * mean(h**2)`, of the output after its dropout in the paper.

    Args:
      h: A floating-point array of any shape.
      strength: Finite and at least 0: a scalar; may be traced. AWD-LSTM has 2.

    Returns:
      A scalar, summed in float32 at least.

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
    return _check_strength(strength) * jnp.mean(_predictions.as_wide(h, "h") ** 2)


def temporal_activation_regularization(h: ArrayLike, strength: Numeric, *, time_axis: int = 1) -> jax.Array:
    """TAR: `strength * mean((h[t + 1] - h[t])**2)`, of the output before its dropout in the paper.

    Args:
      h: A floating-point array, such as `[B, T, C]`, of at least two time steps.
      strength: Finite and at least 0: a scalar; may be traced. AWD-LSTM has 1.
      time_axis: The axis of time.

    Returns:
      A scalar, summed in float32 at least.

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
    return _check_strength(strength) * jnp.mean(jnp.diff(h, axis=axis) ** 2)


def r_drop(logits: ArrayLike, other: ArrayLike) -> jax.Array:
    """R-Drop: half the sum of the two divergences between the classes of two dropout draws.

    With p and q the softmax of the two: (KL(p || q) + KL(q || p)) / 2. The paper adds to the two
    cross-entropies its mean over the batch times a weight, which is 5 for translation.

    Args:
      logits: Floating-point, `[..., K]`, of one forward pass. A class whose logit is minus infinity
        in both has no part.
      other: The same of another, of the same shape.

    Returns:
      An array of shape `[...]`, one value for each example, at least 0; in float32 at least.

    Raises:
      TypeError: If `logits` or `other` is not floating-point.
      ValueError: If the shapes differ, or there is no axis of classes.

    References:
      Wu, Liang et al., "R-Drop: regularized dropout for neural networks", 2021.

    Examples:
      >>> r_drop(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, jnp.log(3.0)]]))
      Array([0.13732654], dtype=float32)
    """
    logits, other = _predictions.as_wide(logits, "logits"), _predictions.as_wide(other, "other")
    _checks.check_same_shape(other, _checks.check_rank(logits, 1, "[..., K]", "logits"), "other", "logits")
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(other)
    absent = jnp.isneginf(log_p) & jnp.isneginf(log_q)
    ratio = jnp.where(absent, 0, log_p) - jnp.where(absent, 0, log_q)
    # The two divergences under one sum: p * (log p - log q) + q * (log q - log p).
    return 0.5 * jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * ratio, axis=-1)


def multi_sample(key: Key, loss_fn: Callable[[Key], Any], num_samples: int) -> Any:
    """Multi-sample dropout: the mean of a loss over several draws, all in one program.

    What `loss_fn` closes over and does not depend on its key is computed once: in the paper all
    but the dropout and the last layers.

    Args:
      key: A PRNG key, used once.
      loss_fn: `loss_fn(key) -> loss`, a scalar or any tree of arrays.
      num_samples: How many draws, at least 1.

    Returns:
      The mean of each leaf over the draws, in float32 at least.

    Raises:
      TypeError: If `num_samples` is not an integer.
      ValueError: If `num_samples` is below 1.

    References:
      Inoue, "Multi-sample dropout for accelerated training and better generalization", 2019.

    Examples:
      >>> multi_sample(jax.random.key(0), lambda key: jax.random.uniform(key, (2,)), 10_000).round(2)
      Array([0.5, 0.5], dtype=float32)
    """
    losses = jax.vmap(loss_fn)(jax.random.split(key, _checks.check_count(num_samples, "num_samples")))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0, dtype=_mean_dtype(leaf)), losses)


def expectation_linear(stochastic: ArrayLike, deterministic: ArrayLike) -> jax.Array:
    """The gap between dropout's outputs and those without: the mean of squared L2 distances.

    A network that is linear in its expectation has none. With one draw for `stochastic` the mean
    over draws is the gap of the mean output and the output's variance together; with the mean of
    several draws the second fades.

    Args:
      stochastic: The floating-point output with dropout, `[B, ...]`, or its mean over draws.
      deterministic: The output without, of the same shape.

    Returns:
      A scalar: the squared distance of each example, averaged over the batch; summed in float32
      at least.

    Raises:
      TypeError: If one is not floating-point.
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
    return jnp.mean(jnp.sum((stochastic - deterministic) ** 2, axis=tuple(range(1, stochastic.ndim))))


def _mean_dtype(leaf: jax.Array) -> np.dtype | None:
    """None lets integers and booleans go to the default float."""
    return _checks.widened(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else None


def _check_strength(strength: Numeric) -> jax.Array:
    return jnp.asarray(_checks.check_nonnegative(_checks.check_scalar(strength, "strength"), "strength"))
