"""Log predictive densities of targets: the logarithm of the mean density over the samples."""

import abc
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop import _checks, _predictions
from jaxdrop._types import Numeric, PyTree
from jaxdrop.mc.reducers import _classes
from jaxdrop.mc.reducers._grouped import (
    GROUPS,
    Estimates,
    Grouped,
    Summary,
    log_sum,
    pooled_counts,
    pooled_logs,
)
from jaxdrop.uncertainty._unchecked import at_labels

__all__ = ["BernoulliLogDensity", "CategoricalLogDensity", "GaussianLogDensity"]


class _LogMean(Grouped):
    """The logarithm of the mean of densities that are given as logarithms."""

    @abc.abstractmethod
    def log_densities(self, samples: PyTree, targets: PyTree) -> jax.Array:
        """The log density of each sample and target, `[C, B, ...]`."""

    def summary(self, samples: PyTree, weights: jax.Array, targets: PyTree) -> Summary:
        """See `Grouped`."""
        logs = self.log_densities(samples, targets)
        return {"n": weights.sum(), "log_sum": log_sum(weights, logs)}

    def join(self, a: Summary, b: Summary) -> Summary:
        """See `Grouped`."""
        return {"n": a["n"] + b["n"], "log_sum": jnp.logaddexp(a["log_sum"], b["log_sum"])}

    def _pool(self, state: Summary) -> Summary:
        """See `Grouped`."""
        return {"n": pooled_counts(state["n"]), "log_sum": pooled_logs(state["log_sum"])}

    def values(self, state: Summary) -> Estimates:
        """See `Grouped`."""
        return {"log_density": state["log_sum"] - jnp.log(state["n"]).astype(state["log_sum"].dtype)}


@partial(register_dataclass, data_fields=[], meta_fields=["from_logits", "groups", "ignore"])
@dataclass(frozen=True)
class CategoricalLogDensity(_LogMean):
    """Log of the mean probability of the label: `log mean_t p_t[target]`.

    Outputs are `[B, ..., K]`, with the axis of classes last. Gives "log_density", `[B, ...]`. Targets
    are labels, integers `[B, ...]` in [0, K); a traced label out of range gives NaN.

    Pixels or tokens without a label have the label `ignore`. Their log density is exactly 0, with a
    standard error of 0: an unknown label has probability 1. So sums are those of the known labels, and
    the mean is `log_density.mean(where=targets != ignore)`. A boolean mask becomes such targets by
    `jnp.where(mask, targets, ignore)`.

    Attributes:
      from_logits: If true, the outputs are logits. Else they are probabilities, whose sums must be 1
        within 1e-3 (2e-2 in half precision).
      groups: The number of groups of samples for the standard errors; 0 for none.
      ignore: The label of targets to ignore, an integer, such as 255 or -100. None: there are none.
    """

    from_logits: bool = True
    groups: int = GROUPS
    ignore: int | None = None

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks outputs `[B, ..., K]` and labels `[B, ...]`."""
        super().check(outputs, targets)
        if self.ignore is not None and not -(2**31) <= _checks.check_integer(self.ignore, "ignore") < 2**31:
            raise ValueError(f"`ignore` must lie in [-2**31, 2**31), got {self.ignore}.")
        if not hasattr(targets, "shape"):
            raise ValueError(
                f"`targets` must be an array of the labels of the examples, got {_classes.kind_of(targets)}."
            )
        _predictions.check_labels(targets, _classes.check_classes(outputs), "targets", "outputs", self.ignore)

    def explain_nan(self, values: Estimates) -> None:
        """Checks that the outputs were valid logits or probabilities."""
        _classes.check_valid(values["log_density"], self.from_logits)

    def log_densities(self, samples: PyTree, targets: PyTree) -> jax.Array:
        """The log probability of each label, `[C, B, ...]`; infinity for a label to ignore."""
        logs = _classes.class_probabilities(samples, self.from_logits).log_probs
        labels = jnp.broadcast_to(jnp.asarray(targets).astype(jnp.int32), logs.shape[:-1])
        found = at_labels(logs, labels)
        # No log probability is infinity, and sums of it are exact.
        return found if self.ignore is None else jnp.where(labels == self.ignore, jnp.inf, found)

    def values(self, state: Summary) -> Estimates:
        """See `Grouped`."""
        found = super().values(state)
        if self.ignore is None:
            return found
        return jax.tree.map(lambda log_density: jnp.where(log_density == jnp.inf, 0, log_density), found)


@partial(register_dataclass, data_fields=[], meta_fields=["from_logits", "groups", "ignore"])
@dataclass(frozen=True)
class BernoulliLogDensity(CategoricalLogDensity):
    """Log of the mean probability of a binary label, for each of the independent labels `[B, ...]`.

    Gives "log_density", `[B, ...]`. Targets are 0 or 1, integers or booleans of the shape of the outputs;
    a traced target out of range gives NaN. Targets to ignore are those of `CategoricalLogDensity`: their
    log density is exactly 0, with a standard error of 0.

    Attributes:
      from_logits: If true, the outputs `[B, ...]` are logits of label 1. Else they are its
        probabilities, in [0, 1].
      groups: The number of groups of samples for the standard errors; 0 for none.
      ignore: The label of targets to ignore, an integer, such as -1. None: there are none.
    """

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks that outputs and targets are `[B, ...]`."""
        pairs = _classes.check_pairs(outputs)
        if hasattr(targets, "shape"):
            _checks.check_same_shape(targets, outputs, "targets", "outputs")
            targets = targets.astype(jnp.int32) if targets.dtype == jnp.bool_ else targets
        super().check(pairs, targets)

    def explain_nan(self, values: Estimates) -> None:
        """Checks that the outputs were valid probabilities."""
        _classes.check_valid_pairs(values["log_density"])

    def log_densities(self, samples: PyTree, targets: PyTree) -> jax.Array:
        """The log probability of each label, `[C, B, ...]`; infinity for a label to ignore."""
        return super().log_densities(_classes.pairs(samples, self.from_logits), targets)


