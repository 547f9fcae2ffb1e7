"""Stopping rules."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop import _checks, _predictions
from jaxdrop._types import Numeric, PyTree

__all__ = ["Until"]


@partial(register_dataclass, data_fields=["standard_error"], meta_fields=["max_samples", "of", "every"])
@dataclass(frozen=True)
class Until:
    """Samples until every standard error is small enough, or until a maximum.

    The rule is checked after `every` samples, and then whenever a quarter more have been drawn, at
    multiples of `every`. The size of the chunks makes no difference.

    Attributes:
      standard_error: The largest standard error allowed: a positive scalar; may be traced.
      max_samples: The maximum number of samples.
      of: A function from `Estimate.standard_error` to the errors that count, an array or a tree of
        arrays. None: all of them count.
      every: The least number of samples between two checks.

    Examples:
      >>> rule = Until(standard_error=0.01, max_samples=10_000, of=lambda error: error["mean"])
    """

    standard_error: Numeric
    max_samples: int
    # The structure is that of the reducers.
    of: Callable[[PyTree], PyTree] | None = None
    every: int = 64

    def check(self) -> None:
        """Raises an error for an invalid rule; JAX also calls the constructor, with traced values."""
        _checks.check_count(self.max_samples, "max_samples")
        _checks.check_count(self.every, "every")
        _predictions.check_positive(
            _checks.check_scalar(self.standard_error, "standard_error"), "standard_error"
        )

    def is_sure(self, errors: PyTree) -> jax.Array:
        """Whether every standard error is small enough; a NaN is not."""
        watched = jax.tree.leaves(errors if self.of is None else self.of(errors))
        return jnp.all(jnp.stack([jnp.all(leaf <= self.standard_error) for leaf in watched]))

    def next_look(self, stop: jax.Array) -> jax.Array:
        """The number of samples at the next check: a quarter more, at a multiple of `every`."""
        more = jnp.maximum(self.every, stop // 4 // self.every * self.every)
        return stop - stop % self.every + more
