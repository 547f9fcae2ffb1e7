"""Out-of-distribution scores: larger for examples that are more out of distribution.

So `auroc(score(inside), score(outside))` is above 0.5 where a score detects. These need no fit; scores
of Gaussians that are fitted to features are in `densities.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty import _gaussians

__all__ = [
    "energy",
    "knn_distance",
    "max_logit",
    "max_probability",
]

# Numbers per block of distances: 64 MiB of float32.
_AT_A_TIME = 2**24


def max_probability(logits: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Maximum-probability score: 1 minus the probability of the likeliest class.

    It is the sum of the other probabilities, so that it is precise where it is near 0.

    Args:
      logits: `[..., K]`, such as log probabilities; a class may have minus infinity, but not all.
      where: Boolean mask that broadcasts to the examples, `[...]`. Those that it leaves out may hold
        anything. None: all.

    Returns:
      Array of shape `[...]`, each value in [0, 1 - 1 / K]; in float32 at least. NaN where masked, and
        where traced logits are not valid.

    Raises:
      TypeError: If `logits` are not floating-point, or `where` is not boolean.
      ValueError: If `logits` are empty or of one class, or concrete ones are NaN, infinite (but for
        minus infinity) or probabilities (each example sums to 1).

    References:
      Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples in
      neural networks", 2017.

    Examples:
      >>> max_probability(jnp.array([[0.0, 0.0], [20.0, 0.0]]))
      Array([5.0000000e-01, 2.0611537e-09], dtype=float32)
    """
    logits, scored = _logits(logits, where)
    likeliest = jnp.argmax(logits, axis=-1, keepdims=True)
    others = jax.lax.broadcasted_iota(likeliest.dtype, logits.shape, logits.ndim - 1) != likeliest
    return _predictions.filled(jnp.sum(jax.nn.softmax(logits), -1, where=others), scored, jnp.nan)


def max_logit(logits: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Maximum-logit score: minus the largest logit.

    Args:
      logits: `[..., K]`; a class may have minus infinity, but not all.
      where: Boolean mask that broadcasts to the examples, `[...]`. Those that it leaves out may hold
        anything. None: all.

    Returns:
      Array of shape `[...]`, in the units of the logits; in float32 at least. NaN where masked, and
        where traced logits are not valid.

    Raises:
      TypeError: If `logits` are not floating-point, or `where` is not boolean.
      ValueError: If `logits` are empty or of one class, or concrete ones are NaN, infinite (but for
        minus infinity) or probabilities (each example sums to 1).

    References:
      Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", 2022.

    Examples:
      >>> max_logit(jnp.array([[0.0, 3.0], [1.0, -1.0]]))
      Array([-3., -1.], dtype=float32)
    """
    logits, scored = _logits(logits, where)
    return _predictions.filled(-jnp.max(logits, axis=-1), scored, jnp.nan)


def energy(logits: ArrayLike, *, temperature: Numeric = 1.0, where: ArrayLike | None = None) -> jax.Array:
    """Free energy: `-temperature * log(sum(exp(logits / temperature)))` over the classes.

    Log probabilities have an energy of 0, so it needs the logits of the model.

    Args:
      logits: `[..., K]`; a class may have minus infinity, but not all.
      temperature: Scalar above 0; may be traced. Towards 0 the energy becomes `max_logit`.
      where: Boolean mask that broadcasts to the examples, `[...]`. Those that it leaves out may hold
        anything. None: all.

    Returns:
      Array of shape `[...]`, in the units of the logits; in float32 at least. NaN where masked, and
        where traced logits are not valid.

    Raises:
      TypeError: If `logits` are not floating-point, `temperature` is not real, or `where` is not boolean.
      ValueError: If `logits` are empty or of one class, concrete ones are NaN, infinite (but for minus
        infinity), probabilities (each example sums to 1) or log probabilities, or `temperature` is not
        a scalar above 0.

    References:
      Liu et al., "Energy-based out-of-distribution detection", 2020.

    Examples:
      >>> energy(jnp.array([[0.0, 0.0], [9.0, 1.0]]))
      Array([-0.6931472, -9.000336 ], dtype=float32)
    """
    temperature = _predictions.check_positive(_checks.check_scalar(temperature, "temperature"), "temperature")
    logits, scored = _logits(logits, where, normalized=False)
    temperature = jnp.asarray(temperature, logits.dtype)
    found = -temperature * jax.nn.logsumexp(logits / temperature, axis=-1)
    return _predictions.filled(found, scored, jnp.nan)


def knn_distance(
    features: ArrayLike, bank: ArrayLike, k: int, *, where: ArrayLike | None = None
) -> jax.Array:
    """Nearest-neighbor score: the distance to the k-th nearest training example, on the unit sphere.

    Features are divided by their Euclidean norms. Neighbors are ranked by blocks of inner products, and
    the distances of the nearest are computed again from differences, so that small ones have digits, too. Of
    more than 8 neighbors within about 5e-4 of each other, one that is not the k-th may be taken.

    Args:
      features: Features to score, `[..., D]`, none of them 0.
      bank: Features of training examples, `[N, D]`, none of them 0.
      k: Which neighbor, in [1, N]; 50 is common for 50,000 examples. A feature that is in the bank is its
        own nearest.
      where: Boolean mask of the examples of the bank that count, which broadcasts to `[N]`. Others may
        hold anything. None: all.

    Returns:
      Array of shape `[...]`, each value in [0, 2]; in float32 at least. NaN if a traced feature has a
      norm of 0, or fewer than k examples are selected. It has no gradient. Blocks of distances take 64
      MiB, or a row of them.

    Raises:
      TypeError: If features are not floating-point, `k` is not an integer, or `where` is not boolean.
      ValueError: If the shapes do not match, an argument is empty, `k` is out of range, or concrete
        features are not finite or 0.

    References:
      Sun et al., "Out-of-distribution detection with deep nearest neighbors", 2022.

    Examples:
      >>> knn_distance(jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 5.0], [-3.0, 0.0]]), 2)
      Array([1.4142135], dtype=float32)
    """
    where = _predictions.check_mask(where, np.shape(bank)[:1])
    bank = _directions(bank, "bank", where)
    if bank.ndim != 2:
        raise ValueError(f"`bank` must be of shape [N, D], got {bank.shape}.")
    features = _directions(features, "features")
    _gaussians.check_width(features, bank.shape[-1])
    dtype = _checks.widest(features, bank)
    used = np.ones(len(bank), bool) if where is None else where
    count = int(np.sum(used)) if _predictions.is_visible(used) else len(bank)
    if (k := _checks.check_count(k, "k")) > count:
        raise ValueError(f"`k` must be at most {count} (the examples of `bank`), got {k}.")
    out = jax.sharding.PartitionSpec(*_meshes.partition(features)[:-1])
    search = functools.partial(_kth, k=k)
    found = _meshes.on_automatic_axes(
        search, features.astype(dtype), bank.astype(dtype), jnp.asarray(used), out=out
    )
    return jax.lax.stop_gradient(found)


def _logits(
    logits: ArrayLike, where: ArrayLike | None, normalized: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Logits, and the examples that have a score; the logits of others are 0."""
    where = _predictions.check_mask(where, np.shape(logits)[:-1])
    each = None if where is None else _predictions.check_mask(where[..., None], np.shape(logits))
    _checks.check_floating(logits, "logits")
    wide = _predictions.check_class_logits(_predictions.check_values(logits, "logits", each), "logits")
    logits = _predictions.filled(wide, where, 0)
    largest = jnp.max(logits, axis=-1)
    if _predictions.is_visible(logits) and (where is None or _predictions.is_visible(where)):
        _checks.check_all(largest, "logits", "have a finite maximum in each example", np.isfinite)
        _predictions.refuse_probabilities(logits, where)
        if not normalized:
            _refuse_log_probabilities(logits, where)
    # Not by NaNs in place of the logits: compiled, the logarithm of a sum of them may be an infinity.
    scored = jnp.isfinite(largest) & ~jnp.isnan(logits).any(-1)
    return _predictions.filled(logits, scored, 0), scored if where is None else scored & jnp.asarray(where)


