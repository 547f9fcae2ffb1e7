"""Mean probabilities of binary labels, and their aleatoric and epistemic uncertainty."""

from dataclasses import dataclass
from functools import partial

import jax
from jax.tree_util import register_dataclass

from jaxdrop._types import PyTree
from jaxdrop.mc.reducers import _classes
from jaxdrop.mc.reducers._grouped import Estimates, Summary
from jaxdrop.mc.reducers.categorical import Categorical

__all__ = ["Bernoulli"]


@partial(register_dataclass, data_fields=[], meta_fields=["from_logits", "groups", "log_mean"])
@dataclass(frozen=True)
class Bernoulli(Categorical):
    """Mean probabilities of binary labels, and the uncertainty of each; entropies in nats.

    Outputs are `[B, ...]`: one logit per example, or one for each of several independent labels.
    Gives "mean", the mean probability of label 1 `[B, ...]` (probabilities are averaged, not logits), and
    for each label, of the same shape:

    - "total_entropy", the entropy of the mean;
    - "expected_entropy", the mean entropy of a sample (aleatoric);
    - "mutual_information", their difference (epistemic). Values below 1e-6 are rounding;
    - "variation_ratio", the share of samples whose likelier value, 0 or 1, is not the more common one.
      A probability of exactly a half counts as 0.

    With `log_mean` it also gives "log_mean" `[B, ..., 2]`, the logs of the mean probabilities of the
    values 0 and 1. They are the logits of two classes, as the functions of `uncertainty` take them.

    Attributes:
      from_logits: If true, the outputs are logits of label 1. Else they are its probabilities, in [0, 1].
      groups: The number of groups of samples for the standard errors; 0 for none.
      log_mean: Whether to estimate the logs of the mean probabilities, too.

    References:
      Gal, "Uncertainty in deep learning", 2016, section 3.3.1.
    """

    def check(self, outputs: PyTree, targets: PyTree) -> None:
        """Checks that the outputs are one array."""
        super().check(_classes.check_pairs(outputs), targets)

    def explain_nan(self, values: Estimates) -> None:
        """Checks that the outputs were valid probabilities."""
        _classes.check_valid_pairs(values["mean"])

    def summary(self, samples: PyTree, weights: jax.Array, targets: PyTree) -> Summary:
        """See `Grouped`."""
        return super().summary(_classes.pairs(samples, self.from_logits), weights, targets)

    def values(self, state: Summary) -> Estimates:
        """See `Grouped`."""
        found = super().values(state)
        return found | {"mean": found["mean"][..., 1]}
