"""Reducers of samples that are balanced in sets, with standard errors between sets."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, PyTree
from jaxdrop.mc.reducers._grouped import (
    Estimates,
    Grouped,
    Summary,
    deal,
    explain_nan,
    namespace,
    zero_ignored,
)

# The entry of a state, so that states of different designs do not merge.
_ENTRY = "sets of "


@partial(register_dataclass, data_fields=["reducer"], meta_fields=["size"])
@dataclass(frozen=True)
class InSets:
    """The estimates of another reducer, with standard errors between sets of dependent samples.

    Sample t belongs to set t // size, and set r to group r modulo the groups of the reducer. All errors are
    the jackknife over groups.

    Attributes:
      reducer: The reducer, which has groups.
      size: The number of samples in a set.
    """

    reducer: Grouped
    size: int

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Lets the reducer check."""
        self.reducer.check(outputs, targets)

    def check_values(self, values: Estimates) -> None:
        """Lets the reducer check its estimates."""
        self.reducer.check_values(values)

    def explain_nan(self, values: Estimates) -> None:
        """Lets the reducer explain a NaN."""
        explain_nan(self.reducer, values)

    def summarize(self, samples: PyTree, index: jax.Array, targets: PyTree) -> Summary:
        """Computes a state with a leading axis of groups; see `Reducer`."""
        groups, count = self.reducer.groups or 1, index.shape[0]
        # NumPy, where the numbers are known, so that the compiled program computes none of this.
        number = np.asarray(index) if _checks.is_concrete(index) else index
        place = np.arange(count, dtype=np.int32)
        first = namespace(number).where(number >= 0, number - place, 0).max()
        samples = jax.tree.map(partial(zero_ignored, number), samples)
        weights = (number >= 0).astype(np.float32)
        one = jax.tree.map(lambda leaf: leaf[:1], samples)
        of_none = self.reducer.summary(one, jnp.zeros(1, jnp.float32), targets)
        if count % self.size == 0:
            touched = min(groups, count // self.size)
            samples, weights = jax.tree.map(partial(self._dealt, touched), (samples, weights))
            state = jax.vmap(self.reducer.summary, (0, 0, None))(samples, weights, targets)
        else:
            # A chunk that is a part of a set is in one group; others reach into several.
            touched = 1 if self.size % count == 0 else (count + self.size - 2) // self.size + 1
            touched = min(groups, touched)
            turn = (first % self.size + place) // self.size % groups
            in_group = turn[None] == np.arange(touched, dtype=np.int32)[:, None]
            weights = (in_group & (number >= 0)[None]).astype(np.float32)
            state = jax.vmap(self.reducer.summary, (None, 0, None))(samples, weights, targets)

        def placed(leaf: jax.Array, none: jax.Array) -> jax.Array:
            """The groups of this chunk at their places among all."""
            others = jnp.broadcast_to(none, (groups - touched, *none.shape))
            return jnp.roll(jnp.concatenate([leaf, others]), first // self.size % groups, 0)

        return {self._entry(): jax.tree.map(placed, state, of_none)}

    def merge(self, a: Summary, b: Summary) -> Summary:
        """Joins two states group by group."""
        return {self._entry(): self.reducer.merge(a[self._entry()], b[self._entry()])}

    def finish(self, state: Summary) -> tuple[Estimates, Estimates]:
        """Computes the estimates of all samples, and their standard errors between sets."""
        return self.reducer.finish_by_groups(state[self._entry()])

    def _dealt(self, groups: int, rows: ArrayLike) -> ArrayLike:
        """Whole sets in turn to the groups, `[groups, C / groups, ...]`, with rows of zeros at the end."""
        sets = deal(groups, rows.reshape(-1, self.size, *rows.shape[1:]))
        return sets.swapaxes(0, 1).reshape(groups, -1, *rows.shape[1:])

    def _entry(self) -> str:
        return f"{_ENTRY}{self.size}"


def size_of_state(state: PyTree) -> int | None:
    """The size of the sets of the samples that a reducer's state is of; None if they are independent."""
    names = list(state) if isinstance(state, dict) else []
    is_entry = len(names) == 1 and isinstance(names[0], str) and names[0].startswith(_ENTRY)
    return int(names[0].removeprefix(_ENTRY)) if is_entry else None
