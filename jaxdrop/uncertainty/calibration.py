"""Post-hoc calibration, fitted on held-out examples.

Each fit returns a small pytree that is called on new predictions. It can be saved, or passed through
`jit`. For Monte-Carlo samples use "log_mean" of `mc.Categorical(log_mean=True)` as logits. The
logarithm of a mean probability that underflows to 0 would be infinite, and is refused.
"""

from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdrop import _carries, _checks, _meshes, _predictions
from jaxdrop._types import ArrayLike, Numeric, PyTree
from jaxdrop.uncertainty._unchecked import at_labels

__all__ = [
    "Isotonic",
    "Temperature",
    "VectorScaling",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector_scaling",
    "isotonic_regression",
]

# The range of a temperature: beyond it probabilities are one-hot or uniform for all practical logits.
_COLDEST, _HOTTEST = 1e-3, 1e3


class Temperature(NamedTuple):
    """Logits divided by a temperature; a call returns probabilities.

    Attributes:
      temperature: A scalar above 0; above 1 predictions get less certain. The likeliest class stays.
    """

    temperature: jax.Array

    def __call__(self, logits: ArrayLike) -> jax.Array:
        """Probabilities of logits `[..., K]`, of which some may be minus infinity."""
        return jax.nn.softmax(_wide(logits) / self.temperature)


class VectorScaling(NamedTuple):
    """Logits with a scale and a bias per class; a call returns probabilities.

    Attributes:
      scale: The scales, `[K]`.
      bias: The biases, `[K]`; only their differences matter.
    """

    scale: jax.Array
    bias: jax.Array

    def __call__(self, logits: ArrayLike) -> jax.Array:
        """Probabilities of finite logits `[..., K]`."""
        logits = _wide(logits)
        _check_classes(logits.shape, self.scale.shape[0])
        return jax.nn.softmax(self.scaled(logits))

    def scaled(self, logits: jax.Array) -> jax.Array:
        """The scaled logits, before the softmax."""
        axes = range(logits.ndim - 1)
        return logits * jnp.expand_dims(self.scale, axes) + jnp.expand_dims(self.bias, axes)


class Isotonic(NamedTuple):
    """A non-decreasing function per class; a call returns probabilities.

    Attributes:
      thresholds: The fitted probabilities in ascending order, `[K, N]`.
      values: The function there, `[K, N]`; linear between them and constant beyond.
    """

    thresholds: jax.Array
    values: jax.Array

    def __call__(self, probs: ArrayLike) -> jax.Array:
        """Calibrated probabilities of probabilities `[..., K]`; uniform where every class is mapped to 0."""
        probs = _predictions.check_probabilities(probs, "[..., K]")
        _check_classes(probs.shape, len(self.values), "probs")
        of_class = jax.vmap(jnp.interp, in_axes=(-1, 0, 0), out_axes=-1)
        out = _meshes.partition(probs)
        mapped = _meshes.on_automatic_axes(of_class, probs, self.thresholds, self.values, out=out)
        total = jnp.sum(mapped, axis=-1, keepdims=True)
        return jnp.where(total > 0, mapped / jnp.where(total > 0, total, 1), 1 / probs.shape[-1])


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> Temperature:
    """Temperature scaling: fits one temperature that minimizes the mean NLL of the labels.

    The NLL is convex in the inverse temperature. The root of its slope is found by bisection of the
    logarithm, to the precision of the dtype.

    Args:
      logits: `[N, K]`, finite; further leading axes are examples, too.
      labels: Integers in [0, K), `[N]`.

    Returns:
      A `Temperature` in [0.001, 1000]: the lower end if every label's logit is the largest,
      the upper end if the logits are anticorrelated with the labels. A traced label out of range or
      non-finite logit gives NaN.

    Raises:
      TypeError: If `logits` are not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not match, `logits` are empty or of one class, or concrete logits are
        non-finite or labels out of range.

    References:
      Guo et al., "On calibration of modern neural networks", 2017.

    Examples:
      >>> logits = jnp.array([[9.0, 0.0]] * 4)
      >>> fit_temperature(logits, jnp.array([0, 0, 0, 1]))(logits[0]).round(2)
      Array([0.75, 0.25], dtype=float32)
    """
    return Temperature(_meshes.on_automatic_axes(_temperature, *_check(logits, labels)))


