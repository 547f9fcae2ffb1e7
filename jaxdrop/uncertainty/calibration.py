"""Predictions made to mean what they say, by a map fitted to examples that were not trained on.

Each fit gives a small tree to be called on new predictions; it may be saved, or passed through
`jit`. For Monte-Carlo samples the logits are `jnp.log` of the mean probabilities.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdrop import _checks
from jaxdrop._types import ArrayLike, Numeric
from jaxdrop.uncertainty.classification import at_labels

# Of a temperature: beyond, probabilities are one-hot or uniform for any logits one may meet.
_COLDEST, _HOTTEST = 1e-3, 1e3


class Temperature(NamedTuple):
    """Logits divided by a temperature: called, it gives probabilities.

    Attributes:
      temperature: A scalar above 0; above 1 it makes less certain. The likeliest class stays.
    """

    temperature: jax.Array

    def __call__(self, logits: ArrayLike) -> jax.Array:
        """Probabilities of logits `[..., K]`, of which some may be minus infinity."""
        return jax.nn.softmax(_wide(logits) / self.temperature)


class VectorScaling(NamedTuple):
    """Logits times a scale and plus a bias for each class: called, it gives probabilities.

    Attributes:
      scale: `[K]`.
      bias: `[K]`; only their differences matter.
    """

    scale: jax.Array
    bias: jax.Array

    def __call__(self, logits: ArrayLike) -> jax.Array:
        """Probabilities of finite logits `[..., K]`."""
        logits = _wide(logits)
        _check_classes(logits.shape, self.scale.shape[0])
        return jax.nn.softmax(self.scaled(logits))

    def scaled(self, logits: jax.Array) -> jax.Array:
        """The logits of those probabilities."""
        axes = range(logits.ndim - 1)
        return logits * jnp.expand_dims(self.scale, axes) + jnp.expand_dims(self.bias, axes)


class Isotonic(NamedTuple):
    """A function that never falls for each class: called, it gives probabilities.

    Attributes:
      thresholds: Where it was fitted, ascending, `[K, N]`.
      values: What it is there; linear between, constant beyond, `[K, N]`.
    """

    thresholds: jax.Array
    values: jax.Array

    def __call__(self, probs: ArrayLike) -> jax.Array:
        """Probabilities of probabilities `[..., K]`; uniform where each class is given 0."""
        probs = _checks.check_probabilities(probs, "[..., K]")
        _check_classes(probs.shape, len(self.values), "probs")
        of_class = jax.vmap(jnp.interp, in_axes=(-1, 0, 0), out_axes=-1)
        mapped = of_class(probs, self.thresholds, self.values)
        total = jnp.sum(mapped, axis=-1, keepdims=True)
        return jnp.where(total > 0, mapped / jnp.where(total > 0, total, 1), 1 / probs.shape[-1])


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> Temperature:
    """Temperature scaling: the one temperature that makes the mean NLL of the labels least.

    The NLL is convex in the inverse of the temperature, and the root of its slope is found by
    bisection of the logarithm, to the digits of the dtype.

    Args:
      logits: `[N, K]`, finite; more axes before the last are examples too.
      labels: Integers in [0, K), `[N]`.

    Returns:
      A `Temperature` in [0.001, 1000]: the first where every label's logit is the largest, the
      second where the logits speak against the labels. A traced label out of range or
      logit that is not finite gives NaN.

    Raises:
      TypeError: If `logits` are not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not fit, `logits` are empty, or concrete logits are not finite
        or labels out of range.

    References:
      Guo et al., "On calibration of modern neural networks", 2017.

    >>> logits = jnp.array([[9.0, 0.0]] * 4)
    >>> fit_temperature(logits, jnp.array([0, 0, 0, 1]))(logits[0]).round(2)
    Array([0.75, 0.25], dtype=float32)
    """
    return Temperature(_temperature(*_check(logits, labels)))


def fit_vector_scaling(
    logits: ArrayLike, labels: ArrayLike, *, steps: int = 200, tolerance: float = 1e-5
) -> VectorScaling:
    """Vector scaling: a scale and a bias for each class that make the mean NLL of the labels least.

    The problem is convex, and solved by L-BFGS from the identity.

    Args:
      logits: `[N, K]`, finite; more axes before the last are examples too.
      labels: Integers in [0, K), `[N]`.
      steps: How many steps it may take, at least 1. Where a scale and a bias can set every label
        apart there is no least NLL, and they grow as long as it goes on.
      tolerance: The norm of the gradient at which it ends, above 0; of the coefficients of standardised
        logits.

    Returns:
      A `VectorScaling`. A traced label out of range or logit that is not finite gives NaN.

    Raises:
      TypeError: If `logits` are not floating-point, or `labels` or `steps` are not integers.
      ValueError: If the shapes do not fit, `logits` are empty, concrete logits are not finite or
        labels out of range, `steps` is below 1, or `tolerance` is not above 0.

    References:
      Guo et al., "On calibration of modern neural networks", 2017.

    >>> logits = jnp.array([[9.0, 0.0]] * 4)
    >>> fit_vector_scaling(logits, jnp.array([0, 0, 0, 1]))(logits[0]).round(2)
    Array([0.75, 0.25], dtype=float32)
    """
    _checks.check_count(steps, "steps")
    _checks.check_positive(tolerance, "tolerance")
    return _vector_scaling(*_check(logits, labels), steps, tolerance)


def fit_isotonic(probs: ArrayLike, labels: ArrayLike) -> Isotonic:
    """Isotonic regression of each class against the rest; called, the classes sum to 1 again.

    It keeps the order of a class's probabilities, but can give 0 or 1 exactly, where the NLL of
    another example is infinite. It wants about a thousand examples of each class.

    Args:
      probs: Probabilities, `[N, K]`; more axes before the last are examples too.
      labels: Integers in [0, K), `[N]`.

    Returns:
      An `Isotonic`.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not fit, `probs` is empty, or concrete values are no
        probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    References:
      Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
      estimates", 2002.

    >>> fitted = fit_isotonic(jnp.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]]), jnp.array([0, 1, 0]))
    >>> fitted(jnp.array([0.65, 0.35]))
    Array([0.5, 0.5], dtype=float32)
    """
    probs = _checks.check_probabilities(probs, "[..., K]")
    labels = _checks.check_labels(labels, probs).reshape(1, -1)
    classes = probs.shape[-1]
    hits = (labels == jnp.arange(classes)[:, None]).astype(probs.dtype)
    return Isotonic(*jax.vmap(_fitted)(probs.reshape(-1, classes).T, hits))


def isotonic_regression(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The values nearest to `y`, in squares, that never fall as `x` grows.

    Pool adjacent violators: all runs that fall are pooled at once until none does.

    Args:
      x: `[N]`; examples of the same `x` get the same value.
      y: Targets, `[N]`.

    Returns:
      An array `[N]`, in the order of `x`'s elements as they came; in float32 at least. Its gradient
      in `y` is that of the mean within each pool.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      Ayer et al., "An empirical distribution function for sampling with incomplete information",
      1955.

    >>> isotonic_regression(jnp.array([3.0, 1.0, 2.0]), jnp.array([4.0, 2.0, 0.0]))
    Array([4., 1., 1.], dtype=float32)
    """
    x = _checks.check_vector(x, "x")
    y = _checks.check_same_shape(_checks.check_vector(y, "y"), x, "y", "x")
    order = jnp.argsort(x)
    return jnp.zeros_like(y).at[order].set(_fitted(x, y)[1])


