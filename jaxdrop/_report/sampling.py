"""How many samples are enough: the Monte-Carlo error of the main score, compared with that of the data."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxdrop import mc
from jaxdrop._report.kinds import Found, Kind, read
from jaxdrop._types import Key, PyTree

# Samples in a block of the trial, and in the whole trial at most.
_BLOCK, _MOST = 8, 128
# The part of the variance between data sets that Monte-Carlo errors may add, as a mean square.
SHARE = 0.1
# Outputs that differ by less are the same but for rounding.
_SAME = 1e-3
# A standard error needs so many samples; other numbers are multiples.
LEAST = 32


class Trial(NamedTuple):
    """The main score of a batch with few and with many samples, and the number that is enough.

    Attributes:
      score: The name of the main score, a mean of a loss over examples.
      examples: The number of examples of the batch.
      samples: Numbers of samples, `[L]`.
      value: The score of the batch with so many samples, the mean over independent draws, `[L]`.
      error: The standard deviation of one of these draws; NaN for a single one, `[L]`.
      bias: The excess of the score with `num_samples` samples over that with infinitely many.
      monte_carlo_error: Its standard deviation over draws, for all scored examples.
      data_error: The standard error of the score over data sets of the size of the scored part.
      num_samples: The number of samples used.
      reason: Why it is this number, a sentence.
    """

    score: str
    examples: int
    samples: np.ndarray
    value: np.ndarray
    error: np.ndarray
    bias: float
    monte_carlo_error: float
    data_error: float
    num_samples: int
    reason: str


def tried(held: np.ndarray, scored: np.ndarray, most: int) -> np.ndarray:
    """The numbers of examples to try out, spread over the data, which may be sorted by their labels.

    Examples to fit on are preferred: what is tried on them is not scored.
    """

    def spread(rows: np.ndarray, count: int) -> np.ndarray:
        return rows[np.arange(count) * len(rows) // max(count, 1)]

    first = spread(held, min(len(held), most))
    return np.sort(np.concatenate([first, spread(scored, min(len(scored), most - len(first)))]))


def try_out(
    predict: PyTree,
    key: Key,
    x: PyTree,
    kind: Kind,
    losses: Callable[[Found], np.ndarray],
    *,
    score: str,
    scored: int,
    max_samples: int,
) -> Trial:
    """Draws blocks of samples of one batch, and chooses the number of samples for all.

    Args:
      predict: The predictor.
      key: A PRNG key.
      x: The batch.
      kind: What is predicted.
      losses: The losses of the examples of the batch, of their estimates.
      score: The name of the mean of the losses.
      scored: The number of examples that are scored in the end.
      max_samples: The largest number of samples.
    """
    total = min(_MOST, 2 ** int(np.log2(max_samples)))
    options = {"num_samples": _BLOCK, "reducers": kind.reducer}
    states = [
        mc.accumulate(predict, jax.random.fold_in(key, block), x, **options)
        for block in range(total // _BLOCK)
    ]
    _check_alone(predict, jax.random.fold_in(key, 0), x, kind, states[0])
    samples, draws, each = [], [], np.zeros((1, 1))
    while states:
        found = (mc.finish(kind.reducer, state) for state in states)
        each = np.stack([losses(read(kind, estimate, slice(None))) for estimate in found])
        samples.append(total // len(states))
        draws.append(each.mean(1))
        pairs = zip(states[::2], states[1::2], strict=False)
        states = [mc.merge(kind.reducer, *pair) for pair in pairs]
    rows, counts = each.shape[1], np.array(samples)
    value = np.array([draw.mean() for draw in draws])
    with np.errstate(invalid="ignore"):  # infinite losses
        error = np.array([draw.std(ddof=1) if len(draw) > 1 else np.nan for draw in draws])
        data = float(each[0].var(ddof=1)) / scored if rows > 1 else 0.0
    # A variance of c / T and a bias of b / T.
    several = [i for i, draw in enumerate(draws) if len(draw) >= 4]
    weights = [len(draws[i]) - 1 for i in several]
    spread = float(np.average(counts[several] * error[several] ** 2, weights=weights)) * rows / scored
    slope = float(np.polyfit(1 / counts, value, 1)[0]) if np.isfinite(value).all() else np.nan
    # What float32 rounds is no Monte-Carlo error, and a score that is the same everywhere has no other.
    data += float(np.finfo(np.float32).eps * value[-1]) ** 2
    chosen, reason = _enough(slope, spread, data, max_samples)
    return Trial(
        score,
        rows,
        counts,
        value,
        error,
        slope / chosen,
        float(np.sqrt(spread / chosen)),
        float(np.sqrt(data)),
        chosen,
        reason,
    )


def _check_alone(predict: PyTree, key: Key, x: PyTree, kind: Kind, state: PyTree) -> None:
    """Checks that the samples of the first example are the same among copies of it."""
    copies = jax.tree.map(lambda leaf: np.repeat(leaf[:1], len(leaf), 0), x)
    alone = mc.accumulate(predict, key, copies, num_samples=_BLOCK, reducers=kind.reducer)
    first, other = (
        np.asarray(read(kind, mc.finish(kind.reducer, one), slice(0, 1))[0]) for one in (state, alone)
    )
    size = np.abs(first[np.isfinite(first)]).max(initial=0)
    if not np.allclose(first, other, rtol=_SAME, atol=_SAME * size):
        raise ValueError(
            "`predict` must return the same outputs of an example whatever the others of its batch are, got "
            "others: use stored batch statistics, as `jaxdrop.linen.stochastic` and "
            "`jaxdrop.nnx.stochastic` do."
        )


def _enough(slope: float, spread: float, data: float, most: int) -> tuple[int, str]:
    """The least number of samples that adds a small part of the variance between data sets, and why."""

    def part(num: int) -> float:
        square = (slope / num) ** 2 + spread / num
        return square / data if data else np.inf if square else 0.0

    if not np.isfinite(slope + spread + data):
        return most, "`max_samples` are drawn: the score is infinite, so its error is not known."
    counts = [*range(LEAST, most, LEAST), most]
    chosen = next((num for num in counts if part(num) <= SHARE), most)
    told = f"{100 * part(chosen):.2g} % of the variance of the score between data sets"
    if part(chosen) > SHARE:
        return chosen, f"The limit `max_samples` ended the sampling: the Monte-Carlo error adds {told}."
    least = ", the fewest that a standard error needs" if chosen == LEAST else ""
    return chosen, f"{chosen} samples are enough{least}: the Monte-Carlo error adds {told}, at most 10 %."
