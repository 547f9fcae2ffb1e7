"""Dense layers that draw noise together with their product."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdrop import _checks, drops
from jaxdrop._modules.base import Regularizer
from jaxdrop._types import ArrayLike, Bits, Numeric, Rate

_LECUN_NORMAL = jax.nn.initializers.lecun_normal()


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Dense(Regularizer):
    """A dense layer."""

    features: int = dataclasses.field(kw_only=False)
    use_bias: bool = True
    kernel_init: Callable[..., jax.Array] = _LECUN_NORMAL
    _call_doc = """Returns the noisy product and its penalty.

    Args:
      inputs: Floating-point inputs, `[..., I]`.

    Returns:
      The product, `[..., O]`, and the penalty, a scalar.
    """


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class VariationalDense(Dense):
    """Variational dropout: a dense layer with learned noise. Module form of `jaxdrop.variational_dropout`.

    It owns `kernel`, `bias` and `log_alpha`, and returns `(y, penalty)`. Add `penalty / N` to the
    mean loss over N examples. If deterministic, returns the product with the mean weights, and 0.

    Attributes:
      features: Number of outputs.
      rate: Initial rate of the Gaussian dropout, in (0, 0.5]: alpha = rate / (1 - rate).
      shared: What shares one alpha: the "layer", or the weights of an "input" or of an "output"; or
        "weight" for one alpha per weight.
      use_bias: If true, adds a bias.
      kernel_init: Initializer of the kernel.
    """

    rate: float = 0.1
    shared: Literal["layer", "input", "output", "weight"] = "layer"
    _pure = staticmethod(drops.variational_dropout)

    def _deterministic_output(
        self, inputs: ArrayLike, kernel: jax.Array, *_: Any
    ) -> tuple[jax.Array, jax.Array]:
        return product(inputs, kernel), jnp.zeros(())


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class SparseVariationalDense(Dense):
    """Sparse variational dropout of a dense layer. Module form of `jaxdrop.sparse_variational_dropout`.

    It owns `kernel`, `bias` and `log_variance`, and returns `(y, penalty)`. Add `penalty / N` to the
    mean loss over N examples. If deterministic, returns the product with `jaxdrop.sparse_kernel`,
    and 0.

    Attributes:
      features: Number of outputs.
      log_variance_init: Initial logarithm of the variance of each weight.
      threshold: Largest log(alpha) of a weight that is used if deterministic.
      use_bias: If true, adds a bias.
      kernel_init: Initializer of the kernel.
    """

    log_variance_init: float = -10.0
    threshold: Numeric = 3.0
    _pure = staticmethod(drops.sparse_variational_dropout)

    def _deterministic_output(self, inputs: ArrayLike, *weights: Any) -> tuple[jax.Array, jax.Array]:
        return product(inputs, drops.sparse_kernel(*weights, threshold=self.threshold)), jnp.zeros(())


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class ShakeoutDense(Dense):
    """Shakeout: a dense layer that drops or reverses inputs. Module form of `jaxdrop.shakeout`.

    It owns `kernel` and `bias`. If deterministic, returns the product without noise.

    Attributes:
      features: Number of outputs.
      rate: Probability of dropping an input, in [0, 1]: a scalar, or an array that broadcasts to
        the inputs. May be traced; has no gradient.
      constant: Strength of the reversal, finite and at least 0; may be traced.
      use_bias: If true, adds a bias.
      kernel_init: Initializer of the kernel.
    """

    rate: Rate = dataclasses.field(kw_only=False)
    constant: Numeric = dataclasses.field(kw_only=False)
    bits: Bits = None
    _pure = staticmethod(drops.shakeout)
    _call_doc = """Returns the product under shakeout; if deterministic, without.

    Args:
      inputs: Floating-point inputs, `[..., I]`.

    Returns:
      The product, `[..., O]`.
    """

    def _deterministic_output(self, inputs: ArrayLike, kernel: jax.Array, *_: Any) -> jax.Array:
        return product(inputs, kernel)


def product(inputs: ArrayLike, kernel: jax.Array) -> jax.Array:
    """The product without noise, in the dtype of the inputs."""
    x = _checks.check_floating(inputs)
    return x @ kernel.astype(x.dtype)


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a bias along the last axis, in the dtype of `y`."""
    return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))


def initial_log_alpha(rate: float, shared: str, shape: tuple[int, ...]) -> jax.Array:
    """The initial log(alpha) of variational dropout, in the shape that `shared` names."""
    if not 0 < rate <= 0.5:
        raise ValueError(f"`rate` must lie in (0, 0.5], got {rate:g}.")
    shapes = {"layer": (), "input": (shape[0], 1), "output": (shape[1],), "weight": shape}
    if shared not in shapes:
        raise ValueError(f"`shared` must be one of {', '.join(shapes)}, got {shared!r}.")
    return jnp.full(shapes[shared], math.log(rate / (1 - rate)), jnp.float32)
