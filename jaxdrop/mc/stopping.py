"""Stopping rules."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop import _checks, _predictions
from jaxdrop._types import Numeric, PyTree
from jaxdrop.mc import _estimates

__all__ = ["Until"]


@partial(
    register_dataclass,
    data_fields=["standard_error"],
    meta_fields=["max_samples", "of", "every", "min_samples"],
)
@dataclass(frozen=True)
class Until:
    """Samples until every standard error is small enough, or until a maximum.

    The rule is checked after `every` samples, and then whenever a quarter more have been drawn, at
    multiples of `every`. The size of the chunks makes no difference.

    A standard error of few samples is not known itself, so there are at least `min_samples`. Of T samples
    that agree, the standard error of a share of class probabilities counts as 1 / T and not as 0: an
    event of that probability may not have been seen. Where samples are `balanced`, it is the sets that are
    counted by `min_samples` and by 1 / T, as they are what is independent.

    Attributes:
      standard_error: The largest standard error allowed: a positive scalar; may be traced.
      max_samples: The maximum number of samples.
      of: A function from `Estimate.standard_error` to the errors that count, an array or a tree of
        arrays. None: all of them count.
      every: The least number of samples between two checks.
      min_samples: The least number of samples at which the rule can stop before the maximum. With 32 a
        standard error is known to about 13 %.

    Examples:
      >>> rule = Until(standard_error=0.01, max_samples=10_000, of=lambda error: error["mean"])
    """

    standard_error: Numeric
    max_samples: int
    # The structure is that of the reducers.
    of: Callable[[PyTree], PyTree] | None = None
    every: int = 64
    min_samples: int = 32

    def check(self) -> None:
        """Raises an error for an invalid rule; JAX also calls the constructor, with traced values."""
        _checks.check_count(self.max_samples, "max_samples")
        _checks.check_count(self.every, "every")
        _checks.check_count(self.min_samples, "min_samples")
        _predictions.check_positive(
            _checks.check_scalar(self.standard_error, "standard_error"), "standard_error"
        )

    def is_sure(self, errors: PyTree, count: jax.Array) -> jax.Array:
        """Whether every standard error of so many samples is small enough; a NaN is not."""
        errors = _estimates.widened_shares(errors, count)
        watched = jax.tree.leaves(errors if self.of is None else self.of(errors))
        small = jnp.all(jnp.stack([jnp.all(leaf <= self.standard_error) for leaf in watched]))
        return small & (count >= self.min_samples)

    def next_look(self, stop: jax.Array) -> jax.Array:
        """The number of samples at the next check: a quarter more, at a multiple of `every`."""
        more = jnp.maximum(self.every, stop // 4 // self.every * self.every)
        return stop - stop % self.every + more
