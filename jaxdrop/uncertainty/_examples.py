"""Checks of examples that several files share: binary labels and groups."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _predictions
from jaxdrop._types import ArrayLike


def check_groups(groups: ArrayLike, num_groups: int, where: ArrayLike | None = None) -> jax.Array:
    """Group indices in [0, G), as int32; where a mask of their shape leaves examples out they are 0."""
    of = jax.ShapeDtypeStruct((*np.shape(groups), num_groups), np.float32)
    checked = _predictions.check_labels(groups, of, "groups", "groups", where=where)
    return _predictions.filled(checked.astype(jnp.int32), where, 0)


def check_probs(probs: ArrayLike, where: ArrayLike | None = None) -> jax.Array:
    """Probabilities in [0, 1], in float32 or wider; where a mask of their shape leaves some out, 0.5."""
    array = _predictions.as_wide(probs, "probs")
    _predictions.check_not_empty(array.shape, "probs")
    array = _predictions.filled(array, where, 0.5)
    if _predictions.is_visible(array):
        _checks.check_all(array, "probs", "lie in [0, 1]", lambda values: (values >= 0) & (values <= 1))
    return array


def check_binary(
    probs: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, ArrayLike | None]:
    """Probabilities and labels of one shape; those that the mask leaves out hold valid values."""
    where = _predictions.check_mask(where, np.shape(probs))
    array = check_probs(probs, where)
    # Not converted before their check: JAX would cut 64-bit labels to their low half.
    labels = _predictions.exact(labels)
    if getattr(labels, "dtype", None) == jnp.bool_:
        labels = labels.astype(jnp.int32)
    if np.shape(labels) != array.shape:
        raise ValueError(f"`labels` must have the shape of `probs`, {array.shape}, got {np.shape(labels)}.")
    of = jax.ShapeDtypeStruct((*array.shape, 2), array.dtype)
    labels = _predictions.check_labels(labels, of, where=where)
    return array, _predictions.filled(labels, where, 0), where
