"""When there are samples enough."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop import _checks
from jaxdrop._types import Numeric


@partial(register_dataclass, data_fields=["standard_error"], meta_fields=["max_samples", "of", "every"])
@dataclass(frozen=True)
class Until:
    """How many samples: until every standard error is small enough, or there are too many.

    It is looked at after `every` samples, and then whenever there are a quarter more, at multiples
    of `every`, whatever the size of the chunks.

    Attributes:
      standard_error: What no standard error may exceed; positive.
      max_samples: Where to stop in any case.
      of: From the standard errors of an `Estimate` to those that count, an array or a tree of them; by
        default all of them count.
      every: How many samples at least between two looks.

    >>> rule = Until(standard_error=0.01, max_samples=10_000, of=lambda error: error["mean"])
    """

    standard_error: Numeric
    max_samples: int
    of: Callable[[Any], Any] | None = None
    every: int = 64

    def check(self) -> None:
        """Raises what is wrong with a rule; not by the constructor, which is also given traced values."""
        _checks.check_count(self.max_samples, "max_samples")
        _checks.check_count(self.every, "every")
        _checks.check_positive(_checks.check_scalar(self.standard_error, "standard_error"), "standard_error")

    def is_sure(self, errors: Any) -> jax.Array:
        """Whether every standard error is small enough; one that is NaN is not."""
        watched = jax.tree.leaves(errors if self.of is None else self.of(errors))
        return jnp.all(jnp.stack([jnp.all(leaf <= self.standard_error) for leaf in watched]))

    def next_look(self, stop: jax.Array) -> jax.Array:
        """A quarter more, at a multiple of `every`."""
        more = jnp.maximum(self.every, stop // 4 // self.every * self.every)
        return stop - stop % self.every + more
