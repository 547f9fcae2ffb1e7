"""The checks of a report's arguments, before any work."""

from collections.abc import Callable

import jax
import numpy as np

from jaxdrop import _checks
from jaxdrop._report import kinds
from jaxdrop._report.kinds import Kind
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.mc._program import check_random

_HOLDOUT = 0.3


def check_texts(**texts: str | None) -> None:
    """Strings or None."""
    for name, value in texts.items():
        if not isinstance(value, str | None):
            raise TypeError(f"`{name}` must be a string, got {type(value).__name__}.")


def check_predict(
    predict: Callable[[Key, PyTree], PyTree],
    key: Key,
    x: PyTree,
    targets: np.ndarray,
    outputs: str | None,
    ignore: int | None,
) -> Kind:
    """What a predictor predicts, which accepts the first batch, fits the targets and depends on its key."""
    _check_call(predict, key, x)
    kind = kinds.told(predict, key, x, targets, outputs, ignore)
    kinds.check_labels(kind, targets)
    check_random(predict, key, x)
    return kind


def rows(data: PyTree, which: slice | np.ndarray) -> PyTree:
    """Some examples of the data, as NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[which]), data)


def check_pair(
    pair: tuple[PyTree, ArrayLike], data: PyTree, y: np.ndarray, outputs: str | None
) -> tuple[PyTree, np.ndarray]:
    """Inputs and targets to fit on, which are alike those to score."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"`calibration` must be a pair (data, targets), got {type(pair).__name__}.")
    count = kinds.count(pair[0], "calibration[0]")
    own = pair[0], kinds.check_targets(pair[1], count, outputs, "calibration[1]")

    def form(data: PyTree, y: np.ndarray) -> str:
        shapes = [(leaf.shape[1:], leaf.dtype.name) for leaf in jax.tree.leaves(data)]
        return f"{shapes} and targets {y.shape[1:]} of {'labels' if y.dtype.kind == 'i' else 'numbers'}"

    if form(*own) != form(data, y):
        raise ValueError(f"`calibration` must be like the data, {form(data, y)}, got {form(*own)}.")
    return own


def split(key: Key, total: int, holdout: float | None, own: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the examples to fit on and to score."""
    if holdout is None:
        holdout = _HOLDOUT if own is None else 0.0
    share = _checks.check_number(holdout, "holdout")
    if not 0 <= share < 1 or (own is not None and share):
        allowed = "in [0, 1)" if own is None else "0 or None with `calibration`"
        raise ValueError(f"`holdout` must be {allowed}, got {share:g}.")
    order = np.asarray(jax.random.permutation(key, total))
    count = round(share * total)
    if total - count < 2:
        raise ValueError(
            f"`data` must leave at least 2 examples to score, got {total} with {count} held out."
        )
    held, scored = np.sort(order[:count]), np.sort(order[count:])
    return (held if own is None else np.arange(len(own[1]))), scored


def _check_call(predict: Callable[[Key, PyTree], PyTree], key: Key, x: PyTree) -> None:
    if not callable(predict):
        raise TypeError(f"`predict` must be a function of a key and inputs, got {type(predict).__name__}.")
    try:
        jax.eval_shape(predict, key, x)
    except Exception as error:
        # Such as a kernel of another width; Flax need not be there.
        if not isinstance(error, TypeError | ValueError) and type(error).__module__ != "flax.errors":
            raise
        shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(x))
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 300 else f"{reason[:300]} ..."
        raise ValueError(
            f"`predict` must accept a key and a batch of the data, {shapes}, got {type(error).__name__}: "
            f"{reason}"
        ) from error
