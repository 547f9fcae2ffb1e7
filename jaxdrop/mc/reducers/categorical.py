"""Mean class probabilities, and the aleatoric and epistemic uncertainty."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop._types import PyTree
from jaxdrop.mc.reducers import _classes
from jaxdrop.mc.reducers._grouped import (
    GROUPS,
    Estimates,
    Grouped,
    Summary,
    average,
    log_sum,
    pooled,
    pooled_counts,
    pooled_logs,
    scaled,
)
from jaxdrop.uncertainty._unchecked import entropy_of

__all__ = ["Categorical"]


@partial(register_dataclass, data_fields=[], meta_fields=["from_logits", "groups", "log_mean"])
@dataclass(frozen=True)
class Categorical(Grouped):
    """Mean class probabilities, and the uncertainty within and between samples; entropies in nats.

    Outputs are `[B, ..., K]`, with the axis of classes last: one prediction per example, pixel, token
    or box. Gives "mean", the mean probabilities `[B, ..., K]` (probabilities are averaged, not logits),
    and of shape `[B, ...]`:

    - "total_entropy", the entropy of the mean;
    - "expected_entropy", the mean entropy of a sample (aleatoric);
    - "mutual_information", their difference (epistemic). Values below 1e-6 are rounding;
      `uncertainty.mutual_information` of stored samples has more digits;
    - "variation_ratio", the share of samples whose likeliest class is not the most common one.

    With `log_mean` it also gives "log_mean" `[B, ..., K]`, the log of the mean probabilities. It is
    finite where a mean below 1e-45 underflows to 0, so it serves as logits for calibration.

    A state has 2 K + 1 numbers per prediction and group, 3 K + 1 with `log_mean`.

    Attributes:
      from_logits: If true, the outputs are logits. Else they are probabilities, whose sums must be 1
        within 1e-3 (2e-2 in half precision).
      groups: The number of groups of samples for the standard errors; 0 for none.
      log_mean: Whether to estimate the log of the mean probabilities, too.

    References:
      Gal, "Uncertainty in deep learning", 2016, section 3.3.1.
    """

    from_logits: bool = True
    groups: int = GROUPS
    log_mean: bool = False

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks that the outputs are `[B, ..., K]`."""
        super().check(outputs, targets)
        _classes.check_classes(outputs)

    def explain_nan(self, values: Estimates) -> None:
        """Checks that the outputs were valid logits or probabilities."""
        _classes.check_valid(values["mean"], self.from_logits)

    def summary(self, samples: PyTree, weights: jax.Array, targets: PyTree) -> Summary:
        """See `Grouped`."""
        logs, p = _classes.class_probabilities(samples, self.from_logits)
        votes = jax.nn.one_hot(p.argmax(-1), p.shape[-1])
        features = {"p": p, "entropy": entropy_of(p), "votes": votes}
        state = {"n": weights.sum(), "features": jax.tree.map(partial(average, weights), features)}
        return state | ({"log_sum": log_sum(weights, logs)} if self.log_mean else {})

    def join(self, a: Summary, b: Summary) -> Summary:
        """See `Grouped`."""
        n = a["n"] + b["n"]
        mean = jax.tree.map(lambda x, y: x + (y - x) * (b["n"] / n), a["features"], b["features"])
        state = {"n": n, "features": mean}
        return state | ({"log_sum": jnp.logaddexp(a["log_sum"], b["log_sum"])} if self.log_mean else {})

    def _pool(self, state: Summary) -> Summary:
        """See `Grouped`."""
        n = pooled_counts(state["n"])
        inverse = 1 / n.clip(1)
        mean = jax.tree.map(lambda y: scaled(inverse, pooled(scaled(state["n"], y))), state["features"])
        found = {"n": n, "features": mean}
        return found | ({"log_sum": pooled_logs(state["log_sum"])} if self.log_mean else {})

    def values(self, state: Summary) -> Estimates:
        """See `Grouped`."""
        p, expected, votes = (state["features"][name] for name in ("p", "entropy", "votes"))
        total = entropy_of(p)
        log_mean = {"log_mean": state["log_sum"] - jnp.log(state["n"])} if self.log_mean else {}
        return log_mean | {
            "mean": p,
            "total_entropy": total,
            "expected_entropy": expected,
            "mutual_information": jnp.maximum(total - expected, 0),
            "variation_ratio": 1 - votes.max(-1),
        }
