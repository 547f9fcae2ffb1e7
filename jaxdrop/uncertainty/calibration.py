"""Post-hoc calibration, fitted on held-out examples.

Each fit returns a small pytree that is called on new predictions. It can be saved, or passed through
`jit`. For Monte-Carlo samples use "log_mean" of `mc.Categorical(log_mean=True)` as logits. The
logarithm of a mean probability that underflows to 0 is minus infinity, and is refused for a label.
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

__all__ = ["Temperature", "VectorScaling", "fit_temperature", "fit_vector_scaling"]

# At a temperature of 1e-3 of the smallest gap all probabilities are one-hot, as exp(-1000) is 0; at 1e3
# times the largest gap they are uniform to 0.1 %.
_RANGE = 1e3


class Temperature(NamedTuple):
    """Logits divided by a temperature; a call returns probabilities.

    Attributes:
      temperature: A scalar above 0; above 1 predictions get less certain. The likeliest class stays.
    """

    temperature: jax.Array

    def __call__(self, logits: ArrayLike) -> jax.Array:
        """Probabilities of logits `[..., K]`, of which some may be minus infinity."""
        logits = _wide(logits)
        # Their largest is subtracted first, so that a small temperature makes no infinity.
        return jax.nn.softmax((logits - jnp.max(logits, axis=-1, keepdims=True)) / self.temperature)


class VectorScaling(NamedTuple):
    """Logits with a scale and a bias per class; a call returns probabilities.

    Attributes:
      scale: The scales, `[K]`.
      bias: The biases, `[K]`; only their differences matter.
      converged: Whether the fit reached its tolerance. If not, it is still no worse on its examples than
        the temperature that it started at: take more steps, or fit a temperature.
    """

    scale: jax.Array
    bias: jax.Array
    converged: ArrayLike | bool = True

    def __call__(self, logits: ArrayLike) -> jax.Array:
        """Probabilities of logits `[..., K]`, of which some may be minus infinity."""
        logits = _wide(logits)
        _check_classes(logits.shape, self.scale.shape[0])
        return jax.nn.softmax(self.scaled(logits))

    def scaled(self, logits: jax.Array) -> jax.Array:
        """The scaled logits, before the softmax."""
        axes = range(logits.ndim - 1)
        absent = jnp.isneginf(logits)
        scaled = jnp.where(absent, 0, logits) * jnp.expand_dims(self.scale, axes)
        return jnp.where(absent, -jnp.inf, scaled + jnp.expand_dims(self.bias, axes))


def fit_temperature(logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> Temperature:
    """Temperature scaling: fits one temperature that minimizes the mean NLL of the labels.

    The NLL is convex in the inverse temperature. The root of its slope is found by bisection of the
    logarithm, to the precision of the dtype.

    Args:
      logits: `[N, K]`; further leading axes are examples, too. A class may have minus infinity, but not
        the label.
      labels: Integers in [0, K), `[N]`.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.

    Returns:
      A `Temperature` in the units of the logits. If every label's logit is the largest, it is 0.001 of
      the smallest gap between an example's logits; if the logits are anticorrelated with the labels, 1000
      times the largest gap; if all are equal, 1. NaN if a traced label is out of range, a traced logit
      is not as above, or no example is selected.

    Raises:
      TypeError: If `logits` are not floating-point, `labels` are not integers, or `where` is not boolean.
      ValueError: If the shapes do not match, `logits` are empty or of one class, or concrete logits are
        NaN, infinite or probabilities (each example sums to 1), or labels out of range.

    References:
      Guo et al., "On calibration of modern neural networks", 2017.

    Examples:
      >>> logits = jnp.array([[9.0, 0.0]] * 4)
      >>> fit_temperature(logits, jnp.array([0, 0, 0, 1]))(logits[0]).round(2)
      Array([0.75, 0.25], dtype=float32)
    """
    return Temperature(_meshes.on_automatic_axes(_temperature, *_check(logits, labels, where)))


def fit_vector_scaling(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    steps: int = 200,
    tolerance: float = 1e-5,
    where: ArrayLike | None = None,
) -> VectorScaling:
    """Vector scaling: fits a scale and a bias per class that minimize the mean NLL of the labels.

    The problem is convex and is solved by L-BFGS, started at the temperature of `fit_temperature`. Within
    `jax.shard_map` its line search needs `check_vma=False`.

    Args:
      logits: `[N, K]`; further leading axes are examples, too. A class may have minus infinity or a very
        negative number where it is masked, but not the label.
      labels: Integers in [0, K), `[N]`.
      steps: The maximum number of steps, at least 1. If scales and biases can separate the labels, the
        NLL has no minimum and they grow with every step.
      tolerance: The gradient norm at which it stops, above 0; with respect to the coefficients of
        standardized logits.
      where: Boolean mask of the examples to fit to, which broadcasts to `labels`. Others may hold
        anything. None: all.

    Returns:
      A `VectorScaling`, whose mean NLL on the examples is never above that of `fit_temperature`; its
      `converged` tells whether the tolerance was reached. NaN if a traced label is out of range, a traced
      logit is not as above, or no example is selected.

    Raises:
      TypeError: If `logits` are not floating-point, `labels` or `steps` are not integers, or `where` is not
        boolean.
      ValueError: If the shapes do not match, `logits` are empty or of one class, concrete logits are
        NaN, infinite or probabilities (each example sums to 1), labels out of range, `steps` is below
        1, or `tolerance` is not above 0.

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
    return _meshes.on_automatic_axes(fit, *_check(logits, labels, where))


