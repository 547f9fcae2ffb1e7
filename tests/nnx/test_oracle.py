"""Predictors against the training mode of models in the style of other people's code."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop.nnx as jn
from jaxdrop import mc
from tests.nnx.patterns import CASES, Case, X

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(5)
SAMPLES = 200
_normalize = nnx.BatchNorm.__call__


def training(model: nnx.Module, case: Case, key: jax.Array, x):
    """One sample of training mode, its statistics at rest, its streams begun anew from the key."""
    model = nnx.clone(model)
    if getattr(getattr(model, "dropout", None), "deterministic", None) is not False:
        model.train()
    for path in case.lacking:
        getattr(model, path).rngs = nnx.data(nnx.RngStream(0, tag="dropout"))
    found = [node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.RngStream)]
    total = len(found) + case.sources
    keys = [key] if total == 1 else jax.random.split(key, total)
    for stream, own in zip(found, keys, strict=False):
        shape = stream.key[...].shape
        stream.key[...] = jax.random.split(own, shape) if shape else own
        stream.count[...] = jnp.zeros_like(stream.count[...])
    at_rest = mock.patch.object(
        nnx.BatchNorm, "__call__", lambda self, x, **_: _normalize(self, x, use_running_average=True)
    )
    with at_rest:
        return case.train(model, x, *keys[len(found) :])


def variance(values: np.ndarray) -> tuple[float, float]:
    """The variance and its standard error."""
    powers = (values - values.mean()) ** 2
    return powers.mean(), powers.std() / len(values) ** 0.5


@pytest.mark.parametrize("name", CASES)
def test_a_sample_is_that_of_training(name: str):
    case = CASES[name]
    model, x = case.make(nnx.Rngs(3)), X if case.x is None else case.x
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngKey))))
    predict = jn.stochastic(model, x, **case.options)
    assert sorted(site.path for site in predict.sites) == sorted(case.sites)
    draw = jax.jit(jax.vmap(lambda key: training(model, case, key, x)))
    samples = np.asarray(mc.sample(predict, KEY, x, num_samples=SAMPLES))
    keys = jax.vmap(lambda t: jax.random.fold_in(KEY, t))(jnp.arange(SAMPLES))
    np.testing.assert_allclose(samples, draw(keys), rtol=1e-4, atol=1e-5)
    weights = np.asarray(jax.random.normal(jax.random.key(7), samples.shape[1:]))
    others = np.asarray(draw(jax.random.split(jax.random.key(6), SAMPLES)))
    ours, theirs = (variance((values * weights).reshape(SAMPLES, -1).sum(1)) for values in (samples, others))
    assert abs(ours[0] - theirs[0]) < 5 * np.hypot(ours[1], theirs[1])
    assert ours[0] > 1e-6
    after = nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngKey)))
    jax.tree.map(np.testing.assert_array_equal, after, before)
