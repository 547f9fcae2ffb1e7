"""The log predictive density of targets: the log of the mean over the samples."""

import abc
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.tree_util import register_dataclass

from jaxdrop import _checks
from jaxdrop._types import Numeric
from jaxdrop.mc.reducers import _classes
from jaxdrop.mc.reducers._grouped import GROUPS, Grouped, State
from jaxdrop.uncertainty.classification import at_labels


class _LogMean(Grouped):
    """The logarithm of the mean of what is given by its logarithm."""

    @abc.abstractmethod
    def log_densities(self, samples: Any, targets: Any) -> jax.Array:
        """Of each sample and example, `[C, B]`."""

    def summary(self, samples: Any, weights: jax.Array, targets: Any) -> State:
        """See `Grouped`."""
        logs = self.log_densities(samples, targets)
        shown = jnp.where(weights.reshape(-1, *[1] * (logs.ndim - 1)) > 0, logs, -jnp.inf)
        return {"n": weights.sum(), "log_sum": logsumexp(shown, 0)}

    def join(self, a: State, b: State) -> State:
        """See `Grouped`."""
        return {"n": a["n"] + b["n"], "log_sum": jnp.logaddexp(a["log_sum"], b["log_sum"])}

    def values(self, state: State) -> State:
        """See `Grouped`."""
        return {"log_density": state["log_sum"] - jnp.log(state["n"])}


@partial(register_dataclass, data_fields=[], meta_fields=["from_logits", "groups"])
@dataclass(frozen=True)
class CategoricalLogDensity(_LogMean):
    """The log of the mean probability of the right class: `log mean_t p_t[target]`.

    Gives "log_density", `[B]`. Targets are labels, integers `[B]` in [0, K); a traced one out of
    range gives NaN.

    Attributes:
      from_logits: Whether the outputs `[B, K]` are logits; else they are probabilities.
      groups: The groups of samples that the standard errors come from; 0 for none.
    """

    from_logits: bool = True
    groups: int = GROUPS

    def check(self, outputs: Any, targets: Any) -> None:
        """Outputs `[B, K]`, labels `[B]`."""
        super().check(outputs, targets)
        if not hasattr(targets, "shape"):
            raise ValueError(
                f"`targets` must be an array of the labels of the examples, got {_kind(targets)}."
            )
        _checks.check_labels(targets, _classes.check_classes(outputs), "targets", "outputs")

    def check_values(self, values: State) -> None:
        """Probabilities that are such."""
        _classes.check_probabilities(values["log_density"], self.from_logits)

    def log_densities(self, samples: Any, targets: Any) -> jax.Array:
        """Of each sample and example, `[C, B]`."""
        logs, _ = _classes.log_probabilities(samples, self.from_logits)
        labels = jnp.asarray(targets).astype(jnp.int32)
        return at_labels(logs, jnp.broadcast_to(labels, logs.shape[:-1]))


@partial(register_dataclass, data_fields=["precision"], meta_fields=["groups"])
@dataclass(frozen=True)
class GaussianLogDensity(_LogMean):
    """The log of the mean normal density of the targets: `log mean_t N(target; mean_t, variance_t)`.

    Gives "log_density", `[B]`: of the D outputs of an example together, which are independent given
    the sample. Targets are of the shape of the means, `[B, ...]`. A variance of 0 is a point mass; a
    negative one, or a NaN among the targets, is a ValueError, under a trace NaN.

    Attributes:
      precision: One over the variance, Gal's tau: positive, a scalar or an array that broadcasts to
        the outputs; may be traced. None if the outputs are a pair (mean, variance) of arrays.
      groups: The groups of samples that the standard errors come from; 0 for none.

    References:
      Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016; with a predicted variance
      Kendall and Gal, "What uncertainties do we need in Bayesian deep learning", 2017.
    """

    precision: Numeric | None = None
    groups: int = GROUPS

    def check(self, outputs: Any, targets: Any) -> None:
        """Outputs and targets of one shape, and a precision that is positive."""
        super().check(outputs, targets)
        means = outputs if self.precision is not None else _check_pair(outputs)
        if not hasattr(means, "shape") or getattr(targets, "shape", None) != means.shape:
            raise ValueError(
                f"`targets` must have the shape of the predicted means, {getattr(means, 'shape', means)}, "
                f"got {_kind(targets)}."
            )
        if self.precision is not None:
            precision = _checks.check_positive(self.precision, "precision")
            _checks.check_broadcastable(precision, means.shape, "precision")

    def check_values(self, values: State) -> None:
        """Nothing that had no density, and so became NaN."""
        if bool(jnp.isnan(values["log_density"]).any()):
            raise ValueError(
                "`predict` must give variances of at least 0, and `targets` hold no NaN, got others."
            )

    def log_densities(self, samples: Any, targets: Any) -> jax.Array:
        """Of each sample and example, `[C, B]`."""
        if self.precision is None:
            mean, variance = (part.astype(jnp.float32) for part in samples)
            precision = 1 / variance
        else:
            mean = samples.astype(jnp.float32)
            precision = jnp.asarray(self.precision, jnp.float32)
            precision = _checks.check_broadcastable(precision, mean.shape, "precision")
        error = jnp.asarray(targets)[None] - mean
        logs = 0.5 * (jnp.log(precision / (2 * jnp.pi)) - precision * error**2)
        # A variance of 0, or that underflows to it: all the density lies at the mean.
        logs = jnp.where(precision == jnp.inf, jnp.where(error == 0, jnp.inf, -jnp.inf), logs)
        return logs.reshape(*logs.shape[:2], -1).sum(-1)


def _kind(targets: Any) -> str:
    """What targets are, for a message."""
    return "none" if targets is None else str(getattr(targets, "shape", f"a {type(targets).__name__}"))


def _check_pair(outputs: Any) -> Any:
    """The means of a pair of arrays of one shape."""
    pair = isinstance(outputs, tuple | list) and len(outputs) == 2
    if not pair or jnp.shape(outputs[0]) != jnp.shape(outputs[1]):
        raise ValueError(
            "`predict` must give a pair (mean, variance) of arrays of one shape where the reducer has no "
            f"`precision`, got {outputs}."
        )
    return outputs[0]