@jax.jit
def _temperature(logits: jax.Array, labels: jax.Array, used: jax.Array) -> jax.Array:
    absent = jnp.isneginf(logits)
    gaps = jnp.where(absent, 0, jnp.max(logits, axis=-1, keepdims=True) - logits)
    target = at_labels(jnp.where(absent, jnp.nan, gaps), labels)

    def slope(temperature: jax.Array) -> jax.Array:
        probs = jax.nn.softmax(jnp.where(absent, -jnp.inf, -gaps / temperature))
        return jnp.mean(target - jnp.sum(probs * gaps, axis=-1), where=used)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        # The slope increases with the inverse temperature, so where it is positive the root is hotter.
        hotter = slope(jnp.exp(middle)) > 0
        return jnp.where(hotter, middle, low), jnp.where(hotter, high, middle)

    some = (gaps > 0) & used[:, None]
    smallest = jnp.min(gaps, where=some, initial=jnp.inf)
    equal = jnp.isinf(smallest)
    largest = jnp.max(gaps, where=some, initial=0)
    ends = (
        jnp.log(jnp.where(equal, 1, smallest)) - np.log(_RANGE).astype(logits.dtype),
        jnp.log(jnp.where(equal, 1, largest)) + np.log(_RANGE).astype(logits.dtype),
    )
    limits = jnp.log(jnp.finfo(logits.dtype).tiny), jnp.log(jnp.finfo(logits.dtype).max)
    ends = tuple(jnp.clip(end, *(limit.astype(logits.dtype) for limit in limits)) for end in ends)
    ends = _carries.varying(lambda ends: halve(0, ends), ends)
    low, high = jax.lax.fori_loop(0, 60, halve, ends)
    temperature = jnp.where(equal, 1, jnp.exp((low + high) / 2))
    return jnp.where(jnp.isfinite(slope(temperature)), temperature, jnp.nan)


# A scale and a bias per class, for standardized logits.
_Params = tuple[jax.Array, jax.Array]


class _Steps(NamedTuple):
    """The state of the optimization.

    Attributes:
      params: The parameters.
      inner: The state of L-BFGS.
      taken: The number of steps taken.
      norm: The norm of the last gradient.
      best: The parameters with the smallest loss so far.
      least: Their loss.
    """

    params: _Params
    inner: PyTree
    taken: Numeric
    norm: jax.Array
    best: _Params
    least: jax.Array


class _Standardized(NamedTuple):
    """Logits of mean 0 and deviation 1 in each class.

    Attributes:
      logits: These logits.
      center: The mean of each class before, `[K]`.
      spread: Its deviation; 1 if all are equal.
      still: Whether all are equal: there is no scale to fit, and a deviation would be only rounding.
    """

    logits: jax.Array
    center: jax.Array
    spread: jax.Array
    still: jax.Array


