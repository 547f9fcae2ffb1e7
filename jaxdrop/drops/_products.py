"""Matrix products with noisy weights, by local reparameterization."""

import jax
import jax.numpy as jnp

from jaxdrop import _bits, _checks, _meshes
from jaxdrop._types import ArrayLike, Key
from jaxdrop.drops import _remat


def check_product(x: ArrayLike, kernel: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The floating-point factors of a matrix product `[..., I] @ [I, O]`."""
    x, kernel = _checks.check_floating(x), _checks.check_floating(kernel, "kernel")
    if x.ndim < 1 or kernel.ndim != 2 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"`kernel` must be of shape [I, O] for `x` of [..., I], got {kernel.shape} and {x.shape}."
        )
    return x, kernel


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel`; on an explicit mesh a shared axis that is sharded is summed over."""
    return jnp.matmul(x, kernel, out_sharding=_meshes.of_product(x, kernel))


def noisy_product(key: Key, x: jax.Array, kernel: jax.Array, variance: jax.Array) -> jax.Array:
    """`x @ kernel` plus the noise that independent weights of this variance cause in it."""
    wide = _checks.widest(x, kernel)
    x_wide, variance = x.astype(wide), variance.astype(wide)
    deviation = _safe_sqrt(product(x_wide**2, variance))
    return _noisy(key, product(x_wide, kernel.astype(wide)), deviation).astype(x.dtype)


@_remat.redraw_in_backward()
def _noisy(seed: _bits.Seed, mean: jax.Array, deviation: jax.Array) -> jax.Array:
    return mean + deviation * _bits.normal(seed, mean.shape)


def _safe_sqrt(value: jax.Array) -> jax.Array:
    """The square root, with a finite gradient at 0."""
    some = value > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, value, 1)), value)
