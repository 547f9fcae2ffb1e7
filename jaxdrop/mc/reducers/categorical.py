"""Mean class probabilities, and the aleatoric and epistemic uncertainty."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop._types import PyTree
from jaxdrop.mc.reducers import _classes
from jaxdrop.mc.reducers._grouped import GROUPS, Estimates, Grouped, Summary, average
from jaxdrop.uncertainty._unchecked import entropy_of

__all__ = ["Categorical"]


@partial(register_dataclass, data_fields=[], meta_fields=["from_logits", "groups"])
@dataclass(frozen=True)
class Categorical(Grouped):
    """Mean class probabilities, and the uncertainty within and between samples; entropies in nats.

    Gives "mean", the mean probabilities `[B, K]` (probabilities are averaged, not logits), and of
    shape `[B]`:

    - "total_entropy", the entropy of the mean;
    - "expected_entropy", the mean entropy of a sample (aleatoric);
    - "mutual_information", their difference (epistemic). Values below 1e-6 are rounding;
      `uncertainty.mutual_information` of stored samples has more digits;
    - "variation_ratio", the share of samples whose likeliest class is not the most common one.

    Attributes:
      from_logits: If true, the outputs `[B, K]` are logits. Else they are probabilities, whose sums
        must be 1 within 1e-3 (2e-2 in half precision).
      groups: The number of groups of samples for the standard errors; 0 for none.

    References:
      Gal, "Uncertainty in deep learning", 2016, section 3.3.1.
    """

    from_logits: bool = True
    groups: int = GROUPS

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks that the outputs are `[B, K]`."""
        super().check(outputs, targets)
        _classes.check_classes(outputs)

    def check_values(self, values: Estimates) -> None:
        """Checks that the outputs were valid logits or probabilities."""
        _classes.check_valid(values["mean"], self.from_logits)

    def summary(self, samples: PyTree, weights: jax.Array, targets: PyTree) -> Summary:
        """See `Grouped`."""
        p = _classes.class_probabilities(samples, self.from_logits).probs
        votes = jax.nn.one_hot(p.argmax(-1), p.shape[-1])
        features = {"p": p, "entropy": entropy_of(p), "votes": votes}
        return {"n": weights.sum(), "features": jax.tree.map(partial(average, weights), features)}

    def join(self, a: Summary, b: Summary) -> Summary:
        """See `Grouped`."""
        n = a["n"] + b["n"]
        mean = jax.tree.map(lambda x, y: x + (y - x) * (b["n"] / n), a["features"], b["features"])
        return {"n": n, "features": mean}

    def values(self, state: Summary) -> Estimates:
        """See `Grouped`."""
        p, expected, votes = (state["features"][name] for name in ("p", "entropy", "votes"))
        total = entropy_of(p)
        return {
            "mean": p,
            "total_entropy": total,
            "expected_entropy": expected,
            "mutual_information": jnp.maximum(total - expected, 0),
            "variation_ratio": 1 - votes.max(-1),
        }
