"""Dropout and noise, element by element."""

import dataclasses
from collections.abc import Sequence

import jax

from jaxdrop import drops
from jaxdrop._modules.base import Rated, Regularizer
from jaxdrop._types import ArrayLike, Bits, Numeric


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Dropout(Rated):
    """Dropout: zeroes elements and scales the others. Module form of `jaxdrop.dropout`.

    It takes every argument of Flax's own Dropout.

    Attributes:
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask.
        May be traced; has no gradient.
      broadcast_dims: Axes along which one decision is shared.
    """

    # `bits` is declared by each API, for Linen's fields have Flax's order.
    broadcast_dims: Sequence[int] = ()
    _pure = staticmethod(drops.dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class MCDropout(Rated):
    """Monte-Carlo dropout: `jaxdrop.dropout` that stays active at evaluation.

    For models written for Monte-Carlo dropout. Each call needs a key, unless the rate is 0 or 1.

    Attributes:
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask.
        May be traced; has no gradient.
      broadcast_dims: Axes along which one decision is shared.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.
    """

    # `bits` is declared by each API, for Linen's fields have Flax's order.
    broadcast_dims: Sequence[int] = ()
    _pure = staticmethod(drops.dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class GaussianDropout(Rated):
    """Gaussian dropout: multiplies by noise of mean 1. Module form of `jaxdrop.gaussian_dropout`.

    Attributes:
      rate: Rate of the dropout with the same variance, in [0, 1]: a scalar, or an array that
        broadcasts to the inputs. May be traced.
    """

    _pure = staticmethod(drops.gaussian_dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class GaussianNoise(Regularizer):
    """Gaussian noise: adds noise of mean 0. Module form of `jaxdrop.gaussian_noise`.

    The call takes `stddev` where other modules take `rate`.

    Attributes:
      stddev: Standard deviation, finite and at least 0: a scalar, or an array that broadcasts to
        the inputs. May be traced.
    """

    stddev: Numeric = dataclasses.field(kw_only=False)
    _pure = staticmethod(drops.gaussian_noise)
    rates_without_key = (0,)
    _call_doc = """Adds noise; if deterministic, returns the inputs.

    Args:
      inputs: Floating-point inputs.
      stddev: Standard deviation of this call, instead of the module's; may be traced.

    Returns:
      Array of the shape and dtype of the inputs.
    """


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AlphaDropout(Rated):
    """Alpha dropout: drops to SELU's negative limit. Module form of `jaxdrop.alpha_dropout`.

    Attributes:
      rate: Probability of dropping, in [0, 1]: a scalar, or an array that broadcasts to the mask.
        May be traced; has no gradient.
      broadcast_dims: Axes along which one decision is shared.
    """

    broadcast_dims: Sequence[int] = ()
    bits: Bits = None
    _pure = staticmethod(drops.alpha_dropout)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Standout(Regularizer):
    """Standout: the network computes the keep probabilities. Module form of `jaxdrop.standout`.

    Called with the activations and the logits. If deterministic, returns `jaxdrop.standout_mean`,
    not the inputs.

    Attributes:
      alpha: Scale of the logits: a scalar or an array that broadcasts; may be traced.
      beta: Offset of the logits: a scalar or an array that broadcasts; may be traced.
      bits: Random bits per element: 8, 16 (the default), 24 or 32 (32 draws as Flax does).
    """

    alpha: Numeric = dataclasses.field(default=1.0, kw_only=False)
    beta: Numeric = dataclasses.field(default=0.0, kw_only=False)
    bits: Bits = None
    _pure = staticmethod(drops.standout)
    _call_doc = """Drops by the logits; if deterministic, returns the mean.

    Args:
      inputs: Floating-point activations.
      logits: Logits of the keep probabilities; they broadcast to the inputs.

    Returns:
      Array of the shape and dtype of the inputs.
    """

    def _deterministic_output(self, inputs: ArrayLike, logits: ArrayLike) -> jax.Array:
        return drops.standout_mean(inputs, logits, alpha=self.alpha, beta=self.beta)
