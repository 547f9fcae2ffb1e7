"""Weight decay: coupled to the gradient, or decoupled from the optimizer."""

import jax
import optax

from jaxdrop._order import GradientState
from jaxdrop._types import Where
from jaxdrop.optim._step import Leaf, Value, check_step, check_value, transformation

__all__ = ["coupled_l2", "decoupled_l2"]


def coupled_l2(strength: Value, *, where: Where = None) -> optax.GradientTransformation:
    """Coupled weight decay: adds `2 * strength * w`, the gradient of `penalties.l2`; first in a chain.

    It equals `weight_decay=2 * strength` of torch's SGD and Adam.

    Args:
      strength: Finite, non-negative scalar, or a schedule; may be traced.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Gradient transformation.

    Raises:
      ValueError: If a concrete strength is negative or not finite; from `init` if `where` does not
        fit the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([9.0])}
      >>> optimizer = optax.chain(coupled_l2(0.5), optax.sgd(0.1))
      >>> grads = jax.tree.map(jnp.zeros_like, params)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
      >>> updates["kernel"]
      Array([[-0.1,  0.2]], dtype=float32)
    """

    def decay(p: jax.Array, u: jax.Array, leaf: Leaf, strength: jax.Array) -> jax.Array:
        return u + 2 * strength * leaf.share * p.astype(u.dtype)

    return transformation(decay, where, check_value(strength, "strength"), kind=GradientState)


def decoupled_l2(
    strength: Value, learning_rate: Value, *, where: Where = None
) -> optax.GradientTransformation:
    """Decoupled weight decay: subtracts `2 * strength * learning_rate * w`; last in a chain.

    `optax.chain(optax.adam(lr), decoupled_l2(c, lr))` is `optax.adamw(lr, weight_decay=2 * c)`.
    With plain SGD it equals `coupled_l2`.

    Args:
      strength: Finite, non-negative scalar, or a schedule; may be traced.
      learning_rate: Learning rate of the optimizer, or 1 for a decay independent of it: a
        non-negative scalar, or a schedule; may be traced.
      where: Leaves to act on; defaults to the weights (see `penalties.weight_mask`).

    Returns:
      Gradient transformation.

    Raises:
      ValueError: If a concrete strength or learning rate is negative or not finite; from `init` if
        `where` does not fit the parameters.

    References:
      Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    def decay(p: jax.Array, u: jax.Array, leaf: Leaf, strength: jax.Array, rate: jax.Array) -> jax.Array:
        return u - 2 * rate * strength * leaf.share * p.astype(u.dtype)

    return transformation(decay, where, *check_step(strength, learning_rate))
