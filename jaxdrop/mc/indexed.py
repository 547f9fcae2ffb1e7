"""Predictors that are told the number of their sample."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from jax.tree_util import register_dataclass

from jaxdrop import _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _designs
from jaxdrop.mc._designs import Design

__all__ = ["Indexed"]


@partial(register_dataclass, data_fields=["function", "rows"], meta_fields=["max_samples", "clusters"])
@dataclass(frozen=True)
class Indexed:
    """A predictor that is told the number of its sample: sample t is `function(key, t, x)`.

    Another predictor gets `fold_in(key, t)`, so that its samples are independent. This one gets the key
    of the whole call and t. Its samples can be the members of an ensemble, each once, or parts of a design,
    such as masks that are balanced over all samples. They do not depend on the chunks, the devices, `first`
    or a restart. Only `jaxdrop.mc` passes the number: a direct call is an error.

    Attributes:
      function: `function(key, t, x) -> outputs`, with the key of the call, the same for all samples, and t
        an int32 scalar, traced. With rows, `function(row, key, t, x) -> outputs`. Noise of a sample needs
        `fold_in(key, t)`. Bind arrays by `jax.tree_util.Partial`, so that new ones do not recompile.
      rows: A tree of R rows, `[R, ...]`: sample t gets row t modulo R. None: there are none. Each chunk
        copies its rows, except one that holds just all rows.
      max_samples: The number of samples that there are; more are refused. None: no limit.
      clusters: The number C of independent clusters, if the samples are not independent: sample t belongs
        to cluster t modulo C. Reducers must then be `Clustered`. None: all samples are independent.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxdrop import mc
      >>> predict = Indexed(lambda row, key, t, x: row * x, jnp.array([1.0, 2.0, 4.0]), max_samples=3)
      >>> mc.sample(predict, jax.random.key(0), jnp.ones((1, 2)), num_samples=3)[:, 0, 0]
      Array([1., 2., 4.], dtype=float32)
    """

    function: Callable[..., PyTree]
    rows: PyTree = None
    max_samples: int | None = None
    clusters: int | None = None

    def design(self) -> Design:
        """The counts, checked; JAX also calls the constructor, with other values."""
        if self.rows is not None:
            _designs.count_rows(self.rows, "rows")
        counts = Design(self.max_samples, self.clusters)
        for name, count in counts._asdict().items():
            if count is not None:
                _checks.check_count(count, name)
        return counts

    def __call__(self, key: Key, x: PyTree) -> NoReturn:
        """Refuses a call that does not say the number of the sample."""
        raise TypeError(
            "`predict` must be given as it is to a function of `jaxdrop.mc`, which alone passes the number "
            "of a sample, got a call with a key. To change outputs, change the function that it is made of."
        )
