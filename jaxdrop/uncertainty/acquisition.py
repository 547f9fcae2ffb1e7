"""Acquisition functions for active learning: scores of a pool, and batches selected from it.

`bald`, `max_entropy` and `variation_ratio` score single examples, and `top` selects the highest
scores. `batch_bald` selects examples jointly, so it avoids redundant ones. Samples have the axis of
samples first: probabilities `[T, B, K]` of a pool of B.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop import _carries, _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Key
from jaxdrop.uncertainty import _unchecked, decomposition

__all__ = ["Selection", "bald", "batch_bald", "max_entropy", "top"]

# Numbers per block of candidates when joint probabilities are computed: 16 MiB of float32.
_AT_A_TIME = 2**22


class Selection(NamedTuple):
    """Examples selected from a pool, the best first.

    Attributes:
      indices: Their indices in the pool, `[num]`; all are different.
      scores: The score of each, `[num]`; for `batch_bald`, the joint score up to each.
    """

    indices: jax.Array
    scores: jax.Array


def bald(probs: ArrayLike) -> jax.Array:
    """BALD, Bayesian active learning by disagreement: the information gain about the parameters.

    It equals `mutual_information`.

    Args:
      probs: Probabilities, `[T, ..., K]`, with the axis of samples first.

    Returns:
      Array of shape `[...]`, in nats, each value in [0, log min(K, T)] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty or of one class, or concrete values are not valid probabilities (to
        within 1e-3, or 2e-2 in half precision).

    References:
      Houlsby et al., "Bayesian active learning for classification and preference learning", 2011;
      with dropout: Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data", 2017.

    Examples:
      >>> bald(jnp.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]))
      Array([0.6931472, 0.       ], dtype=float32)
    """
    return decomposition.mutual_information(probs)


def max_entropy(probs: ArrayLike) -> jax.Array:
    """Maximum-entropy acquisition: the entropy of the mean prediction.

    It equals `total_entropy`, so it is high for aleatoric and epistemic uncertainty.

    Args:
      probs: Probabilities, `[T, ..., K]`, with the axis of samples first.

    Returns:
      Array of shape `[...]`, in nats, each value in [0, log K] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty or of one class, or concrete values are not valid probabilities (to
        within 1e-3, or 2e-2 in half precision).

    References:
      Shannon, "A mathematical theory of communication", 1948; with dropout: Gal, Islam and
      Ghahramani, "Deep Bayesian active learning with image data", 2017.

    Examples:
      >>> max_entropy(jnp.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]))
      Array([0.6931472, 0.6931472], dtype=float32)
    """
    return decomposition.total_entropy(probs)


def top(scores: ArrayLike, num: int) -> Selection:
    """Selects the examples with the highest scores.

    Args:
      scores: One score per example of the pool, `[B]`. Of equal scores the first comes first. Concrete
        float64 numbers are ranked before they are cast. Examples that are not available may have minus
        infinity.
      num: The number of examples to select, in [1, B].

    Returns:
      A `Selection`.

    Raises:
      TypeError: If `scores` are not real, or `num` is not an integer.
      ValueError: If `scores` are empty or not of one axis, concrete ones NaN, or `num` is out of range.

    Examples:
      >>> top(jnp.array([0.1, 0.7, 0.5]), 2)
      Selection(indices=Array([1, 2], dtype=int32), scores=Array([0.7, 0.5], dtype=float32))
    """
    scores = _predictions.check_vector(scores, "scores")
    (ranked,) = _predictions.ranked(scores)
    num = _check_num(num, len(ranked))

    def select(ranked: jax.Array, scores: jax.Array) -> Selection:
        _, indices = jax.lax.top_k(ranked, num)
        return Selection(indices, scores[indices])

    return _meshes.on_automatic_axes(select, ranked, _predictions.widened(scores))


def batch_bald(key: Key, probs: ArrayLike, num: int, *, num_configurations: int = 1024) -> Selection:
    """BatchBALD: greedy selection of the batch with the most joint information about the parameters.

    Each step adds the example that increases the mutual information of the selected labels and the
    parameters most. The gain is a mean over the configurations of the selected labels. Up to
    `num_configurations` of them are enumerated, and the mean is exact. Beyond that as many are drawn,
    equally many from each sample and the same for all candidates. The time is proportional to
    `num * num_configurations * T * B * K`.

    Args:
      key: A PRNG key, used once; it has no effect while the mean is exact.
      probs: Probabilities, `[T, B, K]`, with the axis of samples first. Each sample must be one draw of the
        parameters for the whole pool: `mc.sample(..., shared=True)`.
      num: The number of examples to select, in [1, B].
      num_configurations: The number of configurations of labels, at least 1; rounded up to a multiple
        of T if they are drawn.

    Returns:
      A `Selection`; `scores[i]` is the mutual information, in nats, of the first i + 1 labels
      and the parameters, which never decreases. The first is the maximum of `bald`. Once configurations
      are drawn it has a sampling error.

    Raises:
      TypeError: If `probs` is not floating-point, or a number is not an integer.
      ValueError: If `probs` is empty, not of three axes or of one class, concrete values are not valid
        probabilities (to within 1e-3, or 2e-2 in half precision), or a number is out of range.

    References:
      Kirsch, van Amersfoort and Gal, "BatchBALD: efficient and diverse batch acquisition for deep
      Bayesian active learning", 2019.

    Examples:
      >>> same = jnp.array([[[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3])  # three equal examples
      >>> other = jnp.array([[[0.8, 0.2]], [[0.6, 0.4]]])
      >>> probs = jnp.concatenate([same, other], axis=1).repeat(2, axis=0).at[1::2, 3].set(0.5)
      >>> batch_bald(jax.random.key(0), probs, 2).indices, top(bald(probs), 2).indices
      (Array([0, 3], dtype=int32), Array([0, 1], dtype=int32))
    """
    probs = _predictions.check_probabilities(probs, "[T, B, K]")
    num = _check_num(num, probs.shape[1])
    configurations = _checks.check_count(num_configurations, "num_configurations")
    select = functools.partial(_batch_bald, num=num, configurations=configurations)
    return _meshes.on_automatic_axes(select, _checks.check_key(key), jax.lax.stop_gradient(probs))


class _State(NamedTuple):
    """The state of the greedy selection.

    Attributes:
      weight: The probability of each configuration of the selected labels, `[C]`.
      posterior: The probability of each sample given the configuration, `[C, T]`.
      score: The mutual information of the selected labels and the parameters.
      free: Whether each example of the pool is still available, `[B]`.
    """

    weight: jax.Array
    posterior: jax.Array
    score: jax.Array
    free: jax.Array


@functools.partial(jax.jit, static_argnames=("num", "configurations"))
def _batch_bald(key: Key, probs: jax.Array, num: int, configurations: int) -> Selection:
    samples, pool, classes = probs.shape
    exact = 1
    while exact < num and classes**exact <= configurations:
        exact += 1
    weight, posterior = _prior(classes ** (exact - 1), probs)
    weight = jnp.zeros_like(weight).at[0].set(1)
    state = _State(weight, posterior, jnp.zeros((), probs.dtype), jnp.ones(pool, bool))

    def enumerate_labels(state: _State, _: None) -> tuple[_State, Selection]:
        state, index = _chosen(probs, state)
        return _enumerated(state, probs[:, index]), Selection(index, state.score)

    state = _carries.varying(lambda state: enumerate_labels(state, None)[0], state)
    state, firsts = jax.lax.scan(enumerate_labels, state, length=exact)
    if exact == num:
        return firsts
    count = -(-configurations // samples) * samples
    shares = jax.random.uniform(key, (num, count), probs.dtype)
    weight, posterior = _prior(count, probs)

    def catch_up(posterior: jax.Array, of: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return _observed(of[0], posterior, probs[:, of[1]]), None

    def draw_labels(state: _State, share: jax.Array) -> tuple[_State, Selection]:
        state, index = _chosen(probs, state)
        posterior = _observed(share, state.posterior, probs[:, index])
        return state._replace(posterior=posterior), Selection(index, state.score)

    firsts_drawn = shares[:exact], firsts.indices
    posterior = _carries.varying(
        lambda now: catch_up(now, jax.tree.map(lambda leaf: leaf[0], firsts_drawn))[0], posterior
    )
    posterior, _ = jax.lax.scan(catch_up, posterior, firsts_drawn)
    state = state._replace(weight=weight, posterior=posterior)
    state = _carries.varying(lambda state: draw_labels(state, shares[0])[0], state)
    _, rest = jax.lax.scan(draw_labels, state, shares[exact:])
    return Selection(*(jnp.concatenate(parts) for parts in zip(firsts, rest, strict=True)))


def _prior(count: int, probs: jax.Array) -> tuple[jax.Array, jax.Array]:
    samples = len(probs)
    return jnp.full(count, 1 / count, probs.dtype), jnp.full((count, samples), 1 / samples, probs.dtype)


def _chosen(probs: jax.Array, state: _State) -> tuple[_State, jax.Array]:
    """Adds the example with the largest gain; also returns its index."""
    seen = _dot(state.weight, state.posterior)

    def gain(of: jax.Array) -> jax.Array:
        conditional = _dot(state.posterior, of)
        entropies = _unchecked.entropy_of(conditional), _unchecked.entropy_of(of)
        return _dot(state.weight, entropies[0]) - _dot(seen, entropies[1])

    at_a_time = max(1, _AT_A_TIME // (len(state.weight) * probs.shape[-1]))
    gains = jax.lax.map(gain, jnp.swapaxes(probs, 0, 1), batch_size=min(at_a_time, probs.shape[1]))
    index = jnp.argmax(jnp.where(state.free, gains, -jnp.inf))
    # The gain is a divergence: a negative value is rounding.
    score = state.score + jnp.maximum(gains[index], 0)
    return state._replace(score=score, free=state.free.at[index].set(False)), index


def _enumerated(state: _State, of: jax.Array) -> _State:
    """Extends each configuration by every label of another example, whose samples are `[T, K]`.

    The arrays have the size of the last step; before it unused configurations have weight 0.
    """
    parent, label = jnp.divmod(jnp.arange(len(state.weight)), of.shape[-1])
    conditional = _dot(state.posterior, of)[parent, label]
    joint = state.posterior[parent] * of.T[label]
    posterior = joint / jnp.where(conditional > 0, conditional, 1)[:, None]
    return state._replace(weight=state.weight[parent] * conditional, posterior=posterior)


def _observed(share: jax.Array, posterior: jax.Array, of: jax.Array) -> jax.Array:
    """Extends each configuration by a label of another example, drawn from the configuration's sample.

    It is the first label at which the cumulative probability exceeds a random share of the total, so
    never one of probability 0.
    """
    summed = jnp.cumsum(of, axis=-1)[jnp.arange(len(posterior)) % len(of)]
    label = jnp.argmax(summed > share[:, None] * summed[:, -1:], axis=-1)
    joint = posterior * of[:, label].T
    return joint / jnp.sum(joint, axis=-1, keepdims=True)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """A product at full precision, as the gains are small differences."""
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


def _check_num(num: int, pool: int) -> int:
    num = _checks.check_count(num, "num")
    if num > pool:
        raise ValueError(f"`num` must be at most {pool} (the size of the pool), got {num}.")
    return num
