"""Dense layers that draw noise together with their product: they own a kernel and a bias."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._modules import dense
from jaxdrop._types import ArrayLike, Key, Rate
from jaxdrop.linen._shell import Stochastic

__all__ = ["ShakeoutDense", "SparseVariationalDense", "VariationalDense"]


class _Dense(dense.Dense, Stochastic):
    """A dense layer."""

    @nn.nowrap
    def _kernel(self, inputs: ArrayLike) -> jax.Array:
        x = _checks.check_rank(_checks.check_floating(inputs, "inputs"), 1, "[..., I]", "inputs")
        return self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)

    @nn.nowrap
    def _biased(self, y: jax.Array) -> jax.Array:
        if not self.use_bias:
            return y
        return dense.add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32))


class _Penalized(_Dense):
    """A dense layer that also returns a penalty."""

    @nn.nowrap
    def _log_noise(self, shape: tuple[int, ...]) -> Any:
        """The parameter of the noise, of a kernel of some shape."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, inputs: ArrayLike, deterministic: bool | None = None, rng: Key | None = None
    ) -> tuple[jax.Array, jax.Array]:
        kernel = self._kernel(inputs)
        data = inputs, kernel, self._log_noise(kernel.shape)
        y, penalty = self._apply(data, (), deterministic, rng)
        return self._biased(y), penalty


class VariationalDense(dense.VariationalDense, _Penalized):
    @nn.nowrap
    def _log_noise(self, shape: tuple[int, ...]) -> Any:
        return self.param("log_alpha", lambda _: dense.initial_log_alpha(self.rate, self.shared, shape))


class SparseVariationalDense(dense.SparseVariationalDense, _Penalized):
    @nn.nowrap
    def _log_noise(self, shape: tuple[int, ...]) -> Any:
        return self.param(
            "log_variance", nn.initializers.constant(self.log_variance_init), shape, jnp.float32
        )


class ShakeoutDense(dense.ShakeoutDense, _Dense):
    @nn.compact
    def __call__(
        self,
        inputs: ArrayLike,
        deterministic: bool | None = None,
        rng: Key | None = None,
        *,
        rate: Rate | None = None,
    ) -> jax.Array:
        data = inputs, self._kernel(inputs)
        return self._biased(self._apply(data, self._rate(rate), deterministic, rng))