@jax.jit
def _temperature(logits: jax.Array, labels: jax.Array) -> jax.Array:
    logits -= jnp.max(logits, axis=-1, keepdims=True)
    target = at_labels(logits, labels)

    def slope(temperature: jax.Array) -> jax.Array:
        return jnp.mean(jnp.sum(jax.nn.softmax(logits / temperature) * logits, axis=-1) - target)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        # Of the inverse temperature the slope rises, so at a positive one it has to be hotter.
        hotter = slope(jnp.exp(middle)) > 0
        return jnp.where(hotter, middle, low), jnp.where(hotter, high, middle)

    ends = tuple(jnp.asarray(np.log(end), logits.dtype) for end in (_COLDEST, _HOTTEST))
    low, high = jax.lax.fori_loop(0, 60, halve, ends)
    temperature = jnp.exp((low + high) / 2)
    return jnp.where(jnp.isfinite(slope(temperature)), temperature, jnp.nan)


@jax.jit
def _vector_scaling(
    logits: jax.Array, labels: jax.Array, steps: Numeric, tolerance: Numeric
) -> VectorScaling:
    # The steps are taken on standardised logits: an offset or a scale of theirs would slow them down.
    # One that never changes has no scale to be found, and its deviation is nothing but rounding.
    least, most = jnp.min(logits, 0), jnp.max(logits, 0)
    steps_apart = 8 * jnp.finfo(logits.dtype).eps * jnp.maximum(jnp.abs(least), jnp.abs(most))
    still = most - least <= steps_apart
    centre = jnp.where(still, least, jnp.mean(logits, 0))
    spread = jnp.where(still, 1, jnp.std(logits, 0))
    logits = jnp.where(still[None], centre[None], logits)
    standard = (logits - centre[None]) / spread[None]

    def loss(params: VectorScaling) -> jax.Array:
        scaled = jax.nn.log_softmax(params.scaled(standard))
        return -jnp.mean(at_labels(scaled, labels))

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(state: Any) -> Any:
        params, inner, count, _ = state
        value, grad = value_and_grad(params, state=inner)
        updates, inner = optimizer.update(grad, inner, params, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(params, updates), inner, count + 1, optax.tree.norm(grad)

    identity = VectorScaling(spread, centre)
    start = identity, optimizer.init(identity), 0, jnp.array(jnp.inf, logits.dtype)
    params, *_ = jax.lax.while_loop(lambda state: (state[2] < steps) & (state[3] > tolerance), step, start)
    scale = params.scale / spread
    fitted = VectorScaling(scale, params.bias - scale * centre)
    return jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(loss(params)), leaf, jnp.nan), fitted)


