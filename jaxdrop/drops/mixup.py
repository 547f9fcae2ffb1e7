"""Mixup: trains on weighted means of pairs of examples and of their labels. Zhang et al., 2018."""

from functools import partial

import jax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Key, Numeric
from jaxdrop.drops import _mixing

__all__ = ["mixup"]


def mixup(
    key: Key, x: ArrayLike, y: ArrayLike, alpha: Numeric, *, per_example: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Mixes each example and its soft label with those of a random partner.

    Example i becomes `w * x[i] + (1 - w) * x[j]`, its label `w * y[i] + (1 - w) * y[j]`. The partners j
    are a uniformly random permutation of the batch, in which one example on average is its own partner.
    w is the larger of b and 1 - b, for b from Beta(alpha, alpha). So each example stays in its place with
    the larger weight; the mixed batch has the law of the paper, up to its order. With one weight per
    batch the batch's mean is unchanged, else it is in expectation. Alpha 0 is the identity.

    Partners on other devices need communication; inside `jax.shard_map`, with one key per device, each
    device mixes its own examples and needs none. At evaluation, do not mix.

    Args:
      key: A PRNG key, used once. The same key gives the same partners and weights for any `x` and `y`
        of as many examples.
      x: Floating-point batch, `[B, ...]`: inputs, or activations of a hidden layer.
      y: Floating-point soft labels of the same examples, such as `[B, K]` from `jax.nn.one_hot`
        (smoothed by `optax.smooth_labels`), or targets of a regression. Labels that sum to 1 still do.
      alpha: Parameter of the Beta distribution, finite and at least 0: a scalar; may be traced; no
        gradient. The paper uses 0.2 to 1; larger values give weights closer to 1/2.
      per_example: Whether each example has a weight drawn for it, not one for the batch.

    Returns:
      Mixed `x` and `y`, each in its shape, dtype and sharding; computed in float32 or wider.

    Raises:
      TypeError: If `x` or `y` is not floating-point.
      ValueError: If `x` and `y` differ in the number of examples, or a concrete alpha is negative, not
        finite or not a scalar.

    References:
      Zhang et al., "mixup: beyond empirical risk minimization", 2018.

    Examples:
      >>> x, y = mixup(jax.random.key(5), jax.numpy.array([0.0, 1.0, 2.0]), jax.numpy.eye(3), 1.0)
      >>> x.round(2)
      Array([0.39     , 1.39     , 1.2099999], dtype=float32)
      >>> y.round(2)
      Array([[0.61, 0.39, 0.  ],
             [0.  , 0.61, 0.39],
             [0.39, 0.  , 0.61]], dtype=float32)
    """
    x, y = _mixing.check_batch(x, y)
    alpha = _mixing.check_alpha(alpha)
    if _checks.is_scalar(alpha, 0):
        return x, y
    return _mixup(_checks.check_key(key), x, y, alpha, per_example=per_example)


@partial(jax.jit, static_argnames="per_example")
def _mixup(
    key: Key, x: jax.Array, y: jax.Array, alpha: ArrayLike, *, per_example: bool
) -> tuple[jax.Array, jax.Array]:
    pairs = _mixing.draw(key, alpha, size=x.shape[0], per_example=per_example)
    return _mixing.mixed(x, pairs.rows, pairs.part), _mixing.mixed(y, pairs.rows, pairs.part)
