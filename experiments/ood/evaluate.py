"""Predictions of each method for each set of images, and their measures."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from experiments import cli, mlp, parts
from experiments.ood import networks, posteriors, sets
from jaxdrop import linen, mc, uncertainty

PLAIN, ONE, MC, LAST, ENSEMBLE = "no dropout", "weight scaling", "MC dropout", "MC, last layer", "ensemble"
SITES = {MC: "all", LAST: "last"}
# Number of samples for images at angles before the last, and for the plots.
ENOUGH = 100


class Prediction(NamedTuple):
    """Predictions of a method.

    Attributes:
      mean: Class probabilities, `[..., B, K]`.
      entropy: Their entropy, in nats, `[..., B]`.
      information: Mutual information of label and weights; 0 for a single network.
    """

    mean: Any
    entropy: Any
    information: Any


class Method(NamedTuple):
    """Method of prediction.

    Attributes:
      name: The name in the tables.
      networks: The networks of a seed that it uses.
      sites: The dropout sites that are sampled.
      samples: The number of samples; 0 for weight scaling.
      posterior: The posterior that is sampled, one of `posteriors.NAMES`, instead of dropout.
    """

    name: str
    networks: slice
    sites: str = ""
    samples: int = 0
    posterior: str = ""


def sampled_name(method: str, count: int) -> str:
    """Name of a sampling method with `count` samples."""
    return f"{method}, T={count}"


@functools.partial(jax.jit, static_argnames="model")
def pooled(model: mlp.MLP, params: Any, x: jax.Array) -> Prediction:
    """Mean prediction of networks `[seeds, members, ...]` without noise for images `[seeds, B, D]`."""

    def of_seed(run: tuple) -> Prediction:
        logits: Any = jax.vmap(lambda params: model.apply(params, run[1]))(run[0])
        probs = jax.nn.softmax(logits)
        entropy, information = uncertainty.total_entropy(probs), uncertainty.mutual_information(probs)
        return Prediction(probs.mean(0), entropy, information)

    return jax.lax.map(of_seed, (params, x))


@functools.partial(jax.jit, static_argnames=("model", "sites", "count"))
def sampled(
    model: mlp.MLP, params: Any, keys: chex.PRNGKey, x: jax.Array, sites: str, count: int
) -> Prediction:
    """Mean prediction of `count` samples of one network per seed."""

    def of_seed(run: tuple) -> Prediction:
        predict = linen.stochastic(model, run[0], run[2], sites=sites, deterministic=False)
        found = mc.estimate(predict, run[1], run[2], num_samples=count, reducers=mc.Categorical()).value
        return Prediction(found["mean"], found["total_entropy"], found["mutual_information"])

    return jax.lax.map(of_seed, (params, keys, x))


def methods(plan: networks.Plan, counts: tuple[int, ...]) -> list[Method]:
    """All methods; the network without dropout is the first member of the ensemble."""
    last = plan.members
    still = [Method(PLAIN, slice(1)), Method(ONE, slice(last, None)), Method(ENSEMBLE, slice(last))]
    of_dropout = [
        Method(sampled_name(name, count), slice(last, None), sites, count)
        for name, sites in SITES.items()
        for count in counts
    ]
    # One number of samples shows what a posterior is worth.
    one = [ENOUGH if ENOUGH in counts else counts[-1]] if counts else []
    of_posteriors = [
        Method(sampled_name(name, count), slice(1), samples=count, posterior=name)
        for name in posteriors.NAMES
        for count in one
    ]
    return still + of_dropout + of_posteriors


def predict(
    plan: networks.Plan,
    method: Method,
    params: Any,
    keys: chex.PRNGKey,
    x: jax.Array,
    fitted: posteriors.Posteriors | None = None,
) -> Prediction:
    """Predictions of a method for the images of each seed, `[seeds, B, D]`."""
    if method.posterior:
        posterior = (fitted or {})[method.posterior]
        found = posteriors.sampled(plan, method.posterior, posterior, keys, x, method.samples)
        return Prediction(found["mean"], found["total_entropy"], found["mutual_information"])
    of = jax.tree.map(lambda leaf: leaf[:, method.networks], params)
    if not method.samples:
        return pooled(plan.model(), of, x)
    single = jax.tree.map(lambda leaf: leaf[:, 0], of)
    return sampled(plan.model(), single, keys, x, method.sites, method.samples)


def counts_of(plan: networks.Plan, name: str) -> tuple[int, ...]:
    """Numbers of samples for a set: only one for the angles before the last, all for other sets."""
    if name in map(sets.angle_name, plan.angles[:-1]):
        return (enough(plan),)
    return plan.counts


def enough(plan: networks.Plan) -> int:
    """Number of samples shown in the plots."""
    return ENOUGH if ENOUGH in plan.counts else plan.counts[-1]


def predictions(
    plan: networks.Plan,
    params: Any,
    images: dict[str, sets.Images],
    folder: epath.Path,
    fitted: posteriors.Posteriors | None = None,
) -> dict[str, dict[str, Prediction]]:
    """Predictions by set and method, each cached."""
    of_set = jax.jit(jax.vmap(lambda seed, i: jax.random.fold_in(jax.random.key(seed), i), (0, None)))
    todo = [
        (i, name, j, method)
        for i, name in enumerate(images)
        for j, method in enumerate(methods(plan, counts_of(plan, name)))
    ]
    found: dict[str, dict[str, Prediction]] = {name: {} for name in images}
    bar, task = cli.progress("sets x methods", len(todo))
    with bar:
        for i, name, j, method in todo:

            def compute(i: int = i, name: str = name, method: Method = method) -> dict[str, Any]:
                keys = of_set(plan.seed + np.arange(plan.seeds), i)
                return predict(plan, method, params, keys, jnp.asarray(images[name].x), fitted)._asdict()

            found[name][method.name] = Prediction(**parts.kept(folder, f"set-{i}-{j}", compute))
            bar.advance(task)
    return found


@jax.jit
def quality(prediction: Prediction, y: jax.Array) -> dict[str, jax.Array]:
    """Error, negative log-likelihood, calibration error and area under the risk-coverage curve, by seed."""

    def of_seed(mean: jax.Array, entropy: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        wrong = (mean.argmax(-1) != y).astype(jnp.float32)
        return {
            "error": wrong.mean(),
            "nll": uncertainty.nll(mean, y).mean(),
            "ece": uncertainty.ece(mean, y),
            "aurc": uncertainty.aurc(entropy, wrong),
        }

    return jax.vmap(of_seed)(prediction.mean, prediction.entropy, y)


@jax.jit
def detection(inside: Prediction, outside: Prediction) -> dict[str, jax.Array]:
    """Area under the ROC curve for each of the two uncertainties, by seed."""
    return {
        name: jax.vmap(uncertainty.auroc)(getattr(inside, name), getattr(outside, name))
        for name in ("entropy", "information")
    }


def measure(
    images: dict[str, sets.Images], found: dict[str, dict[str, Prediction]]
) -> dict[str, dict[str, np.ndarray]]:
    """Measures by method and seed, named `SET/NAME`: quality of labeled sets, detection of the others."""
    rows: dict[str, dict[str, np.ndarray]] = {}
    for name, of_method in found.items():
        for method, prediction in of_method.items():
            row = rows.setdefault(method, {})
            measures = {}
            if (images[name].y >= 0).all():
                measures |= quality(prediction, jnp.asarray(images[name].y))
            if name != sets.IN:
                measures |= detection(found[sets.IN][method], prediction)
            row |= {f"{name}/{key}": np.asarray(value, np.float64) for key, value in measures.items()}
    return rows
