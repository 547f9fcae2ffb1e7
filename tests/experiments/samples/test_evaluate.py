"""Repeats with keys of their own, and means over them."""

import jax
import numpy as np
import pytest

from experiments.samples import evaluate, measures, methods, tasks


def test_few_samples_are_repeated_more_often():
    assert [evaluate.repeats(count) for count in (0, 1, 100, 128, 1000, 5000)] == [1, 16, 16, 15, 2, 1]


def test_keys_differ_by_name_and_repeat():
    pairs = [(name, index) for name in ("reference", "independent, T=3") for index in range(3)]
    data = {tuple(jax.random.key_data(evaluate.key_of(0, *pair)).tolist()) for pair in pairs}
    assert len(data) == 6
    assert (
        jax.random.key_data(evaluate.key_of(3, "a", 1)) == jax.random.key_data(evaluate.key_of(3, "a", 1))
    ).all()


def test_squared_errors_are_means_over_repeats():
    rng = np.random.default_rng(0)
    half = {
        "mean": rng.normal(size=(4, 2)),
        "variance": np.ones((4, 2)),
        "covariance": np.tile(np.eye(2), (4, 1, 1)),
        "log_density": np.zeros(2),
        **dict.fromkeys(measures.ENTROPIES, np.arange(4.0)),
        "probabilities": np.full((4, 2), 0.5),
    }
    offsets = iter(range(16))
    method = methods.Method("independent", 100, lambda key: half | {"mean": half["mean"] + next(offsets)})
    plan = evaluate.Plan(0)
    task = tasks.Task("MLP", None, 5, 10, (), np.zeros((4, 1)), np.zeros(2, np.int32))
    found = evaluate._measured(plan, task, method, [half, half])
    np.testing.assert_allclose(found["mean"], np.mean(np.arange(16) ** 2))
    assert not found["ranking"].any()
    np.testing.assert_array_equal(found[evaluate.AUROC], np.ones(16))
    assert found["covariance"].shape == (4,)
    assert found["inside"] == pytest.approx(np.zeros(2))

    def refuse(key):
        raise ValueError("`samples` must vary")

    assert evaluate._measured(plan, task, method._replace(estimate=refuse), [half, half]) == {}
