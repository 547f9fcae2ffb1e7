"""Methods that estimate the moments and the uncertainty of a network with dropout.

Each finds the same statistics, so that its time is that of the whole answer: "mean", "variance", "covariance"
and "log_density" of the targets; of classes also "probabilities" and the names of `measures.ENTROPIES`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from experiments.samples.measures import ENTROPIES
from experiments.samples.tasks import Task
from jaxdrop import mc, uncertainty

INDEPENDENT, BALANCED, MATCHED = "independent", "balanced", "matched"
MOMENTS, GAUSSIAN = "moments", "Gaussian"
# Samples of a balanced set.
SET = 32
# The names of `mc.Categorical`, by ours.
_NAMES = {name: name for name in ENTROPIES} | {"probabilities": "mean"}

Found = Mapping[str, Any]


class Method(NamedTuple):
    """Method of estimation.

    Attributes:
      name: The name in tables.
      samples: The number of samples; 0 for none.
      estimate: `estimate(key)`, the statistics.
      points: The number of points of the classes of Gaussian logits; 0 for other methods.
    """

    name: str
    samples: int
    estimate: Callable[[chex.PRNGKey], Found]
    points: int = 0

    @property
    def label(self) -> str:
        """Name with the number of samples or points."""
        own = f", T={self.samples}" if self.samples else f", N={self.points}" if self.points else ""
        return self.name + own


class Counts(NamedTuple):
    """Numbers of samples, or points, of each method, ascending."""

    independent: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000)
    balanced: tuple[int, ...] = (32, 128)
    matched: tuple[int, ...] = (16, 32, 100)
    gaussian: tuple[int, ...] = (128, 1024)


def of_samples(
    task: Task, predict: Any, precision: float, count: int, x: Any, y: Any, **options: Any
) -> Callable[[chex.PRNGKey], Found]:
    """Function of a key that streams `count` samples, by `mc.estimate`."""
    reducers: dict[str, mc.Reducer] = {"outputs": mc.Moments(covariance=True, groups=0)}
    if task.classes:
        reducers["classes"] = mc.Categorical(groups=0, log_mean=True)
        targets = None
    else:
        reducers["density"] = mc.GaussianLogDensity(precision=precision, groups=0)
        targets = y[:, None]

    def estimate(key: chex.PRNGKey) -> Found:
        call = {"num_samples": count, "reducers": reducers, "targets": targets} | options
        found: Any = mc.estimate(predict, key, x, **call).value
        if not task.classes:
            return found["outputs"] | found["density"]
        return found["outputs"] | of_classes(found["classes"], y)

    return estimate


def of_outputs(predict: Any, count: int, x: Any) -> Callable[[chex.PRNGKey], Found]:
    """Function of a key that streams the mean and the covariance of the outputs alone."""
    reducer = mc.Moments(covariance=True, groups=0)
    return lambda key: mc.estimate(predict, key, x, num_samples=count, reducers=reducer).value


def of_classes(classes: Mapping[str, Any], y: jax.Array) -> dict[str, Any]:
    """Statistics of class probabilities under our names; log densities of the labels, for the first rows."""
    density = jnp.take_along_axis(classes["log_mean"][: len(y)], y[:, None], 1)[:, 0]
    return {name: classes[other] for name, other in _NAMES.items()} | {"log_density": density}


def of_moments(task: Task, moments: Any, precision: float, y: jax.Array) -> dict[str, Any]:
    """Mean, variance and covariance; of a value also its log density, a normal one."""
    variance = jnp.diagonal(moments.covariance, axis1=-2, axis2=-1)
    found = {"mean": moments.mean, "variance": variance, "covariance": moments.covariance}
    if task.classes:
        return found
    spread = variance[:, 0] + 1 / precision
    error = y - moments.mean[:, 0]
    return found | {"log_density": -0.5 * (jnp.log(2 * jnp.pi * spread) + error**2 / spread)}


def of_matched(
    task: Task, samples: jax.Array, moments: dict[str, Any], precision: float, y: jax.Array
) -> dict[str, Any]:
    """Statistics of stored samples `[T, B, K]` with the given moments."""
    if not task.classes:
        logs = -0.5 * precision * (y - samples[..., 0]) ** 2 + 0.5 * jnp.log(precision / (2 * jnp.pi))
        return moments | {"log_density": jax.nn.logsumexp(logs, 0) - jnp.log(len(logs))}
    probs = jax.nn.softmax(samples)
    log_mean = jax.nn.logsumexp(jax.nn.log_softmax(samples), 0) - jnp.log(len(samples))
    classes = {"mean": probs.mean(0), "log_mean": log_mean}
    classes |= {name: getattr(uncertainty, name)(probs) for name in ENTROPIES}
    return moments | of_classes(classes, y)


def make(task: Task, predict: Any, precision: float, counts: Counts, x: Any, y: Any) -> list[Method]:
    """All methods for rows `[B, D]`, and the targets of the first of them."""
    x, y = jnp.asarray(x), jnp.asarray(y)

    def moments() -> Any:
        return mc.moments(predict, x)

    def finish(function: Callable) -> Callable:
        return jax.jit(lambda *args: function(task, *args, precision, y))

    from_moments, from_matched = finish(of_moments), finish(of_matched)

    def gaussian(count: int) -> Callable[[chex.PRNGKey], Found]:
        def estimate(_: chex.PRNGKey) -> Found:
            found = moments()
            options = {"num_points": count, "log_mean": True}
            classes = mc.gaussian_classes(found.mean, found.covariance, **options)
            return from_moments(found) | of_classes(classes, y)

        return estimate

    def matched(count: int) -> Callable[[chex.PRNGKey], Found]:
        def estimate(key: chex.PRNGKey) -> Found:
            found = moments()
            samples = mc.sample(predict, key, x, num_samples=count)
            return from_matched(mc.match(samples, found.mean, found.covariance), from_moments(found))

        return estimate

    def streamed(count: int, **options: Any) -> Callable[[chex.PRNGKey], Found]:
        return of_samples(task, predict, precision, count, x, y, **options)

    made = [Method(INDEPENDENT, count, streamed(count)) for count in counts.independent]
    made += [Method(BALANCED, count, streamed(count, balanced=SET)) for count in counts.balanced]
    made += [Method(MATCHED, count, matched(count)) for count in counts.matched]
    made.append(Method(MOMENTS, 0, lambda _: from_moments(moments())))
    return made + [Method(GAUSSIAN, 0, gaussian(n), n) for n in counts.gaussian if task.classes]


def arrays(found: Found) -> dict[str, np.ndarray]:
    """Statistics as float64 arrays on the host."""
    return {name: np.asarray(value, np.float64) for name, value in found.items()}
