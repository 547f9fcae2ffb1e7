"""Dense layers whose weights and noise are one: they own a kernel and a bias."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdrop import _checks, drops
from jaxdrop._types import ArrayLike, Bits, Key, Numeric, Rate
from jaxdrop.linen._shell import Stochastic


class _Dense(Stochastic):
    """A dense layer: the kernel, the bias, and the product without noise."""

    features: int = dataclasses.field(kw_only=False)
    use_bias: bool = True
    kernel_init: Callable[..., jax.Array] = nn.initializers.lecun_normal()

    def _kernel(self, inputs: ArrayLike) -> jax.Array:
        return self.param("kernel", self.kernel_init, (jnp.shape(inputs)[-1], self.features), jnp.float32)

    def _biased(self, y: jax.Array) -> jax.Array:
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))

    def _product(self, inputs: ArrayLike, kernel: jax.Array) -> jax.Array:
        x = _checks.check_floating(inputs)
        return x @ kernel.astype(x.dtype)


class VariationalDense(_Dense):
    """`jaxdrop.variational_dropout` as a dense layer that owns `kernel`, `bias` and `log_alpha`.

    It gives `(y, penalty)`, the penalty to be added to the mean loss over N examples as
    `penalty / N`; where deterministic, the product with the mean weights, and 0.

    Attributes:
      features: How many outputs.
      rate: The rate of the Gaussian dropout to begin with, in (0, 0.5]: alpha = rate / (1 - rate).
      shared: What one alpha is for: the "layer", an "input", an "output" or a "weight".
      use_bias: Whether to add a bias.
      kernel_init: The initializer of the kernel.
    """

    rate: float = 0.1
    shared: str = "layer"
    _pure = staticmethod(drops.variational_dropout)

    @nn.compact
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: ArrayLike, deterministic: bool | None = None, rng: Key | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The noisy product and its penalty."""
        kernel = self._kernel(inputs)
        log_alpha = self.param("log_alpha", lambda _: _log_alpha(self.rate, self.shared, kernel.shape))
        y, penalty = self._apply((inputs, kernel, log_alpha), (), deterministic, rng)
        return self._biased(y), penalty

    def _deterministic_output(
        self, inputs: ArrayLike, kernel: jax.Array, *_: Any
    ) -> tuple[jax.Array, jax.Array]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._product(inputs, kernel), jnp.zeros(())


class SparseVariationalDense(_Dense):
    """`jaxdrop.sparse_variational_dropout` as a dense layer: `kernel`, `bias` and `log_variance`.

    It gives `(y, penalty)`, the penalty to be added to the mean loss over N examples as
    `penalty / N`; where deterministic, the product with `jaxdrop.sparse_kernel`, and 0.

    Attributes:
      features: How many outputs.
      log_variance_init: The logarithm of the variance of each weight to begin with.
      threshold: The largest log(alpha) of a weight that is used where deterministic.
      use_bias: Whether to add a bias.
      kernel_init: The initializer of the kernel.
    """

    log_variance_init: float = -10.0
    threshold: Numeric = 3.0
    _pure = staticmethod(drops.sparse_variational_dropout)

    @nn.compact
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: ArrayLike, deterministic: bool | None = None, rng: Key | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The noisy product and its penalty."""
        kernel = self._kernel(inputs)
        start = nn.initializers.constant(self.log_variance_init)
        log_variance = self.param("log_variance", start, kernel.shape)
        y, penalty = self._apply((inputs, kernel, log_variance), (), deterministic, rng)
        return self._biased(y), penalty

    def _deterministic_output(self, inputs: ArrayLike, *weights: Any) -> tuple[jax.Array, jax.Array]:
        return self._product(inputs, drops.sparse_kernel(*weights, threshold=self.threshold)), jnp.zeros(())


class ShakeoutDense(_Dense):
    """`jaxdrop.shakeout` as a dense layer that owns `kernel` and `bias`.

    Attributes:
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

    @nn.compact
    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        rate: Rate | None = None,
    ) -> jax.Array:
        """The product under shakeout; where deterministic, without."""
        return self._biased(self._apply((inputs, self._kernel(inputs)), self._rate(rate), deterministic, rng))

    def _deterministic_output(self, inputs: ArrayLike, kernel: jax.Array, *_: Any) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._product(inputs, kernel)


def _log_alpha(rate: float, shared: str, shape: tuple[int, ...]) -> jax.Array:
    if not 0 < rate <= 0.5:
        raise ValueError(f"`rate` must lie in (0, 0.5] to be learned from, got {rate:g}.")
    shapes = {"layer": (), "input": (shape[0], 1), "output": (shape[1],), "weight": shape}
    if shared not in shapes:
        raise ValueError(f"`shared` must be one of {', '.join(shapes)}, got {shared!r}.")
    return jnp.full(shapes[shared], math.log(rate / (1 - rate)), jnp.float32)
