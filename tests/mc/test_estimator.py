"""Streamed statistics: their values by any division of the samples, and their standard errors."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxdrop
from jaxdrop import mc
from tests.devices import make_mesh
from tests.mc import nets
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
PREDICT, X, LABELS = nets.bound(), nets.inputs(), nets.labels()
ALL = {
    "moments": mc.Moments(covariance=True),
    "classes": mc.Categorical(),
    "quantiles": mc.Quantiles((0.1, 0.5, 0.9)),
    "density": mc.CategoricalLogDensity(),
    "labels": mc.Bernoulli(log_mean=True),
}
T = 200


def run(**options) -> mc.Estimate:
    given = {"num_samples": T, "reducers": ALL, "targets": LABELS} | options
    return mc.estimate(PREDICT, KEY, given.pop("x", X), **given)


def close(a, b, rtol: float = 2e-4) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-5), a, b)


@pytest.fixture(scope="module")
def whole() -> mc.Estimate:
    return run()


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, 32])
def test_the_size_of_the_chunks_makes_no_difference(whole: mc.Estimate, chunk: int):
    close(run(chunk_size=chunk), whole)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [{"samples": 8}, {"samples": 4, "batch": 2}])
def test_eight_devices_give_what_one_gives(whole: mc.Estimate, axes: dict):
    close(run(mesh=make_mesh(tuple(axes.values()), tuple(axes))), whole)


@pytest.mark.slow
@pytest.mark.parametrize("current", [True, False])
def test_explicit_axes(whole: mc.Estimate, current: bool):
    mesh = make_mesh((4, 2), ("samples", "batch"), axis_types=(AxisType.Explicit,) * 2)
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("batch")))
    with jax.set_mesh(mesh) if current else contextlib.nullcontext():
        close(run(x=x, mesh=mesh), whole)


@pytest.mark.slow
def test_interrupted_and_resumed(whole: mc.Estimate):
    options = {"reducers": ALL, "targets": LABELS}
    state = mc.accumulate(PREDICT, KEY, X, num_samples=77, **options)
    state = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, state))  # saved and read
    state = mc.accumulate(PREDICT, KEY, X, num_samples=T, state=state, **options)
    assert int(state.count) == T
    close(mc.finish(ALL, state), whole)


@pytest.mark.slow
def test_parts_merge(whole: mc.Estimate):
    options = {"reducers": ALL, "targets": LABELS}
    parts = [mc.accumulate(PREDICT, KEY, X, num_samples=100, first=first, **options) for first in (0, 100)]
    merged = mc.merge(ALL, *parts)
    assert int(merged.count) == int(merged.next_sample) == T
    close(mc.finish(ALL, merged), whole)


@pytest.mark.slow
def test_a_state_that_began_later_or_has_a_gap_goes_on_to_as_many():
    options = {"reducers": mc.Moments()}
    ten = [mc.accumulate(PREDICT, KEY, X, num_samples=10, first=first, **options) for first in (100, 120)]
    for state, stop in ((ten[0], 140), (mc.merge(mc.Moments(), *ten), 150)):
        longer = mc.accumulate(PREDICT, KEY, X, num_samples=40, state=state, **options)
        assert (int(longer.count), int(longer.next_sample)) == (40, stop)
        same = mc.accumulate(PREDICT, KEY, X, num_samples=5, state=state, **options)
        assert (int(same.count), int(same.next_sample)) == (int(state.count), int(state.next_sample))


@pytest.mark.slow
@pytest.mark.parametrize("jitted", [False, True])
def test_probabilities_in_chunks_that_are_not_full(jitted: bool):
    def predict(key, x):
        return jax.nn.softmax(PREDICT(key, x))

    def values(chunk):
        reducers = {"classes": mc.Categorical(False), "density": mc.CategoricalLogDensity(False)}
        options = {"reducers": reducers, "chunk_size": chunk, "targets": LABELS}
        return mc.estimate(predict, KEY, X, num_samples=10, **options).value

    close((jax.jit(lambda: values(4)) if jitted else lambda: values(4))(), values(10))


@pytest.mark.slow
def test_one_reducer_is_no_tree(whole: mc.Estimate):
    found = run(reducers=mc.Moments(), targets=None)
    close(found.value["mean"], whole.value["moments"]["mean"])
    assert int(found.num_samples) == T


def test_another_number_of_samples_is_the_same_program():
    traces = []

    def predict(key, x):
        traces.append(None)
        return jaxdrop.dropout(key, x, 0.5)

    for count in (64, 128, 256):
        mc.estimate(predict, KEY, X, num_samples=count, chunk_size=32, reducers=mc.Moments())
        assert len(traces) == 2  # one look, one program


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_memory_does_not_grow_with_the_samples():
    """The same compiled program, whose number of samples is an argument."""

    @jax.jit
    def run(key, x):
        return mc.estimate(PREDICT, key, x, num_samples=100, chunk_size=32, reducers=ALL, targets=LABELS)

    @jax.jit
    def longer(key, x):
        return mc.estimate(PREDICT, key, x, num_samples=10_000, chunk_size=32, reducers=ALL, targets=LABELS)

    sizes = [fun.lower(KEY, X).compile().memory_analysis() for fun in (run, longer)]
    few, many = (size.temp_size_in_bytes + size.output_size_in_bytes for size in sizes)
    assert many <= 1.1 * few


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_memory_of_a_segmentation_head_does_not_grow_with_the_samples():
    """The temporary memory for 4096 samples of `[B, H, W, K]` is that for 64, to the byte."""
    kernel = standard_normal(KEY, (4, 5))

    def predict(key, x):
        return jaxdrop.dropout(key, x, 0.5) @ kernel

    reducers = [mc.Categorical(log_mean=True), mc.CategoricalLogDensity(ignore=255)]
    x, void = jnp.ones((2, 6, 6, 4)), np.full((2, 6, 6), 255, np.uint8)

    def temporary(samples: int) -> int:
        options = {"num_samples": samples, "chunk_size": 32, "reducers": reducers, "targets": void}
        run = jax.jit(lambda key, x: mc.estimate(predict, key, x, **options))
        return run.lower(KEY, x).compile().memory_analysis().temp_size_in_bytes

    few, many = temporary(64), temporary(4096)
    assert few == many
    assert many < 4096 * 2 * 6 * 6 * 5 * 4  # the logits of all samples


def test_under_jit_and_vmap():
    @jax.jit
    @jax.vmap
    def means(key):
        return mc.estimate(PREDICT, key, X, num_samples=20, reducers=mc.Moments()).value["mean"]

    keys = jax.random.split(KEY, 3)
    alone = mc.estimate(PREDICT, keys[1], X, num_samples=20, reducers=mc.Moments()).value["mean"]
    np.testing.assert_allclose(means(keys)[1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_intervals_cover():
    """200 repeats x 8 examples: the 95 % interval holds the value of many samples 92 to 98 % of the time."""
    reducers = {name: one for name, one in ALL.items() if name != "quantiles"}
    reducers |= {"moments": mc.Moments()}
    options = {"reducers": reducers, "targets": LABELS}

    @jax.jit
    def repeats(keys):
        return jax.lax.map(lambda key: mc.estimate(PREDICT, key, X, num_samples=512, **options)[:2], keys)

    value, error = repeats(jax.random.split(jax.random.key(1), 200))
    truth = mc.estimate(PREDICT, jax.random.key(2), X, num_samples=100_000, **options).value
    inside = jax.tree.map(lambda v, e, t: np.mean(np.abs(v - t[None]) <= 1.96 * e), value, error, truth)
    for name, shares in inside.items():
        for statistic, share in shares.items():
            assert 0.92 <= share <= 0.98, (name, statistic, share)


@pytest.mark.slow
def test_the_intervals_of_quantiles_cover():
    """Of a continuous distribution, whose quantiles are known: the normal one."""

    def predict(key, x):
        return jaxdrop.gaussian_noise(key, x, 1.0)

    levels = (0.1, 0.5, 0.75)
    keys = jax.random.split(jax.random.key(1), 200)
    reducers = mc.Quantiles(levels)

    @jax.jit
    def repeats(keys):
        return jax.lax.map(
            lambda key: mc.estimate(predict, key, X, num_samples=512, reducers=reducers)[:2], keys
        )

    value, error = (part["quantiles"] for part in repeats(keys))
    truth = X[:, None] + scipy.stats.norm.ppf(levels)[None, :, None].astype(np.float32)
    for i in range(len(levels)):
        share = np.mean(np.abs(value - truth[None]) <= 1.96 * error, axis=(0, 1, 3))[i]
        assert 0.92 <= share <= 0.98, (levels[i], share)


def nan_in_sample_17(key: jax.Array, x: jax.Array) -> jax.Array:
    seventeenth = jax.random.key_data(jax.random.fold_in(KEY, 17))
    return jnp.where((jax.random.key_data(key) == seventeenth).all(), jnp.nan, x)


def test_nan_is_reported_with_its_sample():
    message = "`predict` must give outputs that are not NaN, got NaN in sample 17."
    with pytest.raises(FloatingPointError, match=message):
        mc.estimate(nan_in_sample_17, KEY, X, num_samples=30, reducers=mc.Moments())
    found = mc.estimate(nan_in_sample_17, KEY, X, num_samples=17, reducers=mc.Moments(), chunk_size=30)
    np.testing.assert_allclose(found.value["mean"], X, rtol=1e-6)


def test_a_state_of_nan_is_reported_at_the_end_too():
    state = jax.jit(lambda: mc.accumulate(nan_in_sample_17, KEY, X, num_samples=30, reducers=mc.Moments()))()
    with pytest.raises(FloatingPointError, match="got NaN in sample 17"):
        mc.finish(mc.Moments(), state)


BAD = [
    ({"num_samples": 0}, ValueError, "`num_samples` must be at least 1, got 0."),
    ({"x": X[:0]}, ValueError, "must hold arrays that share one non-empty leading axis"),
    ({"targets": LABELS + 1}, ValueError, r"`targets` must lie in \[0, 2\], got 3."),
    ({"targets": None}, ValueError, "`targets` must be an array of the labels of the examples, got none."),
    ({"targets": LABELS.tolist()}, ValueError, "labels of the examples, got a list."),
    ({"reducers": mc.GaussianLogDensity(1.0)}, ValueError, r"`targets` must have the shape of the predicted"),
    (
        {"reducers": mc.GaussianLogDensity(1.0), "targets": [0.0] * nets.BATCH},
        ValueError,
        r"`targets` must have the shape of the predicted means, \(8, 3\), got a list.",
    ),
    (
        {"reducers": mc.GaussianLogDensity(0.0), "targets": X[:, :3]},
        ValueError,
        "`precision` must be above 0, got 0.",
    ),
    ({"reducers": mc.GaussianLogDensity(), "targets": X[:, :3]}, ValueError, r"a pair \(mean, variance\)"),
    (
        {"reducers": mc.Moments(), "targets": None, "num_samples": 1.5},
        TypeError,
        "must be an integer, got 1.5",
    ),
    ({"reducers": mc.Quantiles((0.0,))}, ValueError, r"`levels` must lie in \(0, 1\), got 0."),
    ({"reducers": mc.Moments(groups=-1)}, ValueError, "`groups` must be at least 0, got -1."),
    ({"reducers": mc.Categorical(from_logits=False)}, ValueError, "must return probabilities"),
    ({"reducers": mc.Moments}, TypeError, r"`reducers` must be a reducer, such as `Moments\(\)`"),
    ({"num_samples": 2**31}, ValueError, r"`num_samples` must end before sample 2\*\*31 - 1, got 2147483648"),
    ({"reducers": "mean"}, TypeError, "`reducers` must be a reducer, .* got 'mean'"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD)
def test_bad_input(wrong: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        run(**({"num_samples": 4} | wrong))


def state_of(rows: int = nets.BATCH, **options) -> mc.State:
    return run_state(X[:rows], mc.Moments(**options))


def run_state(x, reducers, **options) -> mc.State:
    return mc.accumulate(PREDICT, KEY, x, num_samples=4, reducers=reducers, **options)


def test_a_state_of_another_call_is_refused():
    """It would have been broadcast, or have failed deep within."""
    whole, one, wide = state_of(), state_of(1), state_of(covariance=True)
    message = r"`state` must be a state of these reducers and inputs, with float32\[32, 8, 3\] at"
    with pytest.raises(ValueError, match=message + r" .reduced\['mean'\], got float32\[32, 1, 3\]"):
        run_state(X, mc.Moments(), state=one)
    with pytest.raises(ValueError, match=message + r" .reduced\['scatter'\], got float32\[32, 8, 3, 3\]"):
        run_state(X, mc.Moments(), state=wide)
    with pytest.raises(ValueError, match=r"`b` must be a state of the reducers and inputs of `a`, with"):
        mc.merge(mc.Moments(), whole, one)


def test_logits_that_overflow_are_reported():
    def predict(key, x):
        return jaxdrop.dropout(key, x, 0.5).astype(jnp.float16) * 40000

    with pytest.raises(ValueError, match="`predict` must return logits below infinity"):
        mc.estimate(predict, KEY, jnp.ones((2, 3)), num_samples=8, reducers=mc.Categorical())
