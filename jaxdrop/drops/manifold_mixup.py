"""Manifold mixup: mixes the activations of a random layer, and the labels. Verma et al., 2019."""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key, Numeric, PyTree
from jaxdrop.drops import _mixing

__all__ = ["manifold_mixup"]

# Input to output; the input has the examples along axis 0.
_Layer = Callable[[jax.Array], jax.Array]


def manifold_mixup(
    key: Key,
    layers: Sequence[_Layer],
    x: ArrayLike,
    y: ArrayLike,
    alpha: Numeric,
    *,
    per_example: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Calls the layers of a network in turn, with `mixup` of the input of a random one.

    The layer is uniform over `layers`, one for the whole batch; its input and the labels are mixed as by
    `mixup` with the same key. The input of the first layer is `x` itself, as in the paper. To leave it
    out, call the first layer before, and to mix between some layers only, join the others in one
    function. The layers run once, in the order given, so they may be modules inside a Linen or NNX
    module, with variables, states and noise. Alpha 0 calls them without mixing.

    Partners on other devices need communication; inside `jax.shard_map`, with one key per device, each
    device mixes its own examples and needs none. At evaluation, call the layers alone.

    Args:
      key: A PRNG key, used once.
      layers: Functions of one array. The input of each is floating-point with axis 0 of `x`.
      x: Floating-point batch, `[B, ...]`.
      y: Floating-point soft labels of the examples, such as `[B, K]` from `jax.nn.one_hot`, or targets
        of a regression. Labels that sum to 1 still do.
      alpha: Parameter of the Beta distribution, finite and at least 0: a scalar; may be traced; no
        gradient. The paper uses 2.
      per_example: Whether each example has a weight drawn for it, not one for the batch.

    Returns:
      The output of the last layer, and mixed `y` in its shape, dtype and sharding.

    Raises:
      TypeError: If `x`, `y` or the input of a layer is not floating-point, or a layer is not callable.
      ValueError: If there is no layer, an input of one or `y` differs from `x` in the number of
        examples, or a concrete alpha is negative, not finite or not a scalar.

    References:
      Verma et al., "Manifold mixup: better representations by interpolating hidden states", 2019.

    Examples:
      >>> layers = [lambda h: 10 * h, lambda h: h**2]
      >>> h, y = manifold_mixup(jax.random.key(0), layers, jnp.arange(2.0), jnp.eye(2), 2.0)
      >>> h.round()
      Array([11., 44.], dtype=float32)
      >>> y[0].round(2)
      Array([0.65999997, 0.34      ], dtype=float32)
    """
    layers = _check_layers(layers)
    x, y = _mixing.check_batch(x, y)
    alpha = _mixing.check_alpha(alpha)
    if _checks.is_scalar(alpha, 0):
        return reduce(lambda h, layer: layer(h), layers, x), y
    pairs = _mixing.draw(_checks.check_key(key), alpha, size=x.shape[0], per_example=per_example, more=1)
    chosen = jnp.max(pairs.words[0][:1, 1], initial=0) % np.uint32(len(layers))

    def mix(h: jax.Array) -> jax.Array:
        return _mixing.mixed(h, pairs.rows, pairs.part)

    h = x
    for i, layer in enumerate(layers):
        h = _check_input(h, f"layers[{i - 1}](...)" if i else "x", x)
        h = jax.lax.cond(chosen == i, mix, lambda h: h, h)
        h = layer(h)
    return h, mix(y)


def _check_layers(layers: Sequence[_Layer]) -> list[_Layer]:
    """At least one function, in a list."""
    if callable(layers) or not isinstance(layers, Iterable):
        raise TypeError(f"`layers` must be a sequence of functions, got {type(layers).__name__}.")
    found = list(layers)
    for layer in found:
        if not callable(layer):
            raise TypeError(f"`layers` must be a sequence of functions, got one of {type(layer).__name__}.")
    if not found:
        raise ValueError("`layers` must hold at least one function, got none.")
    return found


def _check_input(h: PyTree, name: str, x: jax.Array) -> jax.Array:
    """The input of a layer: an array with the examples of `x`."""
    h = _checks.check_floating(h, name)
    if h.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"`{name}` must have as many examples as `x`, got shape {h.shape} and `x` of shape {x.shape}."
        )
    return h
