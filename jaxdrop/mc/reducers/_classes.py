"""Class probabilities of samples, given as logits or as probabilities."""

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


def check_classes(outputs: PyTree) -> jax.ShapeDtypeStruct:
    """The type of outputs that are one array `[B, K]`."""
    if not hasattr(outputs, "shape") or len(outputs.shape) != 2:
        raise ValueError(
            f"`predict` must return an array of shape [B, K] of classes, got {kind_of(outputs)}."
        )
    return outputs


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