@jax.jit
def _fitted(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ascending `x`, and the isotonic regression there."""
    order = jnp.argsort(x)
    x, y = x[order], y[order]
    fixed = jax.lax.stop_gradient(y)

    def means(starts: jax.Array, y: jax.Array) -> jax.Array:
        pool = jnp.cumsum(starts)
        size = jnp.zeros_like(y).at[pool].add(1)

        def mean(values: jax.Array) -> jax.Array:
            return (jnp.zeros_like(y).at[pool].add(values) / jnp.maximum(size, 1))[pool]

        # A sum of millions loses digits; that of what is left of them does not.
        rough = mean(y)
        return rough + jnp.where(jnp.isfinite(rough), mean(y - rough), 0)

    def falls(starts: jax.Array) -> jax.Array:
        values = means(starts, fixed)
        return jnp.append(False, values[:-1] > values[1:])

    def pool(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        starts = state[0] & ~state[1]
        return starts, falls(starts)

    starts = jnp.append(False, x[:-1] < x[1:])
    starts, _ = jax.lax.while_loop(lambda state: state[1].any(), pool, (starts, falls(starts)))
    return x, means(starts, y)


def _check(logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Logits as `[N, K]` and labels as `[N]`."""
    logits = _wide(logits)
    _checks.check_finite(logits, "logits")
    labels = _checks.check_labels(labels, logits, of_name="logits")
    return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)


def _wide(logits: ArrayLike) -> jax.Array:
    _checks.check_floating(logits, "logits")
    return _checks.check_rank(_checks.check_values(logits, "logits"), 1, "[..., K]", "logits")


def _check_classes(shape: tuple[int, ...], classes: int, name: str = "logits") -> None:
    if shape[-1] != classes:
        raise ValueError(f"`{name}` must have the {classes} classes of the fit, got {shape[-1]}.")