def fit_vector_scaling(
    logits: ArrayLike, labels: ArrayLike, *, steps: int = 200, tolerance: float = 1e-5
) -> VectorScaling:
    """Vector scaling: fits a scale and a bias per class that minimize the mean NLL of the labels.

    The problem is convex and is solved by L-BFGS, started at the identity. Within `jax.shard_map` its line
    search needs `check_vma=False`.

    Args:
      logits: `[N, K]`, finite; further leading axes are examples, too.
      labels: Integers in [0, K), `[N]`.
      steps: The maximum number of steps, at least 1. If scales and biases can separate the labels, the
        NLL has no minimum and they grow with every step.
      tolerance: The gradient norm at which it stops, above 0; with respect to the coefficients of
        standardized logits.

    Returns:
      A `VectorScaling`. A traced label out of range or non-finite logit gives NaN.

    Raises:
      TypeError: If `logits` are not floating-point, or `labels` or `steps` are not integers.
      ValueError: If the shapes do not match, `logits` are empty or of one class, concrete logits are
        non-finite or labels out of range, `steps` is below 1, or `tolerance` is not above 0.

    References:
      Guo et al., "On calibration of modern neural networks", 2017.

    Examples:
      >>> logits = jnp.array([[9.0, 0.0]] * 4)
      >>> fit_vector_scaling(logits, jnp.array([0, 0, 0, 1]))(logits[0]).round(2)
      Array([0.75, 0.25], dtype=float32)
    """
    _checks.check_count(steps, "steps")
    _predictions.check_positive(tolerance, "tolerance")
    fit = partial(_vector_scaling, steps=steps, tolerance=tolerance)
    return _meshes.on_automatic_axes(fit, *_check(logits, labels))


def fit_isotonic(probs: ArrayLike, labels: ArrayLike) -> Isotonic:
    """Isotonic calibration: one-against-rest isotonic regression per class, normalized to sum to 1.

    It keeps the order of each class's probabilities. It can give exactly 0 or 1, where the NLL of a new
    example may be infinite. It needs about a thousand examples per class.

    Args:
      probs: Probabilities, `[N, K]`; further leading axes are examples, too.
      labels: Integers in [0, K), `[N]`.

    Returns:
      An `Isotonic`.

    Raises:
      TypeError: If `probs` is not floating-point, or `labels` are not integers.
      ValueError: If the shapes do not match, `probs` is empty or of one class, or concrete values are
        not valid probabilities (to within 1e-3, or 2e-2 in half precision) or labels out of range.

    References:
      Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
      estimates", 2002.

    Examples:
      >>> fitted = fit_isotonic(jnp.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]]), jnp.array([0, 1, 0]))
      >>> fitted(jnp.array([0.65, 0.35]))
      Array([0.5, 0.5], dtype=float32)
    """
    probs = _predictions.check_probabilities(probs, "[..., K]")
    labels = _predictions.check_labels(labels, probs).reshape(1, -1)
    classes = probs.shape[-1]
    hits = (labels == jnp.arange(classes, dtype=labels.dtype)[:, None]).astype(probs.dtype)
    return Isotonic(*_meshes.on_automatic_axes(jax.vmap(_fitted), probs.reshape(-1, classes).T, hits))


