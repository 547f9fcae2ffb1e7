"""Standard errors between sets of dependent samples, by hand, for chunks of any size."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc
from jaxdrop.mc.reducers._in_sets import InSets, size_of_state
from tests.normals import standard_normal

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

SAMPLES = standard_normal(1, (80, 2, 3))
SETS = np.asarray(SAMPLES, np.float64).reshape(10, 8, 2, 3)


@partial(jax.jit, static_argnames=("chunk", "first"))
def found(reducer: InSets, chunk: int, first: int = 0) -> tuple:
    """Of samples in chunks, which start at multiples of their size, with samples to ignore at both ends."""
    starts = np.arange(first // chunk * chunk, 80, chunk, dtype=np.int32)
    places = np.arange(chunk, dtype=np.int32)

    def summary(start: jax.Array) -> dict:
        index = start + places
        samples = jnp.take(SAMPLES, index, 0, mode="fill", fill_value=jnp.nan)
        return reducer.summarize(samples, jnp.where((index >= first) & (index < 80), index, -1), None)

    states = jax.lax.map(summary, starts)
    whole, rest = jax.tree.map(lambda leaf: leaf[0], states), jax.tree.map(lambda leaf: leaf[1:], states)
    whole, _ = jax.lax.scan(lambda whole, one: (reducer.merge(whole, one), None), whole, rest)
    return reducer.finish(whole)


@pytest.mark.parametrize("groups", [32, 4])
def test_errors_are_the_jackknife_of_groups_of_whole_sets(groups: int):
    reducer = InSets(mc.Moments(groups=groups), 8)
    value, error = found(reducer, 80)
    group = np.arange(10) % groups
    shares = [np.concatenate(SETS[group == one]) for one in range(min(groups, 10))]
    whole, sizes = SETS.reshape(80, 2, 3), np.array([len(one) for one in shares])

    def jackknife(statistic) -> np.ndarray:
        """Busing, Meijer and van der Leeden, 1999, equations 3 to 5."""
        h = (80 / sizes).reshape(-1, 1, 1)
        all_of_them = statistic(whole)
        without = [
            statistic(np.concatenate([other for place, other in enumerate(shares) if place != one]))
            for one in range(len(shares))
        ]
        pseudo = h * all_of_them - (h - 1) * np.stack(without)
        center = len(shares) * all_of_them - ((1 - 1 / h) * np.stack(without)).sum(0)
        return np.sqrt(((pseudo - center) ** 2 / (h - 1)).mean(0))

    for name, statistic in (("mean", lambda y: y.mean(0)), ("variance", lambda y: y.var(0, ddof=1))):
        np.testing.assert_allclose(value[name], statistic(whole), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(error[name], jackknife(statistic), rtol=1e-3, atol=1e-5)
    if groups == 32:
        means = SETS.mean(1)
        np.testing.assert_allclose(error["mean"], means.std(0, ddof=1) / 10**0.5, rtol=1e-4)


@pytest.mark.slow
def test_chunks_make_no_difference():
    """More sets than groups, sets and parts of sets, and a part of one."""
    reducer = InSets(mc.Categorical(groups=4, log_mean=True), 8)
    expected = found(reducer, 40)
    other = found(reducer, 20)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), other, expected)
    late = found(reducer, 4, first=24)
    logs = jax.nn.log_softmax(SAMPLES[24:])
    np.testing.assert_allclose(late[0]["log_mean"], jax.nn.logsumexp(logs, 0) - np.log(56), atol=1e-5)


def test_one_set_has_no_error_and_groups_may_be_none():
    one = InSets(mc.Moments(), 80)
    assert jnp.isnan(found(one, 80)[1]["mean"]).all()
    value, error = found(InSets(mc.Moments(groups=0), 8), 16)
    np.testing.assert_allclose(value["mean"], SAMPLES.mean(0), atol=1e-6)
    assert jnp.isnan(error["mean"]).all()


def test_a_state_tells_the_size_of_its_sets():
    state = {"n": 3}
    assert size_of_state({"sets of 64": state}) == 64
    assert [size_of_state(one) for one in (state, {}, 3, {"sets of 64": state, "n": 3}, {4: 3})] == [None] * 5
