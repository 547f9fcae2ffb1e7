"""Dense layers that draw noise together with their product: they own a kernel and a bias."""
# ruff: noqa: D101, D102 - docstrings without examples stand in `jaxdrop._modules`.

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop import _checks
from jaxdrop._modules import dense
from jaxdrop._types import ArrayLike, Rate
from jaxdrop.nnx._shell import Base, Rngs, Sized, Source, params_key

__all__ = ["ShakeoutDense", "SparseVariationalDense", "VariationalDense"]


class _Dense(dense.Dense, Sized, Base):
    """A dense layer."""

    def __post_init__(self: Any, rngs: Rngs | None):
        key = params_key(rngs)
        super().__post_init__(rngs)
        self.kernel = nnx.Param(self.kernel_init(key, (self.in_features, self.features), jnp.float32))
        self.bias = nnx.data(nnx.Param(jnp.zeros(self.features, jnp.float32)) if self.use_bias else None)

    def _biased(self: Any, y: jax.Array) -> jax.Array:
        return y if self.bias is None else dense.add_bias(y, self.bias[...])


class _Penalized(_Dense):
    """A dense layer that also returns a penalty."""

    def _log_noise(self) -> nnx.Param:
        """The parameter of the noise."""
        raise NotImplementedError

    def __call__(
        self: Any, inputs: ArrayLike, *, deterministic: bool | None = None, rngs: Source = None
    ) -> tuple[jax.Array, jax.Array]:
        data = inputs, self.kernel[...], self._log_noise()[...]
        y, penalty = self._apply(data, (), deterministic, rngs)
        return self._biased(y), penalty


class VariationalDense(dense.VariationalDense, _Penalized):
    def __post_init__(self: Any, rngs: Rngs | None):
        super().__post_init__(rngs)
        self.log_alpha = nnx.Param(dense.initial_log_alpha(self.rate, self.shared, self.kernel.shape))

    def _log_noise(self: Any) -> nnx.Param:
        return self.log_alpha


class SparseVariationalDense(dense.SparseVariationalDense, _Penalized):
    def __post_init__(self: Any, rngs: Rngs | None):
        super().__post_init__(rngs)
        self.log_variance = nnx.Param(jnp.full(self.kernel.shape, self.log_variance_init, jnp.float32))

    def _log_noise(self: Any) -> nnx.Param:
        return self.log_variance


class ShakeoutDense(dense.ShakeoutDense, _Dense):
    def __post_init__(self, rngs: Rngs | None):
        super().__post_init__(rngs)
        _checks.check_rate(self.rate)

    def __call__(
        self: Any,
        inputs: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: Source = None,
        rate: Rate | None = None,
    ) -> jax.Array:
        data = inputs, self.kernel[...]
        return self._biased(self._apply(data, self._rate(rate), deterministic, rngs))
