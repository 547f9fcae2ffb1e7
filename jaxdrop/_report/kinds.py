"""What a predictor predicts: classes, labels of parts such as pixels, or a number; told before any work."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, mc
from jaxdrop._types import ArrayLike, Key, PyTree
from jaxdrop.mc.reducers import Reducer

LABELS = ("logits", "probabilities")
NUMBERS = ("mean", "mean_variance", "mean_stddev")
OUTPUTS = (*LABELS, *NUMBERS)
# Sums of probabilities differ by less than the first from 1 in float32, and by less than the second in half
# precision.
_SURE, _UNSURE = 1e-3, 0.1


class Kind(NamedTuple):
    """What a predictor predicts.

    Attributes:
      outputs: What the outputs mean, one of `OUTPUTS`.
      classes: The number of classes, 2 for one output of a binary label; 0 for a number.
      single: Whether there is one output of a binary label.
      parts: The shape of the labels of an example: () for one label, `[H, W]` for pixels.
      ignore: The label of parts that do not count, or None.
    """

    outputs: str
    classes: int
    single: bool = False
    parts: tuple[int, ...] = ()
    ignore: int | None = None

    @property
    def reducer(self) -> Reducer:
        """The statistics of the samples that the report needs."""
        if not self.classes:
            return mc.Moments()
        of_labels = mc.Bernoulli if self.single else mc.Categorical
        return of_labels(from_logits=self.outputs == "logits", log_mean=True)

    def __str__(self) -> str:
        if not self.classes:
            return {
                "mean": "a mean",
                "mean_variance": "a mean and a variance",
                "mean_stddev": "a mean and a standard deviation",
            }[self.outputs]
        of = f" of each of {' x '.join(map(str, self.parts))} parts" if self.parts else ""
        one = "binary labels" if self.single else f"{self.classes} classes"
        return f"{self.outputs} of {one}{of}"


class Labels(NamedTuple):
    """Estimates of labels, `[n, ...]`, and the Monte-Carlo standard errors of the uncertainties.

    Attributes:
      logs: Logarithms of the mean probabilities, `[n, ..., K]`.
      total: Entropy of the mean, in nats.
      information: Mutual information, in nats.
      total_error: Standard error of `total`.
      information_error: Standard error of `information`.
    """

    logs: np.ndarray
    total: np.ndarray
    information: np.ndarray
    total_error: np.ndarray
    information_error: np.ndarray

    @property
    def probs(self) -> np.ndarray:
        """The mean probabilities, `[n, ..., K]`, which sum to 1."""
        probs = np.exp(self.logs.astype(np.float64))
        return (probs / probs.sum(-1, keepdims=True)).astype(np.float32)


class Numbers(NamedTuple):
    """Estimates of numbers, `[n]`, and the Monte-Carlo standard error of the deviation.

    Attributes:
      mean: The mean.
      aleatoric: The mean of the predicted variances; 0 if none are predicted.
      epistemic: The variance of the predicted means.
      error: Standard error of the square root of their sum, without the correlation of the two.
    """

    mean: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray
    error: np.ndarray

    @property
    def stddev(self) -> np.ndarray:
        """The standard deviation of the prediction."""
        return np.sqrt(self.aleatoric + self.epistemic)


Found = Labels | Numbers


def is_number(dtype: np.dtype) -> bool:
    """Whether a dtype is that of booleans or real numbers, those that NumPy does not know among them."""
    kind = np.dtype(dtype).kind
    return kind in "biuf" or (kind == "V" and jnp.issubdtype(dtype, np.number))


def count(data: PyTree, name: str = "data") -> int:
    """The number of examples, the same in all arrays and at least 1."""
    leaves = jax.tree.leaves(data)
    if not leaves or any(not hasattr(leaf, "dtype") or not np.ndim(leaf) for leaf in leaves):
        raise TypeError(f"`{name}` must be an array with an axis of examples, or a tree of them.")
    for leaf in leaves:
        if not is_number(leaf.dtype):
            raise TypeError(f"`{name}` must hold numbers, got dtype {leaf.dtype}.")
    sizes = sorted({len(leaf) for leaf in leaves})
    if len(sizes) > 1 or not sizes[0]:
        told = ", ".join(map(str, sizes))
        raise ValueError(f"`{name}` must have one number of examples, at least 1, got {told}.")
    return sizes[0]


def check_targets(
    targets: ArrayLike, examples: int, outputs: str | None = None, name: str = "targets"
) -> np.ndarray:
    """Targets of so many examples: labels in int32, or finite numbers; integers if `outputs` says so."""
    array = np.asarray(targets)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"`{name}` must be labels or numbers, got dtype {array.dtype}.")
    if not array.ndim or len(array) != examples:
        raise ValueError(f"`{name}` must have the {examples} examples of the data, got shape {array.shape}.")
    if array.dtype.kind in "iu" and outputs in NUMBERS:
        array = array.astype(np.float64)
    if array.dtype.kind == "f":
        if array.ndim != 1:
            raise ValueError(f"`{name}` of a regression must be of shape [N], got {array.shape}.")
        if not np.isfinite(array).all():
            raise ValueError(f"`{name}` must be finite, got {array[~np.isfinite(array)][0]}.")
        return array
    if array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
        raise ValueError(f"`{name}` must be labels of at most 2**31 - 1, got {array.max()}.")
    return array.astype(np.int32)


def check_labels(kind: Kind, targets: np.ndarray, name: str = "targets") -> None:
    """Checks labels against the classes; each example must have one that counts."""
    if not kind.classes:
        return
    known = np.ones(targets.shape, bool) if kind.ignore is None else targets != kind.ignore
    wrong = known & ((targets < 0) | (targets >= kind.classes))
    if wrong.any():
        hint = " (`ignore` names a label that does not count)" if kind.parts and kind.ignore is None else ""
        if kind.single and not kind.parts:
            hint = " (whole numbers are those of a regression if `outputs` says so, such as 'mean')"
        raise ValueError(
            f"`{name}` must be labels in [0, {kind.classes}){hint}, got {targets[wrong].flat[0]}."
        )
    empty = np.flatnonzero(~known.reshape(len(targets), -1).any(1))
    if len(empty):
        raise ValueError(
            f"`{name}` must have a label that counts in each example, got none in example {empty[0]}."
        )


def told(
    predict: PyTree, key: Key, x: PyTree, targets: np.ndarray, outputs: str | None, ignore: int | None
) -> Kind:
    """What a predictor predicts, from the shapes of a traced call, the targets, and what the user says.

    Only logits and probabilities of at least two classes are told apart by the values of one sample.
    """
    if outputs is not None:
        _checks.check_choice(outputs, OUTPUTS, "outputs")
    like = jax.eval_shape(predict, key, x)
    rows = jax.tree.leaves(x)[0].shape[0]
    if targets.dtype.kind == "f":
        if ignore is not None:
            raise ValueError(f"`ignore` must be None for targets that are numbers, got {ignore}.")
        return _of_numbers(like, rows, outputs)
    if outputs in NUMBERS:
        raise ValueError(
            f"`outputs` must be 'logits' or 'probabilities' for targets of dtype {targets.dtype} (those of a "
            f"regression are floating-point), got {outputs!r}."
        )
    parts = targets.shape[1:]
    if not hasattr(like, "shape"):
        raise ValueError(
            "`predict` must return one array of logits or probabilities for labels; select a part of its "
            f"outputs in a function, got a {type(like).__name__}."
        )
    shape = like.shape
    single = shape in ((rows, *parts), (rows, *parts, 1))
    if not single and (shape[:-1] != (rows, *parts) or len(shape) < 2):
        raise ValueError(
            f"`predict` must return an array of shape [B, {''.join(f'{n}, ' for n in parts)}K] for labels "
            f"of shape [N{''.join(f', {n}' for n in parts)}], got {shape} for {rows} examples."
        )
    if ignore is not None and not parts:
        raise ValueError("`ignore` must be None for one label per example: leave such examples out.")
    if outputs is None:
        sample = jax.jit(lambda key, x: predict(key, x))(key, x)
        outputs = _outputs_of(np.asarray(sample, np.float32), single)
    ignore = None if ignore is None else _checks.check_integer(ignore, "ignore")
    return Kind(outputs, 2 if single else shape[-1], single, parts, ignore)


def read(kind: Kind, estimate: mc.Estimate, rows: np.ndarray | slice) -> Found:
    """The estimates of some examples; of a folder, read from its files."""
    return read_labels(kind, estimate, rows) if kind.classes else read_numbers(kind, estimate, rows)


def read_labels(kind: Kind, estimate: mc.Estimate, rows: np.ndarray | slice) -> Labels:
    """The estimates of the labels of some examples."""

    def taken(of: dict[str, PyTree], name: str, *last: int) -> np.ndarray:
        array = np.asarray(of[name][rows])
        return array.reshape(len(array), *kind.parts, *last)

    names = ("total_entropy", "mutual_information")
    return Labels(
        taken(estimate.value, "log_mean", kind.classes),
        *(taken(of, name) for of in (estimate.value, estimate.standard_error) for name in names),
    )


def read_numbers(kind: Kind, estimate: mc.Estimate, rows: np.ndarray | slice) -> Numbers:
    """The estimates of the numbers of some examples, in float64."""

    def taken(tree: PyTree) -> list[np.ndarray]:
        arrays = (np.asarray(leaf[rows]) for leaf in jax.tree.leaves(tree))
        return [array.reshape(len(array)).astype(np.float64) for array in arrays]

    means, variances = taken(estimate.value["mean"]), taken(estimate.value["variance"])
    mean_errors, errors = taken(estimate.standard_error["mean"]), taken(estimate.standard_error["variance"])
    aleatoric, of_aleatoric = np.zeros_like(means[0]), np.zeros_like(means[0])
    if kind.outputs != "mean" and (means[1] < 0).any():
        name = "variances" if kind.outputs == "mean_variance" else "standard deviations"
        raise ValueError(
            f"`predict` must return {name} of at least 0, got a mean over samples of {means[1].min():.3g}."
        )
    if kind.outputs == "mean_variance":
        aleatoric, of_aleatoric = means[1], mean_errors[1]
    if kind.outputs == "mean_stddev":
        aleatoric = means[1] ** 2 + variances[1]  # the mean square
        of_aleatoric = np.hypot(2 * means[1] * mean_errors[1], errors[1])
    total = np.sqrt(np.maximum(aleatoric + variances[0], np.finfo(np.float32).tiny))
    return Numbers(means[0], aleatoric, variances[0], np.hypot(errors[0], of_aleatoric) / (2 * total))


def _of_numbers(like: PyTree, rows: int, outputs: str | None) -> Kind:
    if outputs in LABELS:
        raise ValueError(f"`outputs` must be one of {', '.join(NUMBERS)} for targets that are numbers "
                         f"(labels are integers), got {outputs!r}.")  # fmt: skip
    is_pair = isinstance(like, tuple | list) and len(like) == 2
    parts = tuple(like) if is_pair else (like,)
    if any(getattr(part, "shape", None) not in ((rows,), (rows, 1)) for part in parts):
        shapes = ", ".join(str(getattr(leaf, "shape", leaf)) for leaf in jax.tree.leaves(like))
        raise ValueError(
            "`predict` must return a mean, or a pair of a mean and a variance or standard deviation, each of "
            f"shape [B] or [B, 1], for targets that are numbers (labels are integers), got {shapes} for "
            f"{rows} examples."
        )
    if is_pair and outputs is None:
        raise ValueError(
            "`outputs` must be 'mean_variance' or 'mean_stddev' for a pair, whose second part could be "
            "either, got None."
        )
    if is_pair == (outputs in (None, "mean")):
        returned = "a pair" if is_pair else "one array"
        raise ValueError(f"`outputs` must fit what `predict` returns, {returned}, got {outputs!r}.")
    return Kind(outputs or "mean", 0)


def _outputs_of(sample: np.ndarray, single: bool) -> str:
    """Whether a sample holds logits or probabilities."""
    if not ((sample >= 0) & (sample <= 1)).all():
        return "logits"
    off = 1.0 if single else float(np.abs(sample.sum(-1) - 1).max())
    if not single and off <= _SURE:
        return "probabilities"
    if single or off <= _UNSURE:
        told = "one output per label, all in [0, 1]" if single else f"sums of 1 to within {off:.1g}"
        raise ValueError(f"`outputs` must be 'logits' or 'probabilities' for {told}, got None.")
    return "logits"
