"""Balanced sets of samples: what they gain, their standard errors, and that sample t is of the key and t."""

import re

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop import mc
from jaxdrop.mc import _sets
from tests.devices import make_mesh
from tests.mc import nets

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X = nets.inputs()
MOMENTS = mc.Moments(groups=8)


def two_layers(params: tuple, key: jax.Array, x: jax.Array) -> jax.Array:
    hidden, last = params
    one, other = jax.random.split(key)
    h = jax.nn.relu(jaxdrop.dropout(one, x, 0.1) @ hidden)
    return jaxdrop.dropout(other, h, 0.3) @ last


PREDICT = nets.bound(two_layers)


def close(found, expected) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected)


@pytest.mark.slow
def test_a_sample_is_of_its_key_and_number_alone():
    samples = mc.sample(PREDICT, KEY, X, num_samples=24, balanced=8)
    close(mc.sample(PREDICT, KEY, X, num_samples=24, balanced=8, chunk_size=5), samples)
    mesh = make_mesh((2, 4), ("samples", "batch"))
    close(mc.sample(PREDICT, KEY, X, num_samples=24, balanced=8, mesh=mesh), samples)
    close(mc.sample(PREDICT, jax.random.PRNGKey(0), X, num_samples=8, balanced=8), samples[:8])
    sixteen = mc.sample(PREDICT, KEY, X, num_samples=16, balanced=np.int64(16))
    close(mc.sample(PREDICT, KEY, X, num_samples=16, balanced=16), sixteen)
    # The first of a set is an independent sample.
    close(mc.sample(PREDICT, KEY, X, num_samples=3), samples[::8])


@pytest.mark.slow
def test_estimates_do_not_depend_on_chunks_devices_or_restarts():
    options = {"reducers": MOMENTS, "balanced": 8}
    whole = mc.estimate(PREDICT, KEY, X, num_samples=48, **options)
    assert int(whole.num_samples) == 6
    samples = np.asarray(mc.sample(PREDICT, KEY, X, num_samples=48, balanced=8))
    means = samples.reshape(6, 8, *samples.shape[1:]).mean(1)
    close(whole.value["mean"], samples.mean(0))
    close(whole.standard_error["mean"], means.std(0, ddof=1) / 6**0.5)
    first = mc.accumulate(PREDICT, KEY, X, num_samples=16, chunk_size=4, **options)
    second = mc.accumulate(PREDICT, KEY, X, num_samples=32, first=16, chunk_size=4, **options)
    close(mc.finish(MOMENTS, mc.merge(MOMENTS, first, second)), whole)
    resumed = mc.accumulate(PREDICT, KEY, X, num_samples=48, state=first, chunk_size=4, **options)
    close(mc.finish(MOMENTS, resumed), whole)


@pytest.mark.slow
def test_a_part_of_the_outputs_has_errors_between_sets():
    tree = jax.tree_util.Partial(lambda predict, key, x: {"a": predict(key, x)}, PREDICT)
    options = {"num_samples": 16, "balanced": 8}
    found = mc.estimate(tree, KEY, X, reducers=mc.Part("a", MOMENTS), **options)
    close(found, mc.estimate(PREDICT, KEY, X, reducers=MOMENTS, **options))


@pytest.mark.slow
def test_states_of_other_designs_are_refused():
    options = {"num_samples": 16, "reducers": MOMENTS}
    sets = mc.accumulate(PREDICT, KEY, X, balanced=8, **options)
    for balanced in (None, 16):
        other = mc.accumulate(PREDICT, KEY, X, balanced=balanced, **options)
        with pytest.raises(ValueError, match=r"`b` must be a state of the reducers .* of `a`, .*'sets of 8'"):
            mc.merge(MOMENTS, sets, other)
        with pytest.raises(ValueError, match=r"`state` must be a state of these .*'sets of 8'"):
            mc.accumulate(PREDICT, KEY, X, state=sets, balanced=balanced, **options)


def flax_models() -> dict:
    class Linen(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            x = flax.linen.Dropout(0.5, deterministic=not train)(x)
            return jaxdrop.linen.GaussianDropout(0.5, deterministic=not train)(x)

    rngs = flax.nnx.Rngs(0)
    nnx = flax.nnx.Sequential(flax.nnx.Dropout(0.5, rngs=rngs), jaxdrop.nnx.GaussianDropout(0.5, rngs=rngs))
    return {
        "linen": jaxdrop.linen.stochastic(Linen(), {}, X, train=False),
        "nnx": jaxdrop.nnx.stochastic(nnx, X),
        "augmentation": lambda key, x: x + jax.random.normal(key, x.shape),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linen", "nnx", "augmentation"])
def test_draws_of_flax_and_users_are_balanced(name: str):
    """The mean of a set is near the mean; each sample is not."""
    predict = flax_models()[name]
    found = mc.sample(predict, KEY, jnp.ones_like(X), num_samples=64, balanced=32)
    independent = mc.sample(predict, KEY, jnp.ones_like(X), num_samples=64)
    off, plain = (np.asarray(y).reshape(2, 32, -1).mean(1) - np.mean(y) for y in (found, independent))
    assert (off**2).mean() < (plain**2).mean() / 2
    assert 0.5 < found.var() / independent.var() < 2


@pytest.mark.slow
def test_shared_draws_and_keys_of_other_kinds():
    options = {"num_samples": 8, "balanced": 8}
    shared = mc.sample(
        lambda key, x: jaxdrop.dropout(key, x, 0.5), KEY, jnp.ones_like(X), shared=True, **options
    )
    np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :1], shared.shape))
    np.testing.assert_array_equal((shared > 0).sum(0), 4)
    one, same = (
        mc.sample(PREDICT, jax.random.key(0, impl="rbg"), X, chunk_size=chunk, **options) for chunk in (8, 2)
    )
    close(one, same)