def isotonic_regression(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """Isotonic regression: the least-squares fit to `y` that does not decrease with `x`.

    Pool adjacent violators: all decreasing runs are pooled at once, until there are none.

    Args:
      x: Positions, `[N]`; equal positions get the same value.
      y: Targets, `[N]`.

    Returns:
      Array of shape `[N]`, in the order of `x`; in float32 at least. Its gradient
      in `y` is the gradient of the mean within each pool.

    Raises:
      TypeError: If an argument is not real.
      ValueError: If an argument is empty or not of one axis, the shapes differ, or concrete values
        are NaN.

    References:
      Ayer et al., "An empirical distribution function for sampling with incomplete information",
      1955.

    Examples:
      >>> isotonic_regression(jnp.array([3.0, 1.0, 2.0]), jnp.array([4.0, 2.0, 0.0]))
      Array([4., 1., 1.], dtype=float32)
    """
    x = _predictions.check_vector(x, "x")
    y = _checks.check_same_shape(_predictions.check_vector(y, "y"), x, "y", "x")
    return _meshes.on_automatic_axes(_regression, x, y)


@jax.jit
def _temperature(logits: jax.Array, labels: jax.Array) -> jax.Array:
    logits -= jnp.max(logits, axis=-1, keepdims=True)
    target = at_labels(logits, labels)

    def slope(temperature: jax.Array) -> jax.Array:
        return jnp.mean(jnp.sum(jax.nn.softmax(logits / temperature) * logits, axis=-1) - target)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        # The slope increases with the inverse temperature, so where it is positive the root is hotter.
        hotter = slope(jnp.exp(middle)) > 0
        return jnp.where(hotter, middle, low), jnp.where(hotter, high, middle)

    ends = tuple(jnp.asarray(np.log(end), logits.dtype) for end in (_COLDEST, _HOTTEST))
    ends = _carries.varying(lambda ends: halve(0, ends), ends)
    low, high = jax.lax.fori_loop(0, 60, halve, ends)
    temperature = jnp.exp((low + high) / 2)
    return jnp.where(jnp.isfinite(slope(temperature)), temperature, jnp.nan)


class _Steps(NamedTuple):
    """The state of the optimization: parameters, L-BFGS's state, steps taken, and the gradient norm."""

    params: VectorScaling
    inner: PyTree
    taken: Numeric
    norm: jax.Array


@jax.jit
def _vector_scaling(
    logits: jax.Array, labels: jax.Array, steps: Numeric, tolerance: Numeric
) -> VectorScaling:
    # The logits are standardized, as offsets and scales would slow the steps down. A constant logit has
    # no scale to fit, and its deviation is only rounding.
    least, most = jnp.min(logits, 0), jnp.max(logits, 0)
    steps_apart = 8 * jnp.finfo(logits.dtype).eps * jnp.maximum(jnp.abs(least), jnp.abs(most))
    still = most - least <= steps_apart
    center = jnp.where(still, least, jnp.mean(logits, 0))
    spread = jnp.where(still, 1, jnp.std(logits, 0))
    logits = jnp.where(still[None], center[None], logits)
    standard = (logits - center[None]) / spread[None]

    def loss(params: VectorScaling) -> jax.Array:
        scaled = jax.nn.log_softmax(params.scaled(standard))
        return -jnp.mean(at_labels(scaled, labels))

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(state: _Steps) -> _Steps:
        params, inner, taken, _ = state
        value, grad = value_and_grad(params, state=inner)
        # Optax promotes dtypes, but keeps those of its state.
        with jax.numpy_dtype_promotion("standard"):
            updates, inner = optimizer.update(grad, inner, params, value=value, grad=grad, value_fn=loss)
        # The cast, as optax's type does not tell that the structure is kept.
        params = cast(VectorScaling, optax.apply_updates(params, updates))
        return _Steps(params, inner, taken + 1, optax.tree.norm(grad))

    identity = VectorScaling(spread, center)
    start = _Steps(identity, optimizer.init(identity), 0, jnp.array(jnp.inf, logits.dtype))
    params = jax.lax.while_loop(lambda now: (now.taken < steps) & (now.norm > tolerance), step, start).params
    scale = params.scale / spread
    fitted = VectorScaling(scale, params.bias - scale * center)
    return jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(loss(params)), leaf, jnp.nan), fitted)


def _regression(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.zeros_like(y).at[jnp.argsort(x)].set(_fitted(x, y)[1])


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

        # A sum of millions loses digits; the sum of the residuals does not.
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
    _predictions.check_finite(logits, "logits")
    labels = _predictions.check_labels(labels, logits, of_name="logits")
    return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)


def _wide(logits: ArrayLike) -> jax.Array:
    _checks.check_floating(logits, "logits")
    return _predictions.check_class_logits(_predictions.check_values(logits, "logits"), "logits")


def _check_classes(shape: tuple[int, ...], classes: int, name: str = "logits") -> None:
    if shape[-1] != classes:
        raise ValueError(f"`{name}` must have the {classes} classes of the fit, got {shape[-1]}.")
