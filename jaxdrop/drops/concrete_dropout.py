"""Concrete dropout: dropout whose rate is learned by gradient descent. Gal, Hron and Kendall, 2017."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _bits, _checks
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.drops import _remat

__all__ = ["concrete_dropout"]

# Above this logit 1 / (1 - p) is continued linearly, so that its square, as optimizers compute it,
# still fits float32.
_STEEP = 40.0


def concrete_dropout(
    key: Key,
    x: ArrayLike,
    logit: Numeric,
    *,
    kernel: ArrayLike | None = None,
    weight_strength: Numeric = 1e-6,
    dropout_strength: Numeric = 1e-5,
    temperature: Numeric = 0.1,
    broadcast_dims: Sequence[int] = (),
) -> tuple[jax.Array, jax.Array]:
    """Applies dropout with relaxed decisions, so that the rate p = `sigmoid(logit)` has a gradient.

    With u uniform on (0, 1) and t = `temperature`, an element's relaxed decision is
    z = sigmoid((logit + log(u / (1 - u))) / t), and the result is `x * (1 - z) / (1 - p)`. The mean
    is x only in the limit t = 0; at t = 0.1 it is off by at most 0.2 % for p up to 0.5, and 1.7 %
    above. Add the penalty to the loss:

      weight_strength * sum(kernel**2) / (1 - p)
        + dropout_strength * C * (p * log(p) + (1 - p) * log(1 - p))

    where `kernel` belongs to the layer that takes the result. For a mean squared error over N
    examples, a prior length scale l and a model precision tau, the paper's strengths are
    l**2 / (tau * N) and 2 / (tau * N); for cross-entropy they are l**2 / (tau * N) and
    1 / (tau * N). At evaluation use neither dropout nor penalty. The backward pass redraws the
    noise from the key.

    Args:
      key: A PRNG key, used once.
      x: Floating-point array, `[..., C]`.
      logit: Log-odds of dropping: a floating-point scalar, or an array that broadcasts to the
        decisions. `[C]` gives each feature its own rate; the penalty is then summed over features
        (and averaged over other axes).
      kernel: Weights: of any shape for a scalar logit, `[..., C, O]` for a logit per feature. None
        leaves out the first term.
      weight_strength: Strength of the weight term, finite and at least 0: a scalar; may be traced.
      dropout_strength: Strength of the entropy term, finite and at least 0: a scalar; may be traced.
      temperature: Temperature of the relaxation, in (0, 1]: a scalar; may be traced.
      broadcast_dims: Axes along which one decision is shared, such as those of a feature map.

    Returns:
      Array of the shape, dtype and sharding of `x`, and the penalty, a scalar summed in float32 or
      wider. Both have finite gradients in `x`, `logit` and `kernel`. For logits above 40, where p
      rounds to 1, the penalty continues 1 / (1 - p) linearly.

    Raises:
      TypeError: If `x`, `logit` or `kernel` is not floating-point.
      ValueError: If the shapes do not fit, an axis is out of range, a concrete strength is
        negative or not finite, or a concrete temperature outside (0, 1].

    References:
      Gal, Hron and Kendall, "Concrete dropout", 2017.

    Examples:
      >>> y, penalty = concrete_dropout(jax.random.key(0), jnp.ones(4), -1.0, dropout_strength=1.0)
      >>> print(*(f"{value:.3f}" for value in (*y, penalty)))
      1.368 1.364 1.368 0.022 -2.329
    """
    x = _checks.check_rank(_checks.check_floating(x), 1, "[..., C]")
    wide = _checks.widened(x.dtype)
    logit = _checks.check_floating(logit, "logit").astype(wide)
    shape = _checks.check_shared(x.shape, broadcast_dims)
    level = _checks.check_broadcastable(logit, shape, "logit"), _check_temperature(temperature).astype(wide)
    y = _concrete_dropout(key, x, level, shape=shape)
    penalty = _scalar("dropout_strength", dropout_strength) * _negentropy(logit, x.shape[-1])
    if kernel is not None:
        kernel = _check_kernel(kernel, logit, x)
        penalty += _scalar("weight_strength", weight_strength) * _weight_term(kernel, logit)
    return y, penalty


@_remat.redraw_in_backward("shape")
def _concrete_dropout(
    seed: _bits.Seed, x: jax.Array, level: tuple[jax.Array, jax.Array], *, shape: tuple[int, ...]
) -> jax.Array:
    logit, temperature = level
    uniform = _bits.uniform(seed, shape)
    score = (logit + jnp.log(uniform / (1 - uniform))) / temperature
    # (1 - z) / (1 - p), where 1 - z = exp(-max(score, 0)) / (1 + exp(-|score|)) and 1 / (1 - p) is
    # exp(softplus(logit)). One exponential of both: separately they may be 0 and infinity.
    factor = jnp.exp(jax.nn.softplus(logit) - jnp.maximum(score, 0)) / (1 + jnp.exp(-jnp.abs(score)))
    return (x.astype(factor.dtype) * factor).astype(x.dtype)


def _negentropy(logit: jax.Array, features: int) -> jax.Array:
    """The sum of p * log(p) + (1 - p) * log(1 - p) over the features."""
    p, q = jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit)
    return features * jnp.mean(p * jax.nn.log_sigmoid(logit) + q * jax.nn.log_sigmoid(-logit))


def _weight_term(kernel: jax.Array, logit: jax.Array) -> jax.Array:
    """The sum of `kernel**2 / (1 - p)`, where 1 / (1 - p) = 1 + exp(logit)."""
    held = jnp.minimum(logit, _STEEP)
    inverse = 1 + jnp.exp(held) * (1 + logit - held)
    if logit.ndim == 0 or logit.shape[-1] == 1:
        return jnp.sum(kernel**2) * jnp.mean(inverse)
    rows = jnp.sum(kernel**2, axis=[axis for axis in range(kernel.ndim) if axis != kernel.ndim - 2])
    return jnp.sum(rows * jnp.mean(inverse, axis=tuple(range(logit.ndim - 1))))


def _check_kernel(kernel: ArrayLike, logit: jax.Array, x: jax.Array) -> jax.Array:
    kernel = _checks.check_floating(kernel, "kernel")
    one_rate = logit.ndim == 0 or logit.shape[-1] == 1
    if not one_rate and (kernel.ndim < 2 or kernel.shape[-2] != x.shape[-1]):
        raise ValueError(
            f"`kernel` must be of shape [..., {x.shape[-1]}, O] for one logit per feature, "
            f"got {kernel.shape}."
        )
    return kernel.astype(_checks.widened(kernel.dtype))


def _check_temperature(temperature: Numeric) -> jax.Array:
    """A temperature in (0, 1]: above 1 the relaxed decision has an inner mode and an unbounded scale."""
    if _checks.is_concrete(temperature) and np.ndim(temperature) == 0 and not 0 < float(temperature) <= 1:
        raise ValueError(f"`temperature` must lie in (0, 1], got {float(temperature):g}.")
    value = _scalar("temperature", temperature)
    return jnp.where((value > 0) & (value <= 1), value, jnp.nan)


def _scalar(name: str, value: Numeric) -> jax.Array:
    value = _checks.check_nonnegative(value, name)
    return jnp.asarray(_checks.check_scalar(value, name))