@pytest.mark.slow
def test_fewer_samples_for_the_same_error():
    """The mean of one set against that of 32 independent samples, over 40 keys."""

    def means(balanced: int | None) -> np.ndarray:
        def mean(key: jax.Array) -> jax.Array:
            return mc.sample(PREDICT, key, X, num_samples=32, balanced=balanced, chunk_size=32).mean(0)

        return np.asarray(jax.jit(jax.vmap(mean))(jax.random.split(KEY, 40)))

    plain, sets = means(None), means(32)
    assert sets.var(0).mean() < plain.var(0).mean() / 4
    # Both are of one law.
    error = np.sqrt((plain.var(0) + sets.var(0)) / 40)
    assert (np.abs(plain.mean(0) - sets.mean(0)) < 5 * error).all()


@pytest.mark.slow
def test_intervals_cover_what_they_say():
    """Of 60 keys, 64 samples in 8 sets each; the truth is that of 60 times as many."""
    keys = jax.random.split(jax.random.key(3), 60)

    def run(key: jax.Array) -> tuple:
        found = mc.estimate(PREDICT, key, X, num_samples=64, reducers=MOMENTS, balanced=8, chunk_size=64)
        return found.value, found.interval(0.95), found.standard_error

    value, (lower, upper), error = jax.tree.map(
        np.asarray, jax.jit(lambda keys: jax.lax.map(run, keys, batch_size=30))(keys)
    )
    for name in ("mean", "variance"):
        truth = value[name].mean(0)
        covered = float(np.mean((lower[name] <= truth) & (truth <= upper[name])))
        assert abs(covered - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 60)
        ratio = np.mean(np.square(error[name])) / value[name].var(0, ddof=1).mean()
        assert 0.6 < ratio < 1.6


@pytest.mark.slow
def test_a_rule_counts_sets():
    rule = mc.Until(1.0, 128, every=16, min_samples=3, of=lambda error: error["mean"])
    found = mc.estimate(PREDICT, KEY, X, num_samples=rule, reducers=MOMENTS, balanced=8)
    assert int(found.num_samples) == 4  # 32 samples: at 16 there were two sets


@pytest.mark.slow
def test_a_data_set_and_its_folder(tmp_path):
    options = {"num_samples": 16, "reducers": MOMENTS, "batch_size": 4, "folder": tmp_path}
    data = np.asarray(X)
    found = mc.estimate_dataset(PREDICT, KEY, data, balanced=8, **options)
    own = jax.random.fold_in(KEY, 1)
    expected = mc.estimate(PREDICT, own, data[4:], num_samples=16, reducers=MOMENTS, balanced=8)
    close(found.value["mean"][4:], expected.value["mean"])
    assert (np.asarray(found.num_samples) == 2).all()
    mc.estimate_dataset(PREDICT, KEY, data, balanced=np.int64(8), **options)
    for balanced in (None, 16):
        names = "program of `predict`, balanced" if balanced is None else "balanced, program of `predict`"
        with pytest.raises(ValueError, match=f"got results that differ in {names}"):
            mc.estimate_dataset(PREDICT, KEY, data, balanced=balanced, **options)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"balanced": 7}, ValueError, "`balanced` must be one of 8, 16, 32, 64, 128, 256, got 7."),
        ({"balanced": 32.0}, TypeError, "`balanced` must be an integer"),
        (
            {"num_samples": 20},
            ValueError,
            "`num_samples` must be a multiple of `balanced`, 8, so that .*, got 20.",
        ),
        ({"num_samples": mc.Until(0.1, 20)}, ValueError, "`max_samples` must be a multiple of `balanced`, 8"),
        (
            {"num_samples": mc.Until(0.1, 16, every=4)},
            ValueError,
            "`every` must be a multiple of `balanced`, 8",
        ),
        ({"first": 4}, ValueError, "`first` must be a multiple of `balanced`, 8"),
        (
            {"reducers": mc.Quantiles()},
            TypeError,
            "`reducers` must have `groups` with `balanced`, .*, got Quantiles",
        ),
        ({"reducers": mc.Clustered(mc.Moments(), 4)}, ValueError, "`reducers` must not be `Clustered` for"),
        (
            {"predict": mc.ensemble(lambda w, key, x: x @ w, jnp.ones((9, 6, 3)))},
            ValueError,
            "`balanced` must be None for an `Indexed` predictor, such as an `ensemble`, .*, got 8.",
        ),
    ],
)
def test_wrong_calls(wrong: dict, error: type[Exception], message: str):
    call = {"predict": PREDICT, "num_samples": 16, "reducers": MOMENTS, "balanced": 8} | wrong
    predict = call.pop("predict")
    with pytest.raises(error, match=message):
        mc.accumulate(predict, KEY, X, **call)


def test_a_key_of_a_set_makes_no_sets():
    def nested(key: jax.Array, x: jax.Array) -> jax.Array:
        return mc.sample(PREDICT, key, x, num_samples=8, balanced=8).mean(0)

    message = re.escape(
        "`key` must be a Threefry or `rbg` key for balanced sets, got one of the implementation"
    )
    with pytest.raises(ValueError, match=message):
        mc.sample(nested, KEY, X, num_samples=8, balanced=8)
    assert mc.sample(nested, KEY, X, num_samples=2).shape == (2, 8, 3)


def test_reducers_become_those_of_sets():
    found = _sets.in_sets({"a": mc.Moments(), "b": mc.Part("x", mc.Categorical())}, 16)
    assert _sets.size_of(found) == 16
    assert _sets.size_of(mc.Moments()) is None
    assert found["b"].reducer.reducer == mc.Categorical()
