"""Mean probabilities of classes, and the uncertainty of a sample and between samples."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from jaxdrop.mc.reducers import _classes
from jaxdrop.mc.reducers._grouped import GROUPS, Grouped, State, average
from jaxdrop.uncertainty.decomposition import raw_entropy


@partial(register_dataclass, data_fields=[], meta_fields=["from_logits", "groups"])
@dataclass(frozen=True)
class Categorical(Grouped):
    """Mean probabilities of classes, and what the samples disagree on; entropies in nats.

    Gives "mean", the mean probabilities `[B, K]` (probabilities are averaged, not logits), and of
    shape `[B]` "total_entropy" of that mean; "expected_entropy", the mean entropy of a sample
    (aleatoric); "mutual_information", their difference (epistemic), of which what is below 1e-6 is
    rounding (`uncertainty.mutual_information` of samples has more digits); and "variation_ratio",
    the share of samples whose first choice is not the commonest one.

    Attributes:
      from_logits: Whether the outputs `[B, K]` are logits; else they are probabilities, whose sums
        must be one within 1e-3 (2e-2 in half precision).
      groups: The groups of samples that the standard errors come from; 0 for none.

    References:
      Gal, "Uncertainty in deep learning", 2016, section 3.3.1.
    """

    from_logits: bool = True
    groups: int = GROUPS

    def check(self, outputs: Any, targets: Any) -> None:
        """Outputs `[B, K]`."""
        super().check(outputs, targets)
        _classes.check_classes(outputs)

    def check_values(self, values: State) -> None:
        """Probabilities that are such."""
        _classes.check_probabilities(values["mean"], self.from_logits)

    def summary(self, samples: Any, weights: jax.Array, targets: Any) -> State:
        """See `Grouped`."""
        _, p = _classes.log_probabilities(samples, self.from_logits)
        votes = jax.nn.one_hot(p.argmax(-1), p.shape[-1])
        features = {"p": p, "entropy": raw_entropy(p), "votes": votes}
        return {"n": weights.sum(), "features": jax.tree.map(partial(average, weights), features)}

    def join(self, a: State, b: State) -> State:
        """See `Grouped`."""
        n = a["n"] + b["n"]
        mean = jax.tree.map(lambda x, y: x + (y - x) * (b["n"] / n), a["features"], b["features"])
        return {"n": n, "features": mean}

    def values(self, state: State) -> State:
        """See `Grouped`."""
        p, expected, votes = (state["features"][name] for name in ("p", "entropy", "votes"))
        total = raw_entropy(p)
        return {
            "mean": p,
            "total_entropy": total,
            "expected_entropy": expected,
            "mutual_information": jnp.maximum(total - expected, 0),
            "variation_ratio": 1 - votes.max(-1),
        }
