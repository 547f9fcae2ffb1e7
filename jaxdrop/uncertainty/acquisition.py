"""Which examples to have labelled next: scores of a pool, and batches chosen from it.

For one example at a time there are `bald`, `max_entropy` and `variation_ratio`, and `top` takes
the best; `batch_bald` knows that two examples alike teach little more than one. Samples have the
axis of samples first: probabilities `[T, B, K]` of a pool of B.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key
from jaxdrop.uncertainty import decomposition

# How many numbers the joint probabilities of some candidates may take at a time: 16 MiB.
_AT_A_TIME = 2**22


class Selection(NamedTuple):
    """Examples chosen from a pool, the best first.

    Attributes:
      indices: Where they are in the pool, `[num]`; no two are the same.
      scores: The score of each; of `batch_bald`, of each together with those before it.
    """

    indices: jax.Array
    scores: jax.Array


def bald(probs: ArrayLike) -> jax.Array:
    """Bayesian active learning by disagreement: what a label would tell of the parameters.

    It is `mutual_information`, under the name that it has here.

    Args:
      probs: Probabilities, `[T, ..., K]`, the samples first.

    Returns:
      An array `[...]`, in nats, each value in [0, log min(K, T)] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty, or concrete values are no probabilities; see `entropy`.

    References:
      Houlsby et al., "Bayesian active learning for classification and preference learning", 2011;
      with dropout: Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data", 2017.

    >>> bald(jnp.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]))
    Array([0.6931472, 0.       ], dtype=float32)
    """
    return decomposition.mutual_information(probs)


def max_entropy(probs: ArrayLike) -> jax.Array:
    """The entropy of the mean prediction: high for what the model doubts, for whatever reason.

    It is `total_entropy`, under the name that it has here.

    Args:
      probs: Probabilities, `[T, ..., K]`, the samples first.

    Returns:
      An array `[...]`, in nats, each value in [0, log K] to rounding; in float32 at least.

    Raises:
      TypeError: If `probs` is not floating-point.
      ValueError: If it is empty, or concrete values are no probabilities; see `entropy`.

    References:
      Shannon, "A mathematical theory of communication", 1948; with dropout: Gal, Islam and
      Ghahramani, "Deep Bayesian active learning with image data", 2017.

    >>> max_entropy(jnp.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]))
    Array([0.6931472, 0.6931472], dtype=float32)
    """
    return decomposition.total_entropy(probs)


def top(scores: ArrayLike, num: int) -> Selection:
    """The examples of the highest scores.

    Args:
      scores: One for each example of the pool, `[B]`; of equal ones the first comes first. Those
        of examples that are not to be had may be minus infinity.
      num: How many, in [1, B].

    Returns:
      A `Selection`.

    Raises:
      TypeError: If `scores` are not real, or `num` is not an integer.
      ValueError: If `scores` are empty or not of one axis, concrete ones NaN, or `num` out of range.

    >>> top(jnp.array([0.1, 0.7, 0.5]), 2)
    Selection(indices=Array([1, 2], dtype=int32), scores=Array([0.7, 0.5], dtype=float32))
    """
    scores = _checks.check_vector(scores, "scores")
    best, indices = jax.lax.top_k(scores, _check_num(num, len(scores)))
    return Selection(indices, best)


def batch_bald(key: Key, probs: ArrayLike, num: int, *, num_configurations: int = 1024) -> Selection:
    """BatchBALD: examples whose labels tell most of the parameters together, chosen one by one.

    Each step adds the example whose label would tell most of the parameters beside those that are
    chosen already: the mean over the configurations of their labels. As long as there are no more
    than `num_configurations` they are all gone through, and the mean is exact; then as many are
    drawn, from each sample alike, the same for all candidates. Time goes as
    `num * num_configurations * T * B * K`.

    Args:
      key: A PRNG key, used once; it has no part in it as long as the sum is exact.
      probs: Probabilities, `[T, B, K]`, the samples first. Each sample must be one draw of the
        parameters for the whole pool: `mc.sample(..., shared=True)`.
      num: How many to choose, in [1, B].
      num_configurations: How many configurations of labels to go by, at least 1; where they are
        drawn it is rounded up to a multiple of T.

    Returns:
      A `Selection`; `scores[i]` is the mutual information, in nats, of the first i + 1 labels
      together and the parameters, which never falls. The first is the largest of `bald`; from where
      configurations are drawn it has an error.

    Raises:
      TypeError: If `probs` is not floating-point, or a number is not an integer.
      ValueError: If `probs` is empty or not of three axes, concrete values are no probabilities
        (to within 1e-3, or 2e-2 in half precision), or a number is out of range.

    References:
      Kirsch, van Amersfoort and Gal, "BatchBALD: efficient and diverse batch acquisition for deep
      Bayesian active learning", 2019.

    >>> same = jnp.array([[[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3])  # three examples that say the same
    >>> other = jnp.array([[[0.8, 0.2]], [[0.6, 0.4]]])
    >>> probs = jnp.concatenate([same, other], axis=1).repeat(2, axis=0).at[1::2, 3].set(0.5)
    >>> batch_bald(jax.random.key(0), probs, 2).indices, top(bald(probs), 2).indices
    (Array([0, 3], dtype=int32), Array([0, 1], dtype=int32))
    """
    probs = _checks.check_probabilities(probs, "[T, B, K]")
    num = _check_num(num, probs.shape[1])
    configurations = _checks.check_count(num_configurations, "num_configurations")
    return _batch_bald(key, jax.lax.stop_gradient(probs), num, configurations)


class _State(NamedTuple):
    """What the labels chosen so far would tell.

    Attributes:
      weight: The probability of each configuration of them, `[C]`.
      posterior: That of each sample once they are known, `[C, T]`.
      score: Their mutual information with the parameters.
      free: Which examples of the pool are left, `[B]`.
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

    posterior, _ = jax.lax.scan(catch_up, posterior, (shares[:exact], firsts.indices))
    state = state._replace(weight=weight, posterior=posterior)
    _, rest = jax.lax.scan(draw_labels, state, shares[exact:])
    return Selection(*(jnp.concatenate(parts) for parts in zip(firsts, rest, strict=True)))


def _prior(count: int, probs: jax.Array) -> tuple[jax.Array, jax.Array]:
    samples = len(probs)
    return jnp.full(count, 1 / count, probs.dtype), jnp.full((count, samples), 1 / samples, probs.dtype)


def _chosen(probs: jax.Array, state: _State) -> tuple[_State, jax.Array]:
    """The state with the score of one more, and which: it tells most beside what the others do."""
    seen = _dot(state.weight, state.posterior)

    def gain(of: jax.Array) -> jax.Array:
        conditional = _dot(state.posterior, of)
        entropies = decomposition.raw_entropy(conditional), decomposition.raw_entropy(of)
        return _dot(state.weight, entropies[0]) - _dot(seen, entropies[1])

    at_a_time = max(1, _AT_A_TIME // (len(state.weight) * probs.shape[-1]))
    gains = jax.lax.map(gain, jnp.swapaxes(probs, 0, 1), batch_size=min(at_a_time, probs.shape[1]))
    index = jnp.argmax(jnp.where(state.free, gains, -jnp.inf))
    # The gain is a divergence: below 0 is rounding.
    score = state.score + jnp.maximum(gains[index], 0)
    return state._replace(score=score, free=state.free.at[index].set(False)), index


def _enumerated(state: _State, of: jax.Array) -> _State:
    """Each configuration with every label of one more example, whose samples are `[T, K]`.

    There is room for those of the last step; before it the rest has weights of 0.
    """
    parent, label = jnp.divmod(jnp.arange(len(state.weight)), of.shape[-1])
    conditional = _dot(state.posterior, of)[parent, label]
    joint = state.posterior[parent] * of.T[label]
    posterior = joint / jnp.where(conditional > 0, conditional, 1)[:, None]
    return state._replace(weight=state.weight[parent] * conditional, posterior=posterior)


def _observed(share: jax.Array, posterior: jax.Array, of: jax.Array) -> jax.Array:
    """Each configuration with a label of one more example, drawn from the sample it belongs to.

    The first label at which the summed probability passes a random share of all: never one of
    probability 0.
    """
    summed = jnp.cumsum(of, axis=-1)[jnp.arange(len(posterior)) % len(of)]
    label = jnp.argmax(summed > share[:, None] * summed[:, -1:], axis=-1)
    joint = posterior * of[:, label].T
    return joint / jnp.sum(joint, axis=-1, keepdims=True)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """The gains are small differences: no digit may be lost to a fast matrix unit."""
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


def _check_num(num: int, pool: int) -> int:
    num = _checks.check_count(num, "num")
    if num > pool:
        raise ValueError(f"`num` must be at most {pool} (the size of the pool), got {num}.")
    return num
