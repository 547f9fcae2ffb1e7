"""Standard errors between clusters of samples that are not independent."""

from dataclasses import dataclass, replace
from functools import partial

import jax
from jax.tree_util import register_dataclass

from jaxdrop import _checks
from jaxdrop._types import PyTree
from jaxdrop.mc.reducers._grouped import Estimates, Grouped, Summary, explain_nan

__all__ = ["Clustered"]


@partial(register_dataclass, data_fields=["reducer"], meta_fields=["clusters"])
@dataclass(frozen=True)
class Clustered:
    """The estimates of another reducer, with standard errors between clusters of dependent samples.

    Several draws of one member of an ensemble are not independent: their number makes an estimate no surer
    than the members do. Sample t belongs to cluster t modulo `clusters`. The estimates are those of all
    samples, and their errors are the jackknife over whole clusters. So `Estimate.num_samples` is the number
    of clusters, if there are so many samples, and `Estimate.interval` and `Until` count these.

    Attributes:
      reducer: A `Grouped` reducer, such as `Moments()`; its own `groups` are not used.
      clusters: The number of clusters, at least 2.

    References:
      Busing, Meijer and van der Leeden, "Delete-m jackknife for unequal m", 1999.

    Examples:
      >>> from jaxdrop import mc
      >>> reducer = mc.Clustered(mc.Categorical(), 5)
    """

    reducer: Grouped
    clusters: int

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks the number of clusters, and lets the reducer check the rest."""
        if not isinstance(self.reducer, Grouped):
            raise TypeError(
                "`reducer` must be one of `jaxdrop.mc` that has `groups`, such as `Moments()`, got "
                f"{type(self.reducer).__name__}."
            )
        _checks.check_count(self.clusters, "clusters", 2)
        self._grouped().check(outputs, targets)

    def check_values(self, values: Estimates) -> None:
        """Lets the reducer check its estimates."""
        self.reducer.check_values(values)

    def explain_nan(self, values: Estimates) -> None:
        """Lets the reducer explain a NaN."""
        explain_nan(self.reducer, values)

    def summarize(self, samples: PyTree, index: jax.Array, targets: PyTree) -> Summary:
        """Computes a state with a leading axis of clusters; see `Reducer`."""
        return self._grouped().summarize(samples, index, targets)

    def merge(self, a: Summary, b: Summary) -> Summary:
        """Joins two states cluster by cluster."""
        return self._grouped().merge(a, b)

    def finish(self, state: Summary) -> tuple[Estimates, Estimates]:
        """Computes the estimates of all samples, and their standard errors between clusters."""
        return self._grouped().finish_by_groups(state)

    def _grouped(self) -> Grouped:
        """The reducer with a group for each cluster."""
        return replace(self.reducer, groups=self.clusters)  # pyright: ignore[reportArgumentType]