def _standardized(logits: jax.Array, used: jax.Array, temperature: jax.Array) -> _Standardized:
    """Without offsets and scales, which would slow the steps down.

    They are those of the logits that have a part in the probabilities, as exp(-30) has none: a logit
    masked by a large number would hide the others.
    """
    near = logits >= jnp.max(logits, axis=-1, keepdims=True) - 30 * temperature
    near &= used[:, None]
    finite = used[:, None] & ~jnp.isneginf(logits)
    near = jnp.where(near.any(0)[None], near, finite)
    known = jnp.where(finite, logits, 0)
    least = jnp.min(known, 0, where=near, initial=jnp.inf)
    most = jnp.max(known, 0, where=near, initial=-jnp.inf)
    some = near.any(0)
    least, most = jnp.where(some, least, 0), jnp.where(some, most, 0)
    steps_apart = 8 * jnp.finfo(logits.dtype).eps * jnp.maximum(jnp.abs(least), jnp.abs(most))
    still = most - least <= steps_apart
    count = jnp.maximum(jnp.sum(near, 0), 1).astype(logits.dtype)
    center = jnp.where(still, least, jnp.sum(known, 0, where=near) / count)
    variance = jnp.sum((known - center[None]) ** 2, 0, where=near) / count
    spread = jnp.where(still, 1, jnp.sqrt(variance))
    logits = (jnp.where(still[None] & near, center[None], logits) - center[None]) / spread[None]
    return _Standardized(logits, center, spread, still)


@jax.jit
def _vector_scaling(
    logits: jax.Array, labels: jax.Array, used: jax.Array, steps: Numeric, tolerance: Numeric
) -> VectorScaling:
    temperature = _temperature(logits, labels, used)
    standard, center, spread, still = _standardized(logits, used, temperature)

    def loss(params: _Params) -> jax.Array:
        scaled = jax.nn.log_softmax(VectorScaling(*params).scaled(standard))
        return -jnp.mean(at_labels(scaled, labels), where=used)

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def improved(state: _Steps, value: jax.Array) -> tuple[_Params, jax.Array]:
        better = value < state.least
        best = tuple(jnp.where(better, new, old) for new, old in zip(state.params, state.best, strict=True))
        return cast(_Params, best), jnp.where(better, value, state.least)

    def step(state: _Steps) -> _Steps:
        value, grad = value_and_grad(state.params, state=state.inner)
        # Optax promotes dtypes, but keeps those of its state.
        with jax.numpy_dtype_promotion("standard"):
            updates, inner = optimizer.update(
                grad, state.inner, state.params, value=value, grad=grad, value_fn=loss
            )
        # The cast, as optax's type does not tell that the structure is kept.
        params = cast(_Params, optax.apply_updates(state.params, updates))
        return _Steps(
            params, inner, state.taken + 1, optax.tree.norm(grad), *improved(state, jnp.asarray(value))
        )

    cooled = jnp.where(still, 1, spread / temperature), center / temperature
    infinite = jnp.array(jnp.inf, logits.dtype)
    state = _Steps(cooled, optimizer.init(cooled), 0, infinite, cooled, loss(cooled))
    state = jax.lax.while_loop(lambda now: (now.taken < steps) & (now.norm > tolerance), step, state)
    (scale, bias), least = improved(state, jnp.asarray(loss(state.params)))
    scale = scale / spread
    fitted = scale, bias - scale * center
    fitted = (jnp.where(jnp.isfinite(least), leaf, jnp.nan) for leaf in fitted)
    return VectorScaling(*fitted, state.norm <= tolerance)


def _check(
    logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits as `[N, K]`, labels and a mask as `[N]`; examples left out hold valid values."""
    where = _predictions.check_mask(where, np.shape(logits)[:-1])
    each = None if where is None else _predictions.check_mask(where[..., None], np.shape(logits))
    logits = _predictions.filled(_wide(logits, each), where, 0)
    labels = _predictions.check_labels(labels, logits, of_name="logits", where=where)
    labels = _predictions.filled(labels, where, 0)
    if all(map(_predictions.is_visible, (logits, labels))):
        _checks.check_all(logits, "logits", "be below infinity", lambda values: values < np.inf)
        _checks.check_all(at_labels(logits, labels), "logits", "be finite at the labels", np.isfinite)
        _predictions.refuse_probabilities(logits, where)
    used = jnp.ones(labels.shape, bool) if where is None else jnp.asarray(where)
    return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), used.reshape(-1)


def _wide(logits: ArrayLike, where: ArrayLike | None = None) -> jax.Array:
    _checks.check_floating(logits, "logits")
    return _predictions.check_class_logits(_predictions.check_values(logits, "logits", where), "logits")


def _check_classes(shape: tuple[int, ...], classes: int) -> None:
    if shape[-1] != classes:
        raise ValueError(f"`logits` must have the {classes} classes of the fit, got {shape[-1]}.")
