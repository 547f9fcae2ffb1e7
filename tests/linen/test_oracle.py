"""Predictors of models in the ways of other people's code, against the models' own training mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop.linen as jl
from jaxdrop import mc
from tests.linen.patterns import KEY, PATTERNS, Pattern

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def variables_of(pattern: Pattern):
    """Variables that differ from their initial values."""
    keys = dict.fromkeys(("params", *pattern.streams), KEY)
    args, named = ((), pattern.x) if "unpack" in pattern.options else ((pattern.x,), {})
    method = pattern.options.get("method")
    variables = pattern.model.init(keys, *args, **named, **pattern.train, method=method)
    variables.pop("intermediates", None)
    return jax.tree.map(
        lambda leaf: leaf + 0.25 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, variables
    )


def in_training(pattern: Pattern, variables, key):
    """One pass in training mode, with statistics at rest."""
    args, named = ((), pattern.x) if "unpack" in pattern.options else ((pattern.x,), {})
    model = pattern.oracle or pattern.model
    rngs = dict.fromkeys(pattern.streams, key)
    mutable = [name for name in variables if name != "params"] + ["intermediates"]
    options = {"rngs": rngs, "mutable": mutable, "method": pattern.options.get("method")}
    return model.apply(variables, *args, **named, **pattern.train, **options)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
def test_a_predictor_is_training_mode(name: str):
    pattern = PATTERNS[name]
    variables = variables_of(pattern)
    before = jax.tree.map(np.array, variables)
    predict = jl.stochastic(pattern.model, variables, pattern.x, **pattern.train, **pattern.options)
    assert {site.path: site.stream for site in predict.sites} == dict(pattern.sites)
    samples = np.asarray(mc.sample(predict, KEY, pattern.x, num_samples=200), np.float64)
    keys = jax.vmap(lambda t: jax.random.fold_in(KEY, t))(jnp.arange(1000))
    expected = np.asarray(
        jax.jit(jax.vmap(lambda key: in_training(pattern, variables, key)))(keys), np.float64
    )
    np.testing.assert_allclose(samples, expected[:200], rtol=1e-5, atol=1e-5)
    # Independent samples of training mode: the mean squared deviation, within 5 standard errors.
    mine, theirs = (
        ((one - one.mean(0)) ** 2).reshape(len(one), -1).mean(1) for one in (samples, expected[200:])
    )
    error = np.hypot(mine.std() / len(mine) ** 0.5, theirs.std() / len(theirs) ** 0.5)
    assert abs(mine.mean() - theirs.mean()) < 5 * error + 0.01 * theirs.mean()
    assert theirs.mean() > 0
    jax.tree.map(np.testing.assert_array_equal, variables, before)


@pytest.mark.parametrize("name", [name for name, pattern in PATTERNS.items() if pattern.evaluate is not None])
def test_the_arguments_of_evaluation_give_the_same_or_are_refused(name: str):
    pattern = PATTERNS[name]
    variables, options = variables_of(pattern), dict(pattern.options)
    (argument, value), *_ = pattern.train.items()
    if not pattern.easy:
        with pytest.raises(
            ValueError, match=f"must be called with the arguments of training, {argument}={value}"
        ):
            jl.stochastic(pattern.model, variables, pattern.x, **pattern.evaluate, **options)
        return
    predict = jl.stochastic(pattern.model, variables, pattern.x, **pattern.evaluate, **options)
    assert {site.path for site in predict.sites} == set(pattern.sites)
    expected = in_training(pattern, variables, KEY)
    np.testing.assert_allclose(predict(KEY, pattern.x), expected, rtol=1e-5, atol=1e-5)
