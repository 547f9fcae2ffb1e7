"""Entropies, label look-ups, interpolation and errors of means, without checks of the values."""

import jax
import jax.numpy as jnp


@jax.jit
def entropy_of(probs: jax.Array) -> jax.Array:
    """The entropy along the last axis, in nats."""
    return 0.0 - jnp.sum(xlogx(probs), axis=-1)  # not -0 where a class is sure


def xlogx(p: jax.Array) -> jax.Array:
    """`p * log(p)`, with value and gradient 0 at 0."""
    return p * safe_log(p)


def safe_log(p: jax.Array) -> jax.Array:
    """The logarithm, with value and gradient 0 at 0."""
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), 0)


def at_labels(probs: jax.Array, labels: jax.Array) -> jax.Array:
    """The entries of `[..., K]` at the labels `[...]`; NaN where a label is out of range."""
    inside = (labels >= 0) & (labels < probs.shape[-1])
    found = jnp.take_along_axis(probs, jnp.where(inside, labels, 0)[..., None], axis=-1)
    return jnp.where(inside, found[..., 0], jnp.nan)


def interpolated(x: jax.Array, thresholds: jax.Array, values: jax.Array) -> jax.Array:
    """A function at `x`: linear between thresholds, which may be equal, constant beyond; NaN at a NaN."""
    # Not `jnp.interp`, which takes thresholds closer than 1e-14 for equal.
    index = jnp.clip(jnp.searchsorted(thresholds, x, side="right"), 1, max(len(values) - 1, 1))
    low, high = thresholds[index - 1], thresholds[index]
    share = jnp.where(high > low, (x - low) / jnp.where(high > low, high - low, 1), 0)
    between = values[index - 1] + share * (values[index] - values[index - 1])
    ends = jnp.where(x >= thresholds[-1], values[-1], jnp.where(x <= thresholds[0], values[0], between))
    return jnp.where(jnp.isnan(x), jnp.nan, ends)


def variance_of_mean(values: jax.Array, used: jax.Array) -> jax.Array:
    """The variance of a mean of those used; NaN for fewer than two."""
    count = jnp.sum(used, dtype=jnp.int32).astype(values.dtype)
    rest = jnp.where(used, values - jnp.mean(values, where=used, keepdims=True), 0)
    two = count > 1
    variance = jnp.sum(rest**2) / jnp.where(two, count * (count - 1), 1)
    return jnp.where(two, variance, jnp.nan)
