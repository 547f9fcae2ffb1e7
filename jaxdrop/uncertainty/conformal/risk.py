"""Risk control: thresholds that bound the expected loss, such as the share of labels that are missed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty._examples import check_binary, check_probs

__all__ = ["FNRSets", "fit_fnr", "risk_threshold"]


def risk_threshold(
    losses: ArrayLike,
    lambdas: ArrayLike,
    *,
    risk: Numeric,
    delta: float | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Conformal risk control: the smallest parameter whose loss is at most `risk` on new examples.

    Losses do not increase with the parameter, which makes predictions more cautious, as a larger set is.
    Where they increase, a loss counts as the largest of it and all later ones. Guarantee, with N examples:

    - Without `delta` (CRC): the expected loss of a new example, over the draw of all, is at most `risk`.
      The mean of N losses and of one loss of 1 must be so.
    - With `delta` (RCPS): with a probability of at least 1 - `delta` over the draw of the N examples, the
      expected loss of new ones is at most `risk`. The bound is that of Hoeffding and Bentkus.

    Args:
      losses: Losses of the examples at each parameter, `[N, M]`, in [0, 1]: divide by their bound.
      lambdas: The parameters, `[M]`, in ascending order.
      risk: The bound on the expected loss, in (0, 1): a scalar; may be traced without `delta`.
      delta: The probability that the bound fails, in (0, 1): a number. None: a bound on average.
      where: Boolean mask of the examples that count, `[N]`. Others may hold anything. None: all.

    Returns:
      Scalar, one of `lambdas`, in float32 at least, where a cast rounds up. Infinite if no parameter has
      so small a risk, or traced losses are outside [0, 1]: then predict the largest set. The means of
      losses are those of float32.

    Raises:
      TypeError: If an argument is not real, `risk` is traced with `delta`, or `where` is not boolean.
      ValueError: If an argument is empty, the shapes do not match, or concrete losses are outside [0, 1],
        `lambdas` not ascending, or `risk` or `delta` outside (0, 1).

    References:
      Angelopoulos et al., "Conformal risk control", 2024; Bates et al., "Distribution-free,
      risk-controlling prediction sets", 2021.

    Examples:
      >>> losses = jnp.array([[1.0, 0.0, 0.0]] * 9 + [[1.0, 1.0, 0.0]] * 10)
      >>> risk_threshold(losses, jnp.arange(3.0), risk=0.1), risk_threshold(losses, jnp.arange(3.0), risk=0.6)
      (Array(2., dtype=float32), Array(1., dtype=float32))
    """
    where = _predictions.check_mask(where, np.shape(losses)[:1])
    each = None if where is None else where.reshape(-1, *[1] * (np.ndim(losses) - 1))
    each = _predictions.check_mask(each, np.shape(losses))
    losses = _predictions.check_values(losses, "losses", each)
    if losses.ndim != 2:
        raise ValueError(f"`losses` must be of shape [N, M], got {losses.shape}.")
    losses = _predictions.filled(losses, where, 0)
    if _predictions.is_visible(losses):
        _checks.check_all(losses, "losses", "lie in [0, 1]", lambda values: (values >= 0) & (values <= 1))
    lambdas = _predictions.check_vector(lambdas, "lambdas")
    if np.shape(lambdas) != losses.shape[1:]:
        expected = f"one value per column of `losses`, shape {losses.shape[1:]}"
        raise ValueError(f"`lambdas` must have {expected}, got {np.shape(lambdas)}.")
    if _predictions.is_visible(lambdas) and (np.asarray(lambdas)[1:] <= np.asarray(lambdas)[:-1]).any():
        raise ValueError("`lambdas` must be in ascending order, got one that does not exceed the last.")
    budget = _budget(_count(where, len(losses)), len(losses), risk, delta)
    return _meshes.on_automatic_axes(_first, losses, _predictions.rounded_up(lambdas), budget)


class FNRSets(NamedTuple):
    """Sets of labels with a bound on the share of true labels that are missed; a call returns the sets.

    Attributes:
      threshold: The smallest probability of a label in a set, a scalar. Minus infinity if there were too
        few examples, NaN if a traced label was neither 0 nor 1; then sets hold all labels.
    """

    threshold: jax.Array

    def __call__(self, probs: ArrayLike) -> jax.Array:
        """Whether each label is in the set, boolean, of the shape of `probs`; a set may be empty."""
        # Not `>=`: a NaN, of a traced label that is invalid, must not give empty sets.
        return ~(check_probs(probs) < self.threshold)


