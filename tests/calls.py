"""A small valid call of every public function of `mc` and `uncertainty`; each ends in a tree of arrays."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

import jaxdrop
from jaxdrop import mc, uncertainty
from jaxdrop._types import PyTree

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 6))
LOGITS = jax.random.normal(jax.random.key(2), (5, 8, 3))
SAMPLES = jax.nn.softmax(LOGITS)
PROBS = SAMPLES[0]
LABELS = jnp.arange(8) % 3
Y = LOGITS[0, :, 0]


def predict(key: jax.Array, x: jax.Array) -> jax.Array:
    return jaxdrop.dropout(key, x, 0.5)


def pair(key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = predict(key, x)
    return y, jnp.exp(y)


def estimated(reducer: PyTree, predict: Callable = predict, **options: PyTree) -> PyTree:
    found = mc.estimate(predict, KEY, X, **{"num_samples": 7, "reducers": reducer, "chunk_size": 3} | options)
    return found.value, found.standard_error


def merged() -> PyTree:
    options = {"reducers": mc.Moments(groups=2), "num_samples": 4}
    parts = [mc.accumulate(predict, KEY, X, first=first, **options) for first in (0, 4)]
    return mc.finish(options["reducers"], mc.merge(options["reducers"], *parts))


def of_data() -> PyTree:
    options = {"num_samples": 4, "reducers": mc.Moments(), "batch_size": 3}
    return mc.estimate_dataset(predict, KEY, X, **options).value


CALLS: dict[str, Callable[[], PyTree]] = {
    "mc.Bernoulli": lambda: estimated(mc.Bernoulli(log_mean=True)),
    "mc.BernoulliLogDensity": lambda: estimated(
        mc.BernoulliLogDensity(ignore=-1), targets=jnp.sign(X).astype(int)
    ),
    "mc.Categorical": lambda: estimated(mc.Categorical(log_mean=True)),
    "mc.Categorical of probabilities": lambda: estimated(
        mc.Categorical(from_logits=False), lambda key, x: jax.nn.softmax(predict(key, x))
    ),
    "mc.CategoricalLogDensity": lambda: estimated(mc.CategoricalLogDensity(), targets=LABELS[:4]),
    "mc.GaussianLogDensity": lambda: estimated(mc.GaussianLogDensity(2.0), targets=X),
    "mc.GaussianLogDensity of float64": lambda: estimated(
        mc.GaussianLogDensity(2.0),
        targets=X.astype(jnp.float64 if jax.config.jax_enable_x64 else jnp.float32),
    ),
    "mc.GaussianLogDensity of integers": lambda: estimated(
        mc.GaussianLogDensity(2.0),
        lambda key, x: predict(key, x).astype(jnp.bfloat16),
        targets=X.astype(int),
    ),
    "mc.GaussianLogDensity of pairs": lambda: estimated(mc.GaussianLogDensity(), pair, targets=X),
    "mc.Moments": lambda: estimated(mc.Moments()),
    "mc.Moments of covariance": lambda: estimated(mc.Moments(covariance=True, groups=3)),
    "mc.Part": lambda: estimated(mc.Part(0, mc.Moments()), pair),
    # Of more levels the standard error of so few samples would be NaN, as documented.
    "mc.Quantiles": lambda: estimated(mc.Quantiles((0.5,))),
    "mc.Until": lambda: estimated(mc.Moments(), num_samples=mc.Until(0.2, 20, every=4)),
    "mc.estimate": lambda: estimated(mc.Moments(), shared=True),
    "mc.estimate_dataset": of_data,
    "mc.last_layer": lambda: mc.last_layer(X, X.T, X[:, 0], rate=0.3),
    "mc.merge": merged,
    "mc.sample": lambda: mc.sample(predict, KEY, X, num_samples=7, chunk_size=3),
    "uncertainty.accuracy": lambda: uncertainty.accuracy(PROBS, LABELS),
    "uncertainty.aurc": lambda: uncertainty.aurc(Y, PROBS[:, 0]),
    "uncertainty.auroc": lambda: uncertainty.auroc(Y, PROBS[:, 0]),
    "uncertainty.bald": lambda: uncertainty.bald(SAMPLES),
    "uncertainty.batch_bald": lambda: uncertainty.batch_bald(jax.random.key(3), SAMPLES, 3),
    "uncertainty.batch_bald by draws": lambda: uncertainty.batch_bald(
        jax.random.key(3), SAMPLES, 3, num_configurations=9
    ),
    "uncertainty.brier": lambda: uncertainty.brier(PROBS, LABELS),
    "uncertainty.classwise_ece": lambda: uncertainty.classwise_ece(PROBS, LABELS),
    "uncertainty.conformal_quantile": lambda: uncertainty.conformal_quantile(Y, 0.7),
    "uncertainty.coverage": lambda: uncertainty.coverage(Y - 1, Y, PROBS[:, 0]),
    "uncertainty.crps": lambda: uncertainty.crps(LOGITS, LOGITS[0]),
    "uncertainty.crps_gaussian": lambda: uncertainty.crps_gaussian(Y, PROBS[:, 0], Y + 1),
    "uncertainty.decompose_variance": lambda: uncertainty.decompose_variance(LOGITS, SAMPLES),
    "uncertainty.ece": lambda: uncertainty.ece(PROBS, LABELS),
    "uncertainty.ece of equal mass": lambda: uncertainty.ece(PROBS, LABELS, bins=3, mode="equal_mass"),
    "uncertainty.entropy": lambda: uncertainty.entropy(PROBS),
    "uncertainty.expected_entropy": lambda: uncertainty.expected_entropy(SAMPLES),
    "uncertainty.fit_aps": lambda: uncertainty.fit_aps(PROBS, LABELS, level=0.6)(PROBS),
    "uncertainty.fit_aps with a key": lambda: uncertainty.fit_aps(
        PROBS, LABELS, level=0.6, key=jax.random.key(3)
    )(PROBS, key=jax.random.key(4)),
    "uncertainty.fit_cqr": lambda: uncertainty.fit_cqr(Y - 1, Y + 1, PROBS[:, 0], level=0.6)(Y, Y),
    "uncertainty.fit_isotonic": lambda: uncertainty.fit_isotonic(PROBS, LABELS)(PROBS),
    "uncertainty.fit_lac": lambda: uncertainty.fit_lac(PROBS, LABELS, level=0.6)(PROBS),
    "uncertainty.fit_raps": lambda: uncertainty.fit_raps(PROBS, LABELS, level=0.6, free=1)(PROBS),
    "uncertainty.fit_temperature": lambda: uncertainty.fit_temperature(LOGITS[0], LABELS)(LOGITS[0]),
    "uncertainty.fit_vector_scaling": lambda: uncertainty.fit_vector_scaling(LOGITS[0], LABELS, steps=5)(
        LOGITS[0]
    ),
    "uncertainty.fpr95": lambda: uncertainty.fpr95(Y, PROBS[:, 0]),
    "uncertainty.gaussian_nll": lambda: uncertainty.gaussian_nll(Y, PROBS[:, 0], Y + 1),
    "uncertainty.isotonic_regression": lambda: uncertainty.isotonic_regression(Y, PROBS[:, 0]),
    "uncertainty.max_entropy": lambda: uncertainty.max_entropy(SAMPLES),
    "uncertainty.mutual_information": lambda: uncertainty.mutual_information(SAMPLES),
    "uncertainty.nll": lambda: uncertainty.nll(PROBS, LABELS),
    "uncertainty.pinball": lambda: uncertainty.pinball(LOGITS[:2, :, 0], Y, jnp.array([0.2, 0.7])),
    "uncertainty.reliability": lambda: uncertainty.reliability(PROBS, LABELS),
    "uncertainty.risk_coverage": lambda: uncertainty.risk_coverage(Y, PROBS[:, 0]),
    "uncertainty.sharpness": lambda: uncertainty.sharpness(PROBS),
    "uncertainty.top": lambda: uncertainty.top(Y, 2),
    "uncertainty.total_entropy": lambda: uncertainty.total_entropy(SAMPLES),
    "uncertainty.variation_ratio": lambda: uncertainty.variation_ratio(SAMPLES),
}