def _refuse_log_probabilities(logits: jax.Array, where: ArrayLike | None) -> None:
    """Raises if every example is normalized, which has an energy of 0."""
    if where is not None and not np.any(where):
        return
    rows = np.asarray(logits).reshape(-1, logits.shape[-1])
    half = _predictions.is_half(rows)
    tolerance = _predictions.HALF_TOLERANCE if half else _predictions.sum_tolerance(logits)
    parts = _predictions.blocks(rows, where)
    if all((np.abs(np.logaddexp.reduce(part, axis=-1)) <= tolerance).all() for part in parts):
        raise ValueError("`logits` must not be normalized, got log probabilities, whose energy is 0.")


def _directions(x: ArrayLike, name: str, where: ArrayLike | None = None) -> jax.Array:
    """Vectors along the last axis divided by their norms; NaN for a traced one of 0."""
    x = _gaussians.check_vectors(x, name, where, 1)
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    if _predictions.is_visible(largest) and not np.all(largest):
        raise ValueError(f"`{name}` must not hold vectors of 0, which have no direction, got one.")
    # The square of a large or a small number would overflow or vanish.
    x = x / jnp.where(largest > 0, largest, jnp.nan)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@functools.partial(jax.jit, static_argnames="k")
def _kth(x: jax.Array, bank: jax.Array, used: jax.Array, k: int) -> jax.Array:
    # Inner products have rounding errors, so that a few more than k may be among the nearest.
    candidates = min(k + 8, len(bank))

    def distance(x: jax.Array) -> jax.Array:
        _, near = jax.lax.top_k(jnp.where(used, _gaussians.dot(bank, x), -jnp.inf), candidates)
        squares = jnp.where(used[near], jnp.sum((bank[near] - x[None]) ** 2, axis=-1), jnp.inf)
        kth = jnp.sort(squares)[k - 1]
        return jnp.sqrt(jnp.where(jnp.isinf(kth) | jnp.isnan(squares).any(), jnp.nan, kth))

    rows = x.reshape(-1, x.shape[-1])
    at_a_time = max(1, min(len(rows), _AT_A_TIME // len(bank)))
    return jax.lax.map(distance, rows, batch_size=at_a_time).reshape(x.shape[:-1])
