"""A reducer of one part of a tree of outputs."""

import contextlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
from jax.tree_util import register_dataclass

from jaxdrop import _checks
from jaxdrop._types import PyTree
from jaxdrop.mc.reducers import _classes
from jaxdrop.mc.reducers._grouped import Estimates, Reducer, Summary, explain_nan

__all__ = ["Part"]


@partial(register_dataclass, data_fields=["reducer"], meta_fields=["part"])
@dataclass(frozen=True)
class Part:
    """Applies a reducer to one part of the outputs, and to the same part of the targets.

    Every other reducer gets the whole outputs and targets. `Part("logits", Categorical())` gets
    `outputs["logits"]` and `targets["logits"]`, and gives the estimates of its reducer. A part within
    a part is `Part("a", Part("b", reducer))`.

    Targets are None, or a tree with the same parts as the outputs. Parts without targets may be missing.

    Attributes:
      part: The key of a dictionary, the index of a tuple or list, or the name of a field of another tree.
      reducer: The reducer of that part.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxdrop import mc
      >>> def predict(key, x):
      ...     return {"logits": x + jax.random.normal(key, x.shape), "value": x[:, 0]}
      >>> reducers = [mc.Part("logits", mc.Categorical()), mc.Part("value", mc.Moments())]
      >>> found = mc.estimate(predict, jax.random.key(0), jnp.ones((2, 3)), num_samples=8, reducers=reducers)
      >>> found.value[0]["mean"].shape, found.value[1]["mean"]
      ((2, 3), Array([1., 1.], dtype=float32))
    """

    part: Hashable
    reducer: Reducer

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks the names of the parts, and lets the reducer check its own."""
        if isinstance(self.reducer, type) or not hasattr(self.reducer, "summarize"):
            raise TypeError(f"`reducer` must be a reducer, such as `Moments()`, got {self.reducer!r}.")
        parts, own = _parts(outputs), _parts(targets)
        if not parts:
            raise ValueError(
                f"`predict` must return a tree with a part {self.part!r}, got {_classes.kind_of(outputs)}."
            )
        _checks.check_choice(self.part, tuple(parts), "part")
        wrong = [repr(name) for name in own if name not in parts]
        if targets is not None and (wrong or not own):
            raise ValueError(
                f"`targets` must be a tree with parts of the outputs, {', '.join(map(repr, parts))}, "
                f"got {wrong[0] if wrong else _classes.kind_of(targets)}."
            )
        with self._named():
            self.reducer.check(parts[self.part], own.get(self.part))

    def check_values(self, values: Estimates) -> None:
        """Lets the reducer check its estimates."""
        with self._named():
            self.reducer.check_values(values)

    def explain_nan(self, values: Estimates) -> None:
        """Lets the reducer explain a NaN, if it can."""
        with self._named():
            explain_nan(self.reducer, values)

    def summarize(self, samples: PyTree, index: jax.Array, targets: PyTree) -> Summary:
        """Summarizes one part; see `Reducer`."""
        return self.reducer.summarize(_parts(samples)[self.part], index, _parts(targets).get(self.part))

    def merge(self, a: Summary, b: Summary) -> Summary:
        """Merges two states of the reducer."""
        return self.reducer.merge(a, b)

    def finish(self, state: Summary) -> tuple[Estimates, Estimates]:
        """Computes the estimates of the reducer, and their standard errors."""
        return self.reducer.finish(state)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Adds the part to errors of the reducer."""
        try:
            yield
        except (TypeError, ValueError) as error:
            error.add_note(f"This is the part {self.part!r} of the outputs and targets.")
            raise


def _parts(tree: PyTree) -> dict[Hashable, PyTree]:
    """The children of a tree by key, index or name of the field; none of an array or None."""
    children = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: node is not tree)
    return {_name(path[0]): child for path, child in children if path}


def _name(entry: PyTree) -> Hashable:
    """The key, index or name of an entry of a path, by the kind of its node."""
    return next(getattr(entry, kind) for kind in ("key", "idx", "name") if hasattr(entry, kind))
