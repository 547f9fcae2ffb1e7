"""Dense layers whose weights and noise are one: they own a kernel and a bias."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop import _checks, drops
from jaxdrop._types import ArrayLike, Bits, Numeric, Rate
from jaxdrop.nnx._shell import Base, Rngs, params_key


class _Dense(Base):
    """A dense layer: the kernel, the bias, and the product without noise."""

    in_features: int = dataclasses.field(kw_only=False)
    features: int = dataclasses.field(kw_only=False)
    use_bias: bool = True
    kernel_init: Callable[..., jax.Array] = nnx.initializers.lecun_normal()

    def __post_init__(self: Any, rngs: Rngs | None):
        key = params_key(rngs)
        super().__post_init__(rngs)
        self.kernel = nnx.Param(self.kernel_init(key, (self.in_features, self.features), jnp.float32))
        self.bias = nnx.data(nnx.Param(jnp.zeros(self.features, jnp.float32)) if self.use_bias else None)

    def _biased(self: Any, y: jax.Array) -> jax.Array:
        if self.bias is None:
            return y
        return y + self.bias[...].astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))

    def _product(self, inputs: ArrayLike, kernel: jax.Array) -> jax.Array:
        x = _checks.check_floating(inputs)
        return x @ kernel.astype(x.dtype)


class VariationalDense(_Dense):
    """`jaxdrop.variational_dropout` as a dense layer that owns `kernel`, `bias` and `log_alpha`.

    It gives `(y, penalty)`, the penalty to be added to the mean loss over N examples as
    `penalty / N`; where deterministic, the product with the mean weights, and 0.

    Args:
      in_features: How many inputs.
      features: How many outputs.
      rate: The rate of the Gaussian dropout to begin with, in (0, 0.5]: alpha = rate / (1 - rate).
      shared: What one alpha is for: the "layer", an "input", an "output" or a "weight".
      use_bias: Whether to add a bias.
      kernel_init: The initializer of the kernel.
    """

    rate: float = 0.1
    shared: str = "layer"
    _pure = staticmethod(drops.variational_dropout)

    def __post_init__(self: Any, rngs: Rngs | None):
        super().__post_init__(rngs)
        self.log_alpha = nnx.Param(_log_alpha(self.rate, self.shared, self.kernel.shape))

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self: Any,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """The noisy product and its penalty."""
        data = inputs, self.kernel[...], self.log_alpha[...]
        y, penalty = self._apply(data, (), deterministic, rngs)
        return self._biased(y), penalty

    def _deterministic_output(
        self, inputs: ArrayLike, kernel: jax.Array, *_: Any
    ) -> tuple[jax.Array, jax.Array]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._product(inputs, kernel), jnp.zeros(())


class SparseVariationalDense(_Dense):
    """`jaxdrop.sparse_variational_dropout` as a dense layer: `kernel`, `bias` and `log_variance`.

    It gives `(y, penalty)`, the penalty to be added to the mean loss over N examples as
    `penalty / N`; where deterministic, the product with `jaxdrop.sparse_kernel`, and 0.

    Args:
      in_features: How many inputs.
      features: How many outputs.
      log_variance_init: The logarithm of the variance of each weight to begin with.
      threshold: The largest log(alpha) of a weight that is used where deterministic.
      use_bias: Whether to add a bias.
      kernel_init: The initializer of the kernel.
    """

    log_variance_init: float = -10.0
    threshold: Numeric = 3.0
    _pure = staticmethod(drops.sparse_variational_dropout)

    def __post_init__(self: Any, rngs: Rngs | None):
        super().__post_init__(rngs)
        self.log_variance = nnx.Param(jnp.full(self.kernel.shape, self.log_variance_init, jnp.float32))

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self: Any,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """The noisy product and its penalty."""
        data = inputs, self.kernel[...], self.log_variance[...]
        y, penalty = self._apply(data, (), deterministic, rngs)
        return self._biased(y), penalty

    def _deterministic_output(self, inputs: ArrayLike, *weights: Any) -> tuple[jax.Array, jax.Array]:
        return self._product(inputs, drops.sparse_kernel(*weights, threshold=self.threshold)), jnp.zeros(())


class ShakeoutDense(_Dense):
    """`jaxdrop.shakeout` as a dense layer that owns `kernel` and `bias`.

    Args:
      in_features: How many inputs.
      features: How many outputs.
      rate: The probability of dropping an input, in [0, 1]; a scalar or an array; may be traced.
      constant: The strength of the reversal, finite and at least 0; may be traced.
      use_bias: Whether to add a bias.
      kernel_init: The initializer of the kernel.
      bits: Random bits an input: 8, 16, 24, 32 (Flax), or None for 16 or 24 by the rate.
    """

    rate: Rate = dataclasses.field(kw_only=False)
    constant: Numeric = dataclasses.field(kw_only=False)
    bits: Bits = None
    _pure = staticmethod(drops.shakeout)

    def __post_init__(self, rngs: Rngs | None):
        super().__post_init__(rngs)
        _checks.check_rate(self.rate)

    def __call__(
        self: Any,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        """The product under shakeout; where deterministic, without."""
        data = inputs, self.kernel[...]
        return self._biased(self._apply(data, self._rate(rate), deterministic, rngs))

    def _deterministic_output(self, inputs: ArrayLike, kernel: jax.Array, *_: Any) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._product(inputs, kernel)


def _log_alpha(rate: float, shared: str, shape: tuple[int, ...]) -> jax.Array:
    if not 0 < rate <= 0.5:
        raise ValueError(f"`rate` must lie in (0, 0.5] to be learned from, got {rate:g}.")
    shapes = {"layer": (), "input": (shape[0], 1), "output": (shape[1],), "weight": shape}
    if shared not in shapes:
        raise ValueError(f"`shared` must be one of {', '.join(shapes)}, got {shared!r}.")
    return jnp.full(shapes[shared], math.log(rate / (1 - rate)), jnp.float32)
