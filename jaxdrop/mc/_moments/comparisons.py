"""Comparisons of uniform draws with known numbers, as in masks that programs make by themselves."""

from collections.abc import Sequence

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxdrop.mc._moments.forms import Affine, Constant
from jaxdrop.mc._moments.values import Chain, Random
from jaxdrop.mc._moments.walk import Walk

# Whether the first number is the larger one.
_COMPARISONS = {"ge": True, "gt": True, "le": False, "lt": False}


def decided(walk: Walk, eqn: jex.JaxprEqn, parts: Sequence[Chain]) -> Random | None:
    """The decision whether a uniform draw is above or below known numbers; None for another equation."""
    is_above = _COMPARISONS.get(eqn.primitive.name)
    if is_above is None:
        return None
    part, other = parts
    if part.base is None:
        part, other, is_above = other, part, not is_above
    base, form, limit = part.base, part.cases.get(()), other.cases.get(())
    if base is None or base.law != "uniform" or not isinstance(limit, Constant):
        return None
    if not isinstance(form, Affine) or np.ndim(form.slope) or not form.slope:
        return None
    is_above = is_above == bool(form.slope > 0)
    start = jnp.clip((jnp.asarray(limit.value, jnp.float32) - form.offset) / form.slope, 0, 1)
    chance, away = (1 - start, 6.0) if is_above else (start, -6.0)
    slope = away * start * (1 - start)
    mean, variance = (jnp.broadcast_to(one, part.shape) for one in (chance, chance * (1 - chance)))
    path = mean + slope * (base.mean - jax.lax.stop_gradient(base.mean))
    path = walk.inject(path, jnp.maximum(variance - slope**2 / 12, 0), base.draws)
    return Random(path, walk.spread(variance), base.draws, "decision", base.independent, base.exact)