def fit_fnr(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    risk: Numeric,
    delta: float | None = None,
    where: ArrayLike | None = None,
) -> FNRSets:
    """False-negative-rate control: the smallest sets of labels that miss a share of at most `risk`.

    The loss of an example is the share of its true labels outside its set; 0 if it has none. Labels are
    those of a multi-label example, or the pixels of a mask. Guarantee, with N examples:

    - Without `delta` (CRC): the expected loss of a new example, over the draw of all, is at most `risk`.
    - With `delta` (RCPS): with a probability of at least 1 - `delta` over the draw of the N examples, the
      expected loss of new ones is at most `risk`. The bound is that of Hoeffding and Bentkus.

    Args:
      probs: Probabilities of each label, `[N, L]` or `[N, H, W]`, in [0, 1], of held-out examples.
      labels: Integers 0 and 1, or booleans, of the shape of `probs`.
      risk: The bound on the expected loss, in (0, 1): a scalar; may be traced without `delta`.
      delta: The probability that the bound fails, in (0, 1): a number. None: a bound on average.
      where: Boolean mask of the labels that count, which broadcasts to `labels`. Others may hold anything,
        and an example without one does not count. None: all.

    Returns:
      An `FNRSets`, to be called on new probabilities. The threshold is exact: not one of a grid.

    Raises:
      TypeError: If `probs` is not floating-point, `labels` are not integers or booleans, `risk` is traced
        with `delta`, or `where` is not boolean.
      ValueError: If the shapes differ, `probs` is empty or has one axis, or concrete probabilities are
        outside [0, 1], labels not 0 or 1, or `risk` or `delta` outside (0, 1).

    References:
      Angelopoulos et al., "Conformal risk control", 2024; Bates et al., "Distribution-free,
      risk-controlling prediction sets", 2021.

    Examples:
      >>> probs, labels = jnp.tile(jnp.array([0.9, 0.6, 0.2]), (9, 1)), jnp.tile(jnp.array([1, 1, 0]), (9, 1))
      >>> fit_fnr(probs, labels, risk=0.2)(jnp.array([0.7, 0.5]))
      Array([ True, False], dtype=bool)
    """
    probs, labels, where = check_binary(probs, labels, where)
    _checks.check_rank(probs, 2, "[N, ..., L]", "probs")
    rows = None if where is None else jnp.asarray(where).reshape(len(probs), -1).any(-1)
    budget = _budget(_count(rows, len(probs)), len(probs), risk, delta)
    kept = jnp.ones(probs.shape, bool) if where is None else jnp.asarray(where)
    return FNRSets(_meshes.on_automatic_axes(_largest, probs, labels, kept, budget))


def _count(where: ArrayLike | None, total: int) -> int | jax.Array:
    if where is None or _predictions.is_visible(where):
        return total if where is None else int(np.sum(np.asarray(where)))
    return jnp.sum(jnp.asarray(where), dtype=jnp.int32)


def _budget(count: int | jax.Array, total: int, risk: Numeric, delta: float | None) -> jax.Array:
    """The largest sum of the losses of so many examples that the bound allows; negative if none."""
    risk = _predictions.check_level(_checks.check_scalar(risk, "risk"), "risk")
    if delta is None:
        wide = _predictions.as_wide(jnp.asarray(risk), "risk")
        most = jnp.asarray(count + 1).astype(wide.dtype) * wide
        # Rounding errors, as in 0.07 * 100, must not take an example from the budget.
        whole = jnp.abs(most - jnp.round(most)) <= 2e-7 * most
        return jnp.where(whole, jnp.round(most), most) - 1
    share = _checks.check_number(risk, "risk")
    failing = _predictions.check_level(_checks.check_number(delta, "delta"), "delta")
    if isinstance(count, int):
        return jnp.float32(_hoeffding_bentkus(np.array([count]), share, failing)[0])
    # The number of examples of a traced mask is traced: a budget for each.
    return jnp.asarray(_hoeffding_bentkus(np.arange(total + 1), share, failing), jnp.float32)[count]


def _hoeffding_bentkus(counts: np.ndarray, risk: float, delta: float) -> np.ndarray:
    """The largest sum of losses for which either bound on a risk above `risk` is below `delta`."""
    from scipy.stats import binom  # comes with JAX; takes long to import

    # At most m losses of 1 have a probability of at most delta / e.
    bentkus = binom.ppf(delta / np.e, np.maximum(counts, 1), risk) - 1
    low, high = np.zeros(len(counts)), np.full(len(counts), risk)
    enough = np.log(1 / delta)
    for _ in range(60):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = np.where(middle > 0, middle * np.log(middle / risk), 0)
        entropy += (1 - middle) * np.log((1 - middle) / (1 - risk))
        holds = counts * entropy >= enough
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    hoeffding = np.where(-counts * np.log1p(-risk) >= enough, counts * low, -1)
    return np.where(counts > 0, np.maximum(bentkus, hoeffding), -1)


def _first(losses: jax.Array, lambdas: jax.Array, budget: jax.Array) -> jax.Array:
    """The first parameter from which on the losses are within the budget."""
    valid = ((losses >= 0) & (losses <= 1)).all()
    within = jnp.sum(jax.lax.cummax(losses, axis=1, reverse=True), axis=0) <= budget
    return jnp.where(valid & within.any(), lambdas[jnp.argmax(within)], jnp.inf)


def _largest(probs: jax.Array, labels: jax.Array, kept: jax.Array, budget: jax.Array) -> jax.Array:
    """The largest probability of a true label below which the losses are within the budget."""
    rows, valid = len(probs), (((labels == 0) | (labels == 1)) & (probs >= 0) & (probs <= 1)) | ~kept
    true = ((labels == 1) & kept).reshape(rows, -1)
    counts = jnp.sum(true, axis=-1, keepdims=True, dtype=jnp.int32)
    share = true.astype(probs.dtype) / jnp.maximum(counts, 1).astype(probs.dtype)
    # Other labels come last, at a probability of 1 and without a loss.
    ranked = jnp.where(true, probs.reshape(rows, -1), 1).reshape(-1)
    ranked, share = jax.lax.sort((ranked, share.reshape(-1)), num_keys=1)
    before = jnp.append(jnp.zeros_like(share[:1]), jnp.cumsum(share)[:-1])
    index = jnp.sum(before <= budget.astype(probs.dtype), dtype=jnp.int32) - 1
    found = jnp.where(budget >= 0, ranked[jnp.clip(index, 0)], -jnp.inf)
    return jnp.where(valid.all(), found, jnp.nan)
