"""A small valid call of every public function of `mc` and `uncertainty`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jaxdrop
from jaxdrop import mc, uncertainty
from jaxdrop._types import PyTree
from tests.calls.arrays import KEY, LABELS, LOGITS, Call, call
from tests.normals import standard_normal

X = standard_normal(1, (8, 6))
KERNEL = standard_normal(2, (6, 3))
SAMPLES = jax.nn.softmax(LOGITS)
PROBS = SAMPLES[0]
Y = LOGITS[0, :, 0]
Z = PROBS[:, 0]
FACTORS = standard_normal(3, (8, 3, 3))


def predict(key: jax.Array, x: jax.Array) -> jax.Array:
    return jaxdrop.dropout(key, x, 0.5)


def pair(key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = predict(key, x)
    return y, jnp.exp(y)


def estimated(
    reducer: PyTree, targets: jax.Array | None = None, predict: Callable = predict, **options: PyTree
) -> Call:
    """Seven samples in chunks of three."""
    options = {"num_samples": 7, "chunk_size": 3} | options

    def run(key: jax.Array, x: jax.Array, *targets: jax.Array) -> PyTree:
        more = {"targets": targets[0]} if targets else {}
        return mc.estimate(predict, key, x, reducers=reducer, **options, **more)[:2]

    return call(run, KEY, X, *(() if targets is None else (targets,)))


def _both(fitted: uncertainty.Recalibration, probs: jax.Array) -> PyTree:
    return fitted(probs), fitted.inverse(probs)


def merged(key: jax.Array, x: jax.Array) -> PyTree:
    reducer, options = mc.Moments(groups=2), {"num_samples": 4}
    parts = [mc.accumulate(predict, key, x, first=first, reducers=reducer, **options) for first in (0, 4)]
    return mc.finish(reducer, mc.merge(reducer, *parts))[:2]


def of_members(key: jax.Array, x: jax.Array, members: jax.Array) -> PyTree:
    def member(kernel: jax.Array, key: jax.Array, x: jax.Array) -> jax.Array:
        return predict(key, x) @ kernel

    options = {"num_samples": 6, "reducers": mc.Clustered(mc.Moments(), 3), "chunk_size": 4}
    return mc.estimate(mc.ensemble(member, members, draws=2), key, x, **options)[:2]


def of_iterates(key: jax.Array, x: jax.Array, kernels: jax.Array) -> PyTree:
    state = mc.SWAG.begin(kernels[0], rank=2)
    for kernel in kernels:
        state = state.update(kernel)
    return mc.sample(mc.swag(lambda kernel, key, x: x @ kernel, state), key, x, num_samples=3)


def of_layer(key: jax.Array, x: jax.Array, labels: jax.Array, kernel: jax.Array) -> PyTree:
    found = mc.laplace_classification(x, labels, kernel, prior_precision=1.0)
    return found.probabilities(x), found.log_evidence, mc.sample(found, key, x, num_samples=2).mean()


def of_regression(x: jax.Array, y: jax.Array) -> PyTree:
    found = mc.laplace_regression(x, y, prior_precision=1.0, noise_precision=1.0)
    return found.moments(x), found.log_evidence


def of_data(key: jax.Array, x: jax.Array) -> PyTree:
    options = {"num_samples": 4, "reducers": mc.Moments(), "batch_size": 3}
    return mc.estimate_dataset(predict, key, x, **options).value


def covariances(factors: jax.Array) -> jax.Array:
    return jnp.einsum("bik,bjk->bij", factors, factors)


def of_moments(key: jax.Array, x: jax.Array) -> PyTree:
    found = mc.last_layer(x, jnp.eye(6, dtype=x.dtype), rate=0.3)
    return mc.check_moments(found, predict, key, x, num_samples=8, chunk_size=3)


def shared_out(*shares: jax.Array) -> PyTree:
    table = mc.site_shares({"a": shares[0], "b": shares[1]})
    return table.per_example, table.mean


def of_outputs(x: jax.Array, kernel: jax.Array) -> PyTree:
    def logits(kernel: jax.Array, key: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(predict(key, x)) @ kernel

    found = mc.moments(jax.tree_util.Partial(logits, kernel), x)
    return found.mean, found.variance, found.covariance, found.shares


def merged_tallies(probs: jax.Array, labels: jax.Array) -> PyTree:
    values = uncertainty.nll(probs, labels)
    tallies = {"nll": uncertainty.tally_mean(values), "rms": uncertainty.tally_rms(values)}
    return uncertainty.finish(uncertainty.merge(tallies, tallies))


def reported(samples: jax.Array, y: jax.Array) -> PyTree:
    found = uncertainty.report(samples, y, samples=True, level=0.5)
    return [[row.value, row.standard_error] for row in found.rows]


MC = {
    "Bernoulli": estimated(mc.Bernoulli(log_mean=True)),
    "BernoulliLogDensity": estimated(mc.BernoulliLogDensity(ignore=-1), jnp.sign(X).astype(int)),
    "Categorical": estimated(mc.Categorical(log_mean=True)),
    "Categorical of probabilities": estimated(
        mc.Categorical(from_logits=False), predict=lambda key, x: jax.nn.softmax(predict(key, x))
    ),
    "CategoricalLogDensity": estimated(mc.CategoricalLogDensity(), LABELS),
    "Clustered": call(of_members, KEY, X, jnp.stack([KERNEL, -KERNEL, 2 * KERNEL])),
    "GaussianLogDensity": estimated(mc.GaussianLogDensity(2.0), X),
    "GaussianLogDensity of float64": call(
        lambda key, x: mc.estimate(
            predict,
            key,
            x,
            num_samples=7,
            reducers=mc.GaussianLogDensity(2.0),
            targets=x.astype(jnp.float64 if jax.config.jax_enable_x64 else jnp.float32),
        )[:2],
        KEY,
        X,
    ),
    "GaussianLogDensity of integers": estimated(
        mc.GaussianLogDensity(2.0), X.astype(int), lambda key, x: predict(key, x).astype(jnp.bfloat16)
    ),
    "GaussianLogDensity of pairs": estimated(mc.GaussianLogDensity(), X, pair),
    "Moments": estimated(mc.Moments()),
    "Moments of covariance": estimated(mc.Moments(covariance=True, groups=3)),
    "Part": estimated(mc.Part(0, mc.Moments()), predict=pair),
    # Of more levels the standard error of so few samples would be NaN, as documented.
    "Quantiles": estimated(mc.Quantiles((0.5,))),
    "Until": estimated(mc.Moments(), num_samples=mc.Until(0.2, 20, every=4)),
    "check_moments": call(of_moments, KEY, X),
    "ensemble": call(
        lambda key, x, members: mc.sample(
            mc.ensemble(lambda kernel, key, x: x @ kernel, members), key, x, num_samples=3
        ),
        KEY,
        X,
        jnp.stack([KERNEL, -KERNEL, 2 * KERNEL]),
    ),
    "estimate": estimated(mc.Moments(), shared=True),
    "estimate_dataset": Call(of_data, (KEY, X), traced=False),
    "Indexed": call(
        lambda key, x, rows: mc.sample(
            mc.Indexed(lambda row, key, t, x: row * x, rows), key, x, num_samples=7, chunk_size=3
        ),
        KEY,
        X,
        Y,
    ),
    "gaussian_classes": call(
        lambda mean, factors: mc.gaussian_classes(mean, covariances(factors), num_points=32, chunk_size=16),
        PROBS,
        FACTORS,
    ),
    "laplace_classification": call(of_layer, KEY, X, LABELS, KERNEL),
    "laplace_regression": call(of_regression, X, X[:, :3]),
    "last_layer": call(lambda *arrays: mc.last_layer(*arrays, rate=0.3), X, KERNEL, KERNEL[0]),
    "match": call(
        lambda samples, mean, factors: mc.match(samples, mean, covariances(factors)), LOGITS, PROBS, FACTORS
    ),
    "merge": call(merged, KEY, X),
    "estimate of balanced sets": estimated(mc.Moments(groups=2), num_samples=16, balanced=8),
    "moments": call(of_outputs, X, KERNEL),
    "sample": call(lambda key, x: mc.sample(predict, key, x, num_samples=7, chunk_size=3), KEY, X),
    "site_shares": Call(shared_out, (PROBS, PROBS**2), traced=False),
    "swag": call(of_iterates, KEY, X, jnp.stack([KERNEL, -KERNEL, 2 * KERNEL])),
}


def of_features(fit: Callable[..., Callable[[jax.Array], jax.Array]]) -> Call:
    """A fit to features of three classes, and the score of others."""
    return call(lambda x, labels: fit(x, labels, 3, shrinkage=0.3)(x + 1), X, LABELS)


UNCERTAINTY = {
    "accuracy": call(uncertainty.accuracy, PROBS, LABELS),
    "aupr": call(uncertainty.aupr, Y, Z),
    "aupr_with_error": call(uncertainty.aupr_with_error, Y, Z),
    "aurc": call(uncertainty.aurc, Y, Z),
    "aurc_with_error": call(uncertainty.aurc_with_error, Y, Z),
    "auroc": call(uncertainty.auroc, Y, Z),
    "auroc_difference": call(lambda y, z: uncertainty.auroc_difference((y, z), (z, y)), Y, Z),
    "auroc_with_error": call(uncertainty.auroc_with_error, Y, Z),
    "bald": call(uncertainty.bald, SAMPLES),
    "batch_bald": call(lambda key, probs: uncertainty.batch_bald(key, probs, 3), KEY, SAMPLES),
    "batch_bald of draws": call(
        lambda key, probs: uncertainty.batch_bald(key, probs, 3, num_configurations=5), KEY, SAMPLES
    ),
    "binary_brier": call(uncertainty.binary_brier, Z, LABELS > 0),
    "binary_ece": call(uncertainty.binary_ece, Z, LABELS > 0),
    "binary_nll": call(uncertainty.binary_nll, Z, LABELS > 0),
    "binary_reliability": call(uncertainty.binary_reliability, Z, LABELS > 0),
    "bootstrap": call(
        lambda key, *sets: uncertainty.bootstrap(
            key, uncertainty.auroc, *sets, paired=False, num_resamples=4
        ),
        KEY,
        Y,
        Z,
    ),
    "brier": call(uncertainty.brier, PROBS, LABELS),
    "brier of some": call(
        lambda *args: uncertainty.brier(*args, where=args[1] < 2).sum(where=args[1] < 2), PROBS, LABELS
    ),
    "classwise_ece": call(uncertainty.classwise_ece, PROBS, LABELS),
    "conformal_quantile": call(lambda y: uncertainty.conformal_quantile(y, 0.7), Y),
    "coverage": call(uncertainty.coverage, Y - 1, Y, Z),
    "crps": call(lambda logits, y: uncertainty.crps(logits, y), LOGITS, LOGITS[0]),
    "crps_gaussian": call(uncertainty.crps_gaussian, Y, Z, Y + 1),
    "crps_gaussian_mixture": call(uncertainty.crps_gaussian_mixture, LOGITS, SAMPLES, LOGITS[1]),
    "decompose_variance": call(uncertainty.decompose_variance, LOGITS, SAMPLES),
    "ece": call(uncertainty.ece, PROBS, LABELS),
    "ece of equal mass": call(
        lambda probs, labels: uncertainty.ece(probs, labels, bins=3, mode="equal_mass"), PROBS, LABELS
    ),
    "ence": call(lambda *args: uncertainty.ence(*args, bins=3), Y, Z, Y + 1),
    "energy_score": call(lambda z, y: uncertainty.energy_score(z, y), LOGITS, LOGITS[1]),
    "ece_with_error": call(uncertainty.ece_with_error, PROBS, LABELS),
    "energy": call(uncertainty.energy, LOGITS[0]),
    "entropy": call(uncertainty.entropy, PROBS),
    "expected_entropy": call(uncertainty.expected_entropy, SAMPLES),
    "finish": call(lambda y: uncertainty.finish(uncertainty.tally_mean(y)), Y),
    "fit_aps": call(lambda p, labels: uncertainty.fit_aps(p, labels, level=0.6)(p), PROBS, LABELS),
    "fit_aps of a key": call(
        lambda p, labels, key, other: uncertainty.fit_aps(p, labels, level=0.6, key=key)(p, key=other),
        PROBS,
        LABELS,
        jax.random.key(3),
        jax.random.key(4),
    ),
    "fit_box": call(
        lambda mean, y, stddev: uncertainty.fit_box(mean, y, stddev, level=0.6)(mean, stddev=stddev),
        LOGITS[0],
        LOGITS[1],
        PROBS,
    ),
    "fit_cqr": call(lambda *fitted: uncertainty.fit_cqr(*fitted, level=0.6)(Y, Y), Y - 1, Y + 1, Z),
    "fit_fnr": call(
        lambda p, labels: uncertainty.fit_fnr(p, labels, risk=0.3)(p), PROBS, (PROBS > 0.3).astype(int)
    ),
    "fit_group_quantile": call(
        lambda y, groups: uncertainty.fit_group_quantile(y, groups, level=0.6, num_groups=3)(groups),
        Y,
        LABELS,
    ),
    "fit_isotonic": call(lambda p, labels: uncertainty.fit_isotonic(p, labels)(p), PROBS, LABELS),
    "fit_lac": call(lambda p, labels: uncertainty.fit_lac(p, labels, level=0.6)(p), PROBS, LABELS),
    "fit_lac of groups": call(
        lambda p, labels, groups: uncertainty.fit_lac(p, labels, level=0.6, groups=groups, num_groups=2)(
            p, groups=groups
        ),
        PROBS,
        LABELS,
        LABELS % 2,
    ),
    "fit_raps": call(lambda p, labels: uncertainty.fit_raps(p, labels, level=0.6, free=1)(p), PROBS, LABELS),
    "fit_recalibration": call(lambda p: _both(uncertainty.fit_recalibration(p), p), Z),
    "fit_stddev_scale": call(lambda *args: uncertainty.fit_stddev_scale(*args)(args[1]), Y, Z, Y + 1),
    "fit_residual": call(
        lambda mean, y, stddev: uncertainty.fit_residual(mean, y, level=0.6, stddev=stddev)(
            mean, stddev=stddev
        ),
        Y,
        Z,
        Y**2 + 1,
    ),
    "fit_ddu": of_features(uncertainty.fit_ddu),
    "fit_mahalanobis": of_features(uncertainty.fit_mahalanobis),
    "fit_relative_mahalanobis": of_features(uncertainty.fit_relative_mahalanobis),
    "fit_temperature": call(lambda z, labels: uncertainty.fit_temperature(z, labels)(z), LOGITS[0], LABELS),
    "fit_vector_scaling": call(
        lambda z, labels: uncertainty.fit_vector_scaling(z, labels, steps=5)(z), LOGITS[0], LABELS
    ),
    "fit_weighted_quantile": call(
        lambda y, weights: uncertainty.fit_weighted_quantile(y, weights, level=0.6)(weights), Y, Z
    ),
    "fpr95": call(uncertainty.fpr95, Y, Z),
    "fpr95_with_error": call(uncertainty.fpr95_with_error, Y, Z),
    "gaussian_nll": call(uncertainty.gaussian_nll, Y, Z, Y + 1),
    "gaussian_mixture_quantile": call(
        lambda means, stddevs: uncertainty.gaussian_mixture_quantile(means, stddevs, np.array([0.1, 0.7])),
        LOGITS,
        SAMPLES,
    ),
    "interval_score": call(lambda *args: uncertainty.interval_score(*args, 0.8), Y - 1, Y, Z),
    "isotonic_regression": call(uncertainty.isotonic_regression, Y, Z),
    "knn_distance": call(lambda x, bank: uncertainty.knn_distance(x, bank, 2), X + 1, X),
    "max_entropy": call(uncertainty.max_entropy, SAMPLES),
    "max_logit": call(uncertainty.max_logit, LOGITS[0]),
    "max_probability": call(uncertainty.max_probability, LOGITS[0]),
    "mean_with_error": call(uncertainty.mean_with_error, Y),
    "merge": call(merged_tallies, PROBS, LABELS),
    "mutual_information": call(uncertainty.mutual_information, SAMPLES),
    "nll": call(uncertainty.nll, PROBS, LABELS),
    "pit": call(lambda z, y, key: uncertainty.pit(z, y, key=key), LOGITS, LOGITS[1], KEY),
    "pit_gaussian": call(uncertainty.pit_gaussian, Y, Z, Y + 1),
    "pit_gaussian_mixture": call(uncertainty.pit_gaussian_mixture, LOGITS, SAMPLES, LOGITS[1]),
    "pinball": call(uncertainty.pinball, Y, Z, jnp.float32(0.7)),
    "pinball of levels": call(
        lambda y, level: uncertainty.pinball(LOGITS[:2, 0, 0], y, level), jnp.ones(()), jnp.array([0.2, 0.7])
    ),
    "quantile_reliability": call(
        lambda z, y, level: uncertainty.quantile_reliability(z, y, level),
        LOGITS,
        LOGITS[1],
        jnp.linspace(0.1, 0.9, 5),
    ),
    "reliability": call(uncertainty.reliability, PROBS, LABELS),
    "report": Call(reported, (LOGITS[..., 0], Y + 1), traced=False),
    "risk_coverage": call(uncertainty.risk_coverage, Y, Z),
    "risk_threshold": call(
        lambda losses: uncertainty.risk_threshold(losses, jnp.arange(3.0), risk=0.4, delta=0.3), PROBS
    ),
    "set_coverage": call(
        lambda sets, labels, groups: uncertainty.set_coverage(sets, labels, groups=groups, num_groups=2),
        PROBS > 0.3,
        LABELS,
        LABELS % 2,
    ),
    "sharpness": call(uncertainty.sharpness, PROBS),
    "tally_auroc": call(lambda *args: uncertainty.finish(uncertainty.tally_auroc(*args, bits=10)), Y, Y > 0),
    "tally_classwise_ece": call(
        lambda *args: uncertainty.finish(uncertainty.tally_classwise_ece(*args, bins=3)), PROBS, LABELS
    ),
    "tally_ece": call(lambda *args: uncertainty.finish(uncertainty.tally_ece(*args)), PROBS, LABELS),
    "tally_mean": call(uncertainty.tally_mean, Y),
    "tally_rms": call(lambda y: uncertainty.finish(uncertainty.tally_rms(y)), Y),
    "top": call(lambda y: uncertainty.top(y, 2), Y),
    "total_entropy": call(uncertainty.total_entropy, SAMPLES),
    "variation_ratio": call(uncertainty.variation_ratio, SAMPLES),
    "variogram_score": call(lambda z, y: uncertainty.variogram_score(z, y), LOGITS, LOGITS[1]),
    "weighted_interval_score": call(
        lambda median, z, y: uncertainty.weighted_interval_score(
            median, z - 1, z + 1, y, jnp.linspace(0.1, 0.9, 5)
        ),
        PROBS,
        LOGITS,
        LOGITS[1],
    ),
}
ESTIMATES = {
    f"{module}.{name}": one
    for module, calls in {"mc": MC, "uncertainty": UNCERTAINTY}.items()
    for name, one in calls.items()
}
