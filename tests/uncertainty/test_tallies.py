"""Tallies of batches, devices and hosts against the functions of all examples."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxdrop import uncertainty
from jaxdrop._types import PyTree
from jaxdrop.uncertainty import _bins
from tests.devices import make_mesh

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.normal(size=(600, 4))
PROBS = np.asarray(jax.nn.softmax(1.5 * LOGITS), np.float32)
LABELS = (LOGITS + RNG.gumbel(size=(600, 4))).argmax(-1)
WRONG = PROBS.argmax(-1) != LABELS
DOUBT = np.asarray(uncertainty.entropy(PROBS))
OFF = RNG.normal(size=600) + 0.2
WHERE = RNG.uniform(size=600) < 0.8
ARRAYS = PROBS, LABELS, OFF.astype(np.float32), DOUBT, WRONG, WHERE


@jax.jit
def tallied(
    probs: jax.Array, labels: jax.Array, off: jax.Array, doubt: jax.Array, wrong: jax.Array, where: jax.Array
) -> PyTree:
    return {
        "nll": uncertainty.tally_mean(uncertainty.nll(probs, labels, where=where), where=where),
        "accuracy": uncertainty.tally_mean(~wrong, where=where),
        "rmse": uncertainty.tally_rms(off, where=where),
        "ece": uncertainty.tally_ece(probs, labels, where=where),
        "classwise": uncertainty.tally_classwise_ece(probs, labels, bins=5, where=where),
        "auroc": uncertainty.tally_auroc(doubt, wrong, where=where),
    }


def hidden() -> tuple[np.ndarray, ...]:
    """The arrays with nonsense where they are masked."""
    probs, labels, off, doubt, wrong, where = ARRAYS
    nan = np.float32(np.nan)
    off, doubt = np.where(where, off, nan), np.where(where, doubt, nan)
    return np.where(where[:, None], probs, nan), np.where(where, labels, 255), off, doubt, wrong, where


@pytest.fixture(scope="module")
def parts() -> list[PyTree]:
    """Tallies of three uneven batches, two of one size."""
    split = (np.split(array, [90, 180]) for array in hidden())
    return [tallied(*part) for part in zip(*split, strict=True)]


def close(found: PyTree, expected: PyTree, rtol: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7), found, expected)


@pytest.mark.slow
def test_uneven_batches_are_the_whole(parts: list[PyTree]):
    found = uncertainty.finish(uncertainty.merge(*parts))
    probs, labels, off, doubt, wrong, _ = (array[WHERE] for array in ARRAYS)
    close(found["nll"], uncertainty.mean_with_error(uncertainty.nll(probs, labels)))
    close(found["accuracy"], uncertainty.mean_with_error(~wrong))
    close(found["ece"], uncertainty.ece_with_error(probs, labels), 1e-4)
    close(found["classwise"].value, uncertainty.classwise_ece(probs, labels, bins=5))
    square = off.astype(np.float64) ** 2
    root = np.sqrt(square.mean())
    close(found["rmse"], uncertainty.Score(root, square.std(ddof=1) / np.sqrt(len(off)) / (2 * root)))
    exact = uncertainty.auroc_with_error(doubt[~wrong], doubt[wrong])
    auroc = found["auroc"]
    assert abs(auroc.value - exact.value) <= auroc.bound + 1e-6
    assert 0 < auroc.bound < 3e-3
    np.testing.assert_allclose(auroc.standard_error, exact.standard_error, rtol=0.01)


@pytest.mark.slow
def test_the_order_makes_no_difference_and_states_can_be_saved(parts: list[PyTree]):
    a, b, c = parts
    text = json.dumps([np.asarray(leaf).tolist() for leaf in jax.tree.leaves(a)])
    again = jax.tree.unflatten(jax.tree.structure(a), [np.float32(leaf) for leaf in json.loads(text)])
    one = uncertainty.finish(uncertainty.merge(uncertainty.merge(b, c), again))
    close(one, uncertainty.finish(uncertainty.merge(a, b, c)), 1e-6)


@pytest.mark.slow
def test_two_hosts(parts: list[PyTree]):
    """Each has half of the examples: a sum over the mesh is the tally of all."""
    mesh = make_mesh((2,), ("hosts",), (jax.sharding.AxisType.Auto,))

    def on_each(probs: jax.Array, labels: jax.Array, off: jax.Array, where: jax.Array) -> PyTree:
        rmse, ece = uncertainty.tally_rms(off, where=where), uncertainty.tally_ece(probs, labels, where=where)
        return jax.lax.psum({"rmse": rmse, "ece": ece}, "hosts")

    probs, labels, off, _, _, where = hidden()
    both = jax.shard_map(on_each, mesh=mesh, in_specs=P("hosts"), out_specs=P())(probs, labels, off, where)
    found, expected = uncertainty.finish(both), uncertainty.finish(uncertainty.merge(*parts))
    close(found, {name: expected[name] for name in found}, 1e-4)


def test_many_batches_of_values_far_from_zero():
    """In float32 a sum of squares would have no digit of the variance."""
    values = (1e4 + RNG.normal(size=(2000, 50))).astype(np.float32)

    def add(sums: PyTree, batch: jax.Array) -> tuple[PyTree, None]:
        return uncertainty.merge(sums, uncertainty.tally_mean(batch)), None

    first = uncertainty.tally_mean(values[0])
    sums, _ = jax.lax.scan(add, first, jnp.asarray(values[1:]))
    found, wide = uncertainty.finish(sums), values.astype(np.float64)
    np.testing.assert_allclose(found.value, wide.mean(), rtol=1e-7)
    np.testing.assert_allclose(found.standard_error, wide.std(ddof=1) / np.sqrt(wide.size), rtol=1e-4)


@pytest.mark.slow
def test_two_classes_have_the_error_of_the_classes():
    """Their gaps are equal; the score is that of the binary probabilities."""
    p = RNG.uniform(size=600).astype(np.float32)
    labels = (RNG.uniform(size=600) < p**2).astype(int)
    found = uncertainty.finish(uncertainty.tally_classwise_ece(np.stack([1 - p, p], -1), labels, bins=4))
    np.testing.assert_allclose(found.value, uncertainty.binary_ece(p, labels, bins=4), rtol=1e-4)
    sums = _bins.gaps(p, p, labels.astype(np.float32), np.ones(600, bool), 4, "equal_width")
    np.testing.assert_allclose(found.standard_error, _bins.error_of(sums), rtol=1e-4)


def test_without_examples_or_with_a_traced_nan_scores_are_nan():
    none = tallied(*(array[:90] for array in ARRAYS[:-1]), np.zeros(90, bool))
    assert all(np.isnan(leaf) for leaf in jax.tree.leaves(uncertainty.finish(none)))
    found = jax.jit(lambda x: uncertainty.finish(uncertainty.tally_auroc(x, x > 0)))(np.array([1.0, np.nan]))
    assert np.isnan(found.value)
    assert np.isnan(uncertainty.finish(uncertainty.tally_mean(np.ones(1))).standard_error)
    infinite = uncertainty.finish(uncertainty.tally_mean(np.array([1.0, np.inf])))
    assert infinite.value == np.inf


def test_wrong_arguments():
    mean, auroc = uncertainty.tally_mean(OFF), uncertainty.tally_auroc(OFF, WRONG, bits=10)
    with pytest.raises(ValueError, match="must be of one kind and number of bins, got mean of shapes"):
        uncertainty.merge(mean, auroc)
    with pytest.raises(ValueError, match="must be of one kind and number of bins, got auroc of shapes"):
        uncertainty.merge(auroc, uncertainty.tally_auroc(OFF, WRONG, bits=11))
    with pytest.raises(ValueError, match="`others` must have the tree structure of `first`"):
        uncertainty.merge(mean, {"nll": mean})
    with pytest.raises(TypeError, match=re.escape("must be a tree of `Tally`, got a leaf float")):
        uncertainty.finish({"nll": 0.5})
    with pytest.raises(ValueError, match="`bits` must be between 10 and 24, got 25"):
        uncertainty.tally_auroc(DOUBT, WRONG, bits=25)
    with pytest.raises(TypeError, match="`outside` must be a boolean array"):
        uncertainty.tally_auroc(DOUBT, LABELS)
    with pytest.raises(ValueError, match="`values` must not hold a NaN"):
        uncertainty.tally_mean(np.array([np.nan]))
