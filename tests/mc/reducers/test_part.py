"""Reducers of the parts of a tree: those of the parts alone, by any division of the samples."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from tests.devices import make_mesh
from tests.mc import nets
from tests.mc.reducers.states import streamed

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
TOKENS, CLASSES = 3, 2
X = nets.inputs()
REDUCERS = {
    "classes": mc.Part("logits", mc.Categorical(log_mean=True)),
    "density": mc.Part("logits", mc.CategoricalLogDensity(ignore=-100)),
    "flags": mc.Part("flags", mc.Bernoulli(log_mean=True)),
    "truth": mc.Part("flags", mc.BernoulliLogDensity()),
    "value": mc.Part("value", mc.GaussianLogDensity(2.0)),
    "whole": mc.Moments(),
}
TARGETS = {
    "logits": np.where(np.arange(8 * TOKENS).reshape(8, TOKENS) % 5 == 0, -100, 1),
    "flags": np.arange(16).reshape(8, 2) % 3 == 0,
    "value": np.zeros(8, np.float32),
}
T = 60


def head(params: tuple, key: jax.Array, x: jax.Array) -> dict:
    """Logits of tokens `[B, 3, 2]`, two independent labels, and a number."""
    h = jaxdrop.dropout(key, jax.nn.relu(x @ params[0]), 0.5)
    return {
        "logits": (h[:, :6]).reshape(len(x), TOKENS, CLASSES),
        "flags": h[:, 6:8] - 0.5,
        "value": h[:, 8],
    }


PREDICT = nets.bound(head)


def run(**options) -> mc.Estimate:
    return mc.estimate(
        PREDICT, KEY, X, **({"num_samples": T, "reducers": REDUCERS, "targets": TARGETS} | options)
    )


def close(a, b) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-5), a, b)


@pytest.fixture(scope="module")
def whole() -> mc.Estimate:
    return run()


@pytest.mark.slow
def test_each_part_has_the_estimates_of_its_reducer_alone(whole: mc.Estimate):
    samples = mc.sample(PREDICT, KEY, X, num_samples=T)
    parts = {name: one for name, one in REDUCERS.items() if isinstance(one, mc.Part)}

    @jax.jit
    def alone(samples):
        return {
            name: streamed(one.reducer, samples[one.part], [T], TARGETS[one.part])
            for name, one in parts.items()
        }

    for name, (value, error) in alone(samples).items():
        close((whole.value[name], whole.standard_error[name]), (value, error))
    close(whole.value["whole"]["mean"]["logits"], samples["logits"].mean(0))


@pytest.mark.slow
def test_chunks_and_devices_make_no_difference(whole: mc.Estimate):
    close(run(chunk_size=7), whole)
    close(run(mesh=make_mesh((4, 2), ("samples", "batch"))), whole)


@pytest.mark.slow
def test_states_continue_and_merge(whole: mc.Estimate):
    options = {"reducers": REDUCERS, "targets": TARGETS}
    state = mc.accumulate(PREDICT, KEY, X, num_samples=22, **options)
    state = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, state))  # saved and read
    other = mc.accumulate(PREDICT, KEY, X, num_samples=T - 40, first=40, **options)
    state = mc.accumulate(PREDICT, KEY, X, num_samples=40, state=state, **options)
    close(mc.finish(REDUCERS, mc.merge(REDUCERS, state, other)), whole)


@pytest.mark.slow
def test_a_data_set_has_targets_for_each_part():
    options = {"num_samples": T, "reducers": REDUCERS, "targets": TARGETS, "batch_size": 8}
    found = mc.estimate_dataset(PREDICT, KEY, np.asarray(X), **options)
    assert found.value["density"]["log_density"].shape == (8, TOKENS)
    unknown = TARGETS["logits"] == -100
    np.testing.assert_array_equal(found.value["density"]["log_density"][unknown], 0)
    np.testing.assert_array_equal(found.standard_error["density"]["log_density"][unknown], 0)


class Outputs(NamedTuple):
    logits: jax.Array
    rest: list


@pytest.mark.slow
def test_parts_of_tuples_and_fields():
    """By the index of a tuple or list, the name of a field, and within another part."""
    logits, value = jnp.zeros((4, 2, 3)), jnp.arange(8.0).reshape(4, 2)
    labels, index = jnp.array([0, 2]), jnp.arange(4)
    nested = Outputs(logits, [value])
    for part, outputs, expected in (
        (mc.Part(1, mc.Quantiles(capacity=4)), (logits, value), value),
        (mc.Part("logits", mc.Quantiles(capacity=4)), nested, logits),
        (mc.Part("rest", mc.Part(0, mc.Quantiles(capacity=4))), nested, value),
    ):
        part.check(outputs, None)
        np.testing.assert_array_equal(part.summarize(outputs, index, None)["kept"], expected)
    density = mc.Part("logits", mc.CategoricalLogDensity())
    density.check(jax.eval_shape(lambda: Outputs(logits[0], [value[0]])), Outputs(labels, [None]))
    found, _ = density.finish(density.summarize(nested, index, Outputs(labels, [None])))
    np.testing.assert_allclose(found["log_density"], -np.log([3.0, 3.0]), rtol=1e-6)


def test_the_precision_of_a_part_may_be_traced():
    def density(tau):
        reducer = mc.Part("value", mc.GaussianLogDensity(tau))
        return run(reducers=reducer, targets={"value": TARGETS["value"]}, num_samples=4).value["log_density"]

    np.testing.assert_allclose(jax.jit(density)(2.0), density(2.0), rtol=1e-5)


CATEGORICAL, DENSITY = mc.Categorical(), mc.CategoricalLogDensity()
LABELS = TARGETS["logits"]
WRONG = [
    (
        mc.Part("logit", CATEGORICAL),
        None,
        ValueError,
        "`part` must be one of 'flags', 'logits', 'value', got 'logit'",
    ),
    (mc.Part(0, CATEGORICAL), None, ValueError, "`part` must be one of 'flags', 'logits', 'value', got 0"),
    (
        mc.Part("logits", mc.Part("x", CATEGORICAL)),
        None,
        ValueError,
        r"`predict` must return a tree with a part 'x', got shape \(8, 3, 2\)\.\nThis is the part 'logits'",
    ),
    (
        mc.Part("logits", DENSITY),
        LABELS,
        ValueError,
        r"`targets` must be a tree .* 'value', got shape \(8, 3\)\.",
    ),
    (
        mc.Part("logits", DENSITY),
        {"logit": LABELS},
        ValueError,
        "`targets` must be a tree with parts of the outputs, 'flags', 'logits', 'value', got 'logit'.",
    ),
    (
        mc.Part("logits", DENSITY),
        {"value": LABELS},
        ValueError,
        r"`targets` must be an array of the labels of the examples, got none\.\nThis is the part 'logits' of",
    ),
    (
        mc.Part("logits", DENSITY),
        {"logits": LABELS},
        ValueError,
        r"`targets` must lie in \[0, 1\], got -100.",
    ),
    (mc.Part("value", CATEGORICAL), None, ValueError, r"at least 2 classes .*\nThis is the part 'value'"),
    (
        mc.Part("logits", mc.Categorical(False)),
        None,
        ValueError,
        "must return probabilities.*\nThis is the part",
    ),
    (CATEGORICAL, None, ValueError, r"`Part` selects a part of a tree\), got a dict"),
    (
        mc.Part("logits", mc.Moments),
        None,
        TypeError,
        r"`reducer` must be a reducer, such as `Moments\(\)`, got",
    ),
    (mc.Part("logits", [CATEGORICAL]), None, TypeError, "`reducer` must be a reducer"),
]


@pytest.mark.parametrize(("reducer", "targets", "error", "message"), WRONG)
def test_errors_name_the_part(reducer, targets, error, message):
    with pytest.raises(error, match=message):
        run(reducers=reducer, targets=targets, num_samples=2)
