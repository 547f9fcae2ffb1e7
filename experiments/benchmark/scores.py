"""Calls of the functions of `jaxdrop.uncertainty` and of their peers, which `scores_suite.py` times.

A row is a call of a function and, where another library has the same, a call of that. Calls are those of
a user: concrete arrays, with all checks. To add a function, add a `Row` to its group in `GROUPS`; a test
names the functions that have none, unless `LEFT_OUT` says why.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrop import uncertainty

SIZES = (1_000, 100_000, 1_000_000)
SAMPLES, CLASSES, WIDTH, QUERIES = 10, 10, 32, 100


class Data:
    """Arrays of `rows` examples; `host` holds those that peers take, as NumPy arrays."""

    def __init__(self, rows: int):
        self.rows, self.key = rows, jax.random.key(0)
        rng = np.random.default_rng(0)
        logits = 2 * rng.standard_normal((rows, CLASSES), np.float32)
        gumbel = rng.gumbel(size=logits.shape)
        self.logits, self.labels = jnp.asarray(logits), jnp.asarray(np.argmax(0.7 * logits + gumbel, -1))
        self.x, self.y = (jnp.asarray(rng.standard_normal(rows, np.float32)) for _ in range(2))
        self.stddev = jnp.exp(self.x / 4)
        self.hits = jnp.asarray(rng.uniform(size=rows) < 0.8, jnp.int32)

    @cached_property
    def probs(self) -> jax.Array:
        """Class probabilities, `[rows, K]`."""
        return jax.nn.softmax(self.logits)

    @cached_property
    def samples(self) -> jax.Array:
        """Samples of class probabilities, `[T, rows, K]`."""
        noise = jax.random.normal(self.key, (SAMPLES, *self.logits.shape))
        return jax.nn.softmax(self.logits + noise)

    @cached_property
    def numbers(self) -> jax.Array:
        """Samples of a regression, `[T, rows]`."""
        return self.x + jax.random.normal(self.key, (SAMPLES, self.rows))

    @cached_property
    def vectors(self) -> jax.Array:
        """Samples of a regression with three outputs, `[T, rows, 3]`."""
        return self.targets + jax.random.normal(self.key, (SAMPLES, *self.targets.shape))

    @cached_property
    def targets(self) -> jax.Array:
        """Targets with three outputs, `[rows, 3]`."""
        return jnp.stack([self.x, self.y, self.stddev], -1)

    @cached_property
    def many_labels(self) -> jax.Array:
        """Labels of which an example has some, `[rows, K]` of 0 and 1."""
        return (self.probs > 0.1).astype(jnp.int32)

    @cached_property
    def features(self) -> jax.Array:
        """Features, `[rows, D]`, whose means differ by class."""
        width = min(WIDTH, self.rows // 40)  # fewer than examples of a class
        centers = 2 * jax.random.normal(self.key, (CLASSES, width))
        return centers[self.labels] + jax.random.normal(jax.random.key(1), (self.rows, width))

    @cached_property
    def host(self) -> dict[str, np.ndarray]:
        """The arrays as NumPy arrays."""
        return {
            name: np.asarray(getattr(self, name))
            for name in ("logits", "labels", "x", "y", "stddev", "hits", "probs", "features")
        }

    @cached_property
    def in_and_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and scores as scikit-learn takes them: half of the examples are in distribution."""
        return np.repeat([0, 1], self.rows // 2), np.concatenate([*map(np.asarray, self.halves)])

    @cached_property
    def halves(self) -> tuple[jax.Array, jax.Array]:
        """Scores of two sets with half of the examples each."""
        half = self.rows // 2
        return self.x[:half], self.x[half : 2 * half] + 1


@dataclass(frozen=True)
class Row:
    """A call of ours and one of a peer.

    Attributes:
      ours: The call.
      peer: The name of the peer, if there is one.
      theirs: Its call; an ImportError leaves it out.
      most: The largest number of examples.
    """

    ours: Callable[[Data], Any]
    peer: str | None = None
    theirs: Callable[[Data], Any] | None = None
    most: int = SIZES[-1]


def sk(name: str) -> ModuleType:
    """A module of scikit-learn."""
    return importlib.import_module(f"sklearn.{name}")


def sp(name: str) -> ModuleType:
    """A module of SciPy."""
    return importlib.import_module(f"scipy.{name}")


SK, SP, NP = "scikit-learn", "SciPy", "NumPy"
_THOUSAND, _MANY = SIZES[0], SIZES[1]
_u = uncertainty


def _isotonic(x: np.ndarray, y: np.ndarray) -> Any:
    return sp("optimize").isotonic_regression(y[np.argsort(x)])


def _isotonic_classes(d: Data) -> list:
    fit = sk("isotonic").IsotonicRegression
    return [fit().fit(d.host["probs"][:, k], d.host["labels"] == k) for k in range(CLASSES)]


def _tied_covariance(d: Data) -> Any:
    x, labels = d.host["features"], d.host["labels"]
    means = np.stack([x[labels == k].mean(0) for k in range(CLASSES)])
    fitted = sk("covariance").EmpiricalCovariance(assume_centered=True).fit(x - means[labels])
    return [fitted.mahalanobis(x - mean) for mean in means]


def _quadratic(d: Data) -> Any:
    fitted = sk("discriminant_analysis").QuadraticDiscriminantAnalysis()
    return fitted.fit(d.host["features"], d.host["labels"]).decision_function(d.host["features"])


def _neighbors(d: Data) -> Any:
    bank = d.host["features"] / np.linalg.norm(d.host["features"], axis=-1, keepdims=True)
    return (
        sk("neighbors")
        .NearestNeighbors(n_neighbors=10, algorithm="brute")
        .fit(bank)
        .kneighbors(bank[:QUERIES])
    )


def _resampled_mean(d: Data) -> Any:
    options = {"n_resamples": 20, "method": "percentile", "vectorized": True, "batch": 1}
    return sp("stats").bootstrap((d.host["x"],), np.mean, rng=0, **options)


GROUPS: dict[str, dict[str, Row]] = {
    "decomposition": {
        "entropy": Row(
            lambda d: _u.entropy(d.probs), SP, lambda d: sp("stats").entropy(d.host["probs"], axis=-1)
        ),
        "total_entropy": Row(lambda d: _u.total_entropy(d.samples), most=_MANY),
        "expected_entropy": Row(lambda d: _u.expected_entropy(d.samples), most=_MANY),
        "mutual_information": Row(lambda d: _u.mutual_information(d.samples), most=_MANY),
        "variation_ratio": Row(lambda d: _u.variation_ratio(d.samples), most=_MANY),
        "decompose_variance": Row(lambda d: _u.decompose_variance(d.numbers, jnp.ones(()))),
    },
    "scores of class probabilities": {
        "nll": Row(
            lambda d: _u.nll(d.probs, d.labels).mean(),
            SK,
            lambda d: sk("metrics").log_loss(d.host["labels"], d.host["probs"], labels=range(CLASSES)),
        ),
        "brier": Row(
            lambda d: _u.brier(d.probs, d.labels).mean(),
            SK,
            lambda d: sk("metrics").brier_score_loss(
                d.host["labels"], d.host["probs"], labels=range(CLASSES), scale_by_half=False
            ),
        ),
        "accuracy": Row(
            lambda d: _u.accuracy(d.probs, d.labels).mean(),
            SK,
            lambda d: sk("metrics").accuracy_score(d.host["labels"], d.host["probs"].argmax(-1)),
        ),
        "reliability": Row(lambda d: _u.reliability(d.probs, d.labels)),
        "ece": Row(lambda d: _u.ece(d.probs, d.labels)),
        "ece, equal mass": Row(lambda d: _u.ece(d.probs, d.labels, mode="equal_mass")),
        "classwise_ece": Row(lambda d: _u.classwise_ece(d.probs, d.labels)),
        "binary_nll": Row(
            lambda d: _u.binary_nll(d.probs[:, 0], d.hits).mean(),
            SK,
            lambda d: sk("metrics").log_loss(d.host["hits"], d.host["probs"][:, 0]),
        ),
        "binary_brier": Row(
            lambda d: _u.binary_brier(d.probs[:, 0], d.hits).mean(),
            SK,
            lambda d: sk("metrics").brier_score_loss(d.host["hits"], d.host["probs"][:, 0]),
        ),
        "binary_reliability": Row(
            lambda d: _u.binary_reliability(d.probs[:, 0], d.hits),
            SK,
            lambda d: sk("calibration").calibration_curve(d.host["hits"], d.host["probs"][:, 0], n_bins=15),
        ),
        "binary_ece": Row(lambda d: _u.binary_ece(d.probs[:, 0], d.hits)),
    },
    "scores of regression": {
        "gaussian_nll": Row(
            lambda d: _u.gaussian_nll(d.x, d.stddev**2, d.y),
            SP,
            lambda d: sp("stats").norm.logpdf(d.host["y"], d.host["x"], d.host["stddev"]),
        ),
        "crps": Row(lambda d: _u.crps(d.numbers, d.y)),
        "crps_gaussian": Row(lambda d: _u.crps_gaussian(d.x, d.stddev, d.y)),
        "pinball": Row(
            lambda d: _u.pinball(d.x, d.y, 0.9).mean(),
            SK,
            lambda d: sk("metrics").mean_pinball_loss(d.host["y"], d.host["x"], alpha=0.9),
        ),
        "interval_score": Row(lambda d: _u.interval_score(d.x - d.stddev, d.x + d.stddev, d.y, 0.7)),
        "weighted_interval_score": Row(
            lambda d: _u.weighted_interval_score(
                d.x, (d.x - d.stddev)[None], (d.x + d.stddev)[None], d.y, np.array([0.7])
            )
        ),
        "energy_score": Row(lambda d: _u.energy_score(d.vectors, d.targets), most=_MANY),
        "variogram_score": Row(lambda d: _u.variogram_score(d.vectors, d.targets), most=_MANY),
        "crps_gaussian_mixture": Row(
            lambda d: _u.crps_gaussian_mixture(d.numbers, jnp.ones_like(d.numbers), d.y), most=_MANY
        ),
        "coverage": Row(lambda d: _u.coverage(d.x - d.stddev, d.x + d.stddev, d.y)),
        "sharpness": Row(lambda d: _u.sharpness(d.stddev)),
    },
    "calibration of regression": {
        "pit": Row(lambda d: _u.pit(d.numbers, d.y)),
        "pit_gaussian": Row(
            lambda d: _u.pit_gaussian(d.x, d.stddev, d.y),
            SP,
            lambda d: sp("stats").norm.cdf(d.host["y"], d.host["x"], d.host["stddev"]),
        ),
        "pit_gaussian_mixture": Row(
            lambda d: _u.pit_gaussian_mixture(d.numbers, jnp.ones_like(d.numbers), d.y), most=_MANY
        ),
        "gaussian_mixture_quantile": Row(
            lambda d: _u.gaussian_mixture_quantile(d.numbers, jnp.ones_like(d.numbers), 0.9), most=_MANY
        ),
        "quantile_reliability": Row(
            lambda d: _u.quantile_reliability(d.numbers, d.y, jnp.arange(0.05, 1, 0.1))
        ),
        "ence": Row(lambda d: _u.ence(d.x, d.stddev, d.y)),
        "fit_stddev_scale": Row(lambda d: _u.fit_stddev_scale(d.x, d.stddev, d.y)),
        "fit_recalibration": Row(lambda d: _u.fit_recalibration(d.probs[:, 0])),
    },
    "calibration": {
        "fit_temperature": Row(lambda d: _u.fit_temperature(d.logits, d.labels)),
        "fit_vector_scaling": Row(lambda d: _u.fit_vector_scaling(d.logits, d.labels, steps=20), most=_MANY),
        "fit_isotonic": Row(lambda d: _u.fit_isotonic(d.probs, d.labels), SK, _isotonic_classes),
        "isotonic_regression": Row(
            lambda d: _u.isotonic_regression(d.x, d.y), SP, lambda d: _isotonic(d.host["x"], d.host["y"])
        ),
        "isotonic_regression, rising": Row(
            lambda d: _u.isotonic_regression(d.x, d.x), SP, lambda d: _isotonic(d.host["x"], d.host["x"])
        ),
        "isotonic_regression, labels": Row(
            lambda d: _u.isotonic_regression(d.x, d.hits),
            SP,
            lambda d: _isotonic(d.host["x"], d.host["hits"]),
        ),
    },
    "conformal prediction": {
        "conformal_quantile": Row(
            lambda d: _u.conformal_quantile(d.x, 0.9),
            NP,
            lambda d: np.quantile(d.host["x"], 0.9, method="higher"),
        ),
        "fit_lac": Row(lambda d: _u.fit_lac(d.probs, d.labels, level=0.9)),
        "fit_aps": Row(lambda d: _u.fit_aps(d.probs, d.labels, level=0.9)),
        "fit_raps": Row(lambda d: _u.fit_raps(d.probs, d.labels, level=0.9)),
        "fit_cqr": Row(lambda d: _u.fit_cqr(d.x - d.stddev, d.x + d.stddev, d.y, level=0.9)),
        "fit_residual": Row(lambda d: _u.fit_residual(d.x, d.y, level=0.9, stddev=d.stddev)),
        "fit_box": Row(
            lambda d: _u.fit_box(d.logits, d.probs, jnp.ones_like(d.logits), level=0.9), most=_MANY
        ),
        "fit_group_quantile": Row(
            lambda d: _u.fit_group_quantile(d.x, d.labels, level=0.9, num_groups=CLASSES)
        ),
        "fit_weighted_quantile": Row(lambda d: _u.fit_weighted_quantile(d.x, d.stddev, level=0.9)),
        "fit_fnr": Row(lambda d: _u.fit_fnr(d.probs, d.many_labels, risk=0.2)),
        "risk_threshold": Row(
            lambda d: _u.risk_threshold(jnp.sort(d.probs, -1)[:, ::-1], jnp.arange(10.0), risk=0.2)
        ),
        "set_coverage": Row(lambda d: _u.set_coverage(d.probs > 0.05, d.labels)),
    },
    "selective prediction and detection": {
        "risk_coverage": Row(lambda d: _u.risk_coverage(d.x, d.hits)),
        "aurc": Row(lambda d: _u.aurc(d.x, d.hits)),
        "auroc": Row(lambda d: _u.auroc(*d.halves), SK, lambda d: sk("metrics").roc_auc_score(*d.in_and_out)),
        "aupr": Row(
            lambda d: _u.aupr(*d.halves), SK, lambda d: sk("metrics").average_precision_score(*d.in_and_out)
        ),
        "fpr95": Row(lambda d: _u.fpr95(*d.halves), SK, lambda d: sk("metrics").roc_curve(*d.in_and_out)),
    },
    "standard errors": {
        "mean_with_error": Row(lambda d: _u.mean_with_error(d.x), SP, lambda d: sp("stats").sem(d.host["x"])),
        "auroc_with_error": Row(lambda d: _u.auroc_with_error(*d.halves)),
        "auroc_difference": Row(lambda d: _u.auroc_difference(d.halves, d.halves)),
        "aupr_with_error": Row(lambda d: _u.aupr_with_error(*d.halves)),
        "fpr95_with_error": Row(lambda d: _u.fpr95_with_error(*d.halves)),
        "aurc_with_error": Row(lambda d: _u.aurc_with_error(d.x, d.hits)),
        "ece_with_error": Row(lambda d: _u.ece_with_error(d.probs, d.labels)),
        "bootstrap": Row(
            lambda d: _u.bootstrap(d.key, jnp.mean, d.x, paired=True, num_resamples=20), SP, _resampled_mean
        ),
    },
    "scores that merge, and the report": {
        "tally_mean": Row(lambda d: _u.finish(_u.tally_mean(d.x))),
        "tally_rms": Row(lambda d: _u.finish(_u.tally_rms(d.x))),
        "tally_ece": Row(lambda d: _u.finish(_u.tally_ece(d.probs, d.labels))),
        "tally_classwise_ece": Row(lambda d: _u.finish(_u.tally_classwise_ece(d.probs, d.labels))),
        "tally_auroc": Row(lambda d: _u.finish(_u.tally_auroc(d.x, d.hits > 0))),
        "report": Row(lambda d: _u.report(d.probs, d.labels)),
    },
    "out-of-distribution scores": {
        "max_probability": Row(
            lambda d: _u.max_probability(d.logits),
            SP,
            lambda d: 1 - sp("special").softmax(d.host["logits"], -1).max(-1),
        ),
        "max_logit": Row(lambda d: _u.max_logit(d.logits), NP, lambda d: -d.host["logits"].max(-1)),
        "energy": Row(
            lambda d: _u.energy(d.logits), SP, lambda d: -sp("special").logsumexp(d.host["logits"], -1)
        ),
        "fit_mahalanobis": Row(
            lambda d: _u.fit_mahalanobis(d.features, d.labels, CLASSES)(d.features), SK, _tied_covariance
        ),
        "fit_relative_mahalanobis": Row(
            lambda d: _u.fit_relative_mahalanobis(d.features, d.labels, CLASSES)(d.features)
        ),
        "fit_ddu": Row(
            lambda d: _u.fit_ddu(d.features, d.labels, CLASSES, shrinkage=1e-3)(d.features), SK, _quadratic
        ),
        "knn_distance": Row(
            lambda d: _u.knn_distance(d.features[:QUERIES], d.features, 10), SK, _neighbors, most=_MANY
        ),
    },
    "acquisition": {
        "top": Row(lambda d: _u.top(d.x, 10), NP, lambda d: np.argpartition(-d.host["x"], 10)[:10]),
        "batch_bald": Row(lambda d: _u.batch_bald(d.key, d.samples, 3), most=_THOUSAND),
    },
}
LEFT_OUT = {
    "bald": "is `mutual_information`",
    "finish": "is timed with each `tally`",
    "merge": "does not depend on the number of rows",
    "max_entropy": "is `total_entropy`",
}