@partial(register_dataclass, data_fields=["precision"], meta_fields=["groups"])
@dataclass(frozen=True)
class GaussianLogDensity(_LogMean):
    """Log of the mean normal density of the targets: `log mean_t N(target; mean_t, variance_t)`.

    Gives "log_density", `[B]`, the joint density of the D outputs of an example, which are independent
    given the sample. Targets have the shape of the means, `[B, ...]`. A variance of 0 is a point mass.
    A negative variance or a NaN among the targets raises a ValueError; under a trace it gives NaN.

    Attributes:
      precision: The inverse of the variance, Gal's tau: positive, a scalar or an array that broadcasts
        to the outputs; may be traced. None: the outputs are a pair (mean, variance) of arrays.
      groups: The number of groups of samples for the standard errors; 0 for none.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016; with a predicted variance
      Kendall and Gal, "What uncertainties do we need in Bayesian deep learning", 2017.
    """

    precision: Numeric | None = None
    groups: int = GROUPS

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks that outputs and targets have one shape, and that the precision is positive."""
        super().check(outputs, targets)
        means = outputs if self.precision is not None else _check_pair(outputs)
        if not hasattr(means, "shape") or getattr(targets, "shape", None) != means.shape:
            raise ValueError(
                "`targets` must have the shape of the predicted means, "
                f"{_classes.kind_of(means).removeprefix('shape ')}, got {_classes.kind_of(targets)}."
            )
        if self.precision is not None:
            precision = _predictions.check_positive(self.precision, "precision")
            _checks.check_broadcastable(precision, means.shape, "precision")

    def explain_nan(self, values: Estimates) -> None:
        """Raises an error if an invalid variance or target made an estimate NaN."""
        if bool(jnp.isnan(values["log_density"]).any()):
            raise ValueError(
                "`predict` must return variances of at least 0, and `targets` must hold no NaN, got others."
            )

    def log_densities(self, samples: PyTree, targets: PyTree) -> jax.Array:
        """The log density of each sample and example, `[C, B]`."""
        if self.precision is None:
            mean, variance = (part.astype(jnp.float32) for part in samples)
            precision = 1 / variance
        else:
            mean = samples.astype(jnp.float32)
            precision = jnp.asarray(self.precision, jnp.float32)
            precision = _checks.check_broadcastable(precision, mean.shape, "precision")
        targets = _predictions.widened(targets)
        error = targets[None] - mean.astype(targets.dtype)
        log_scale, precision = (p.astype(error.dtype) for p in (jnp.log(precision / (2 * jnp.pi)), precision))
        logs = 0.5 * (log_scale - precision * error**2)
        # A variance of 0, or one that underflows to it: all the density lies at the mean.
        logs = jnp.where(precision == jnp.inf, jnp.where(error == 0, jnp.inf, -jnp.inf), logs)
        return logs.reshape(*logs.shape[:2], -1).sum(-1)


def _check_pair(outputs: PyTree) -> PyTree:
    """The type of the means, of a pair of arrays of one shape."""
    pair = isinstance(outputs, tuple | list) and len(outputs) == 2
    if not pair or jnp.shape(outputs[0]) != jnp.shape(outputs[1]):
        raise ValueError(
            "`predict` must return a pair (mean, variance) of arrays of one shape if `precision` is None, "
            f"got {_classes.kind_of(outputs)}."
        )
    return outputs[0]
