"""Probabilities of classes and of binary labels, given as logits or as probabilities."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop import _predictions
from jaxdrop._types import PyTree


class Classes(NamedTuple):
    """Class probabilities and their logarithms, in float32; NaN for invalid probabilities."""

    log_probs: jax.Array
    probs: jax.Array


def class_probabilities(samples: jax.Array, from_logits: bool) -> Classes:
    """Class probabilities along the last axis, normalized."""
    tolerance = _predictions.sum_tolerance(samples)
    samples = samples.astype(jnp.float32)
    if from_logits:
        logs = jax.nn.log_softmax(samples)
        return Classes(logs, jnp.exp(logs))
    total = samples.sum(-1, keepdims=True)
    valid = (jnp.abs(total - 1) <= tolerance) & (samples >= 0).all(-1, keepdims=True)
    samples = jnp.where(valid, samples / total, jnp.nan)
    return Classes(jnp.log(samples), samples)


def pairs(samples: jax.Array, from_logits: bool) -> jax.Array:
    """Binary labels `[...]` as two classes `[..., 2]`: their logits, or their probabilities."""
    samples = samples.astype(jnp.float32)
    if from_logits:
        # Log probabilities are logits too, and stay valid where a logit is infinite.
        return jnp.stack([jax.nn.log_sigmoid(-samples), jax.nn.log_sigmoid(samples)], -1)
    return jnp.stack([1 - samples, samples], -1)


def check_classes(outputs: PyTree) -> jax.ShapeDtypeStruct:
    """The type of outputs that are one array `[B, ..., K]`."""
    shape = getattr(outputs, "shape", ())
    if len(shape) < 2 or shape[-1] < 2:
        hint = "`Bernoulli` takes single logits" if shape else "`Part` selects a part of a tree"
        raise ValueError(
            "`predict` must return an array of shape [B, ..., K] of at least 2 classes "
            f"({hint}), got {kind_of(outputs)}."
        )
    return outputs


def check_pairs(outputs: PyTree) -> jax.ShapeDtypeStruct:
    """The type of `pairs` of outputs that are one array `[B, ...]`."""
    if not hasattr(outputs, "shape"):
        raise ValueError(
            "`predict` must return an array of shape [B, ...] (`Part` selects a part of a tree), "
            f"got {kind_of(outputs)}."
        )
    return jax.ShapeDtypeStruct((*outputs.shape, 2), outputs.dtype)


def kind_of(value: PyTree) -> str:
    """The shape of an array or the type of another value, for a message."""
    if value is None:
        return "none"
    return f"shape {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"


def check_valid(values: jax.Array, from_logits: bool) -> None:
    """Raises an error if invalid logits or probabilities made an estimate NaN."""
    if not bool(jnp.isnan(values).any()):
        return
    if from_logits:
        raise ValueError("`predict` must return logits below infinity, at least one finite, got others.")
    raise ValueError(
        "`predict` must return probabilities, at least 0 and with sums of 1, if `from_logits` is False, "
        "got others."
    )


def check_valid_pairs(values: jax.Array) -> None:
    """Raises an error if invalid probabilities of binary labels made an estimate NaN."""
    if bool(jnp.isnan(values).any()):
        raise ValueError(
            "`predict` must return probabilities, in [0, 1], if `from_logits` is False, got others."
        )
