"""Probabilities of classes, from logits or as they are."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdrop import _checks


def log_probabilities(samples: jax.Array, from_logits: bool) -> tuple[jax.Array, jax.Array]:
    """Logarithms and probabilities in float32; NaN where probabilities are none."""
    tolerance = _checks.sum_tolerance(samples)
    samples = samples.astype(jnp.float32)
    if from_logits:
        logs = jax.nn.log_softmax(samples)
        return logs, jnp.exp(logs)
    total = samples.sum(-1, keepdims=True)
    fine = (jnp.abs(total - 1) <= tolerance) & (samples >= 0).all(-1, keepdims=True)
    samples = jnp.where(fine, samples / total, jnp.nan)
    return jnp.log(samples), samples


def check_classes(outputs: Any) -> Any:
    """An array of shape [B, K]."""
    if not hasattr(outputs, "shape") or len(outputs.shape) != 2:
        raise ValueError(f"`predict` must give an array of shape [B, K] of classes, got {outputs}.")
    return outputs


def check_probabilities(values: jax.Array, from_logits: bool) -> None:
    """Nothing that was no probability, and so became NaN."""
    if not bool(jnp.isnan(values).any()):
        return
    if from_logits:
        raise ValueError("`predict` must give logits below infinity, one at least finite, got others.")
    raise ValueError(
        "`predict` must give probabilities, at least 0 and with sums of one, where `from_logits` is "
        "False, got others."
    )
