"""The program of an estimate: its kernels on a GPU, its loops, and what a call costs the host."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc import _accumulation, _program
from tests import gpu
from tests.devices import make_mesh
from tests.mc import nets

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

KEY = jax.random.key(0)
X, LABELS = nets.inputs(), nets.labels()
SIZES = (784, 1024, 1024, 1024, 10)
REDUCERS = {
    "moments": mc.Moments(),
    "covariance": mc.Moments(covariance=True),
    "classes": mc.Categorical(log_mean=True),
    "labels": mc.Bernoulli(),
    "quantiles": mc.Quantiles(),
    "density": mc.CategoricalLogDensity(),
}


def mlp(weights: list[jax.Array], key: jax.Array, x: jax.Array) -> jax.Array:
    keys = jax.random.split(key, len(weights))
    for i, w in enumerate(weights):
        x = jaxdrop.dropout(keys[i], x if i == 0 else jax.nn.relu(x), 0.5) @ w
    return x.astype(jnp.float32)


@gpu.needs_plugin
@pytest.mark.parametrize(
    ("reducer", "most"),
    [(mc.Moments(), 24), (mc.Moments(covariance=True), 32), (mc.Categorical(), 40), (mc.Quantiles(), 20)],
    ids=["moments", "covariance", "classes", "quantiles"],
)
def test_kernels_on_a_gpu(reducer: mc.Reducer, most: int):
    """The predictor alone has 12; a jitted `vmap` with mean and variance has 16."""

    def run(weights, key, x):
        predict = jax.tree_util.Partial(mlp, weights)
        return mc.estimate(predict, key, x, num_samples=100, chunk_size=100, reducers=reducer)

    weights = [jnp.zeros((a, b), jnp.bfloat16) for a, b in itertools.pairwise(SIZES)]
    program = gpu.compiled(run, weights, KEY, jnp.zeros((128, 784), jnp.bfloat16))
    assert len(program.kernels) <= most
    assert not program.loops


def primitives(jaxpr) -> Counter:
    """The primitives of a program and of those that it calls."""
    found = Counter(eqn.primitive.name for eqn in jaxpr.eqns)
    for eqn in jaxpr.eqns:
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda one: hasattr(one, "eqns")):
            found += primitives(value) if hasattr(value, "eqns") else Counter()
    return found


@pytest.mark.parametrize(("count", "loops"), [(5, 0), (64, 0), (65, 1)])
def test_the_only_loop_is_that_over_many_chunks(count: int, loops: int):
    """None over one chunk, nor over the groups of a reducer."""

    def run(key, x):
        options = {"num_samples": count, "chunk_size": 64, "reducers": REDUCERS, "targets": LABELS}
        return mc.estimate(nets.bound(), key, x, **options)

    found = primitives(jax.make_jaxpr(run)(KEY, X).jaxpr)
    assert found["dot_general"] > 0
    assert found["scan"] + found["while"] == loops


@pytest.mark.parametrize("count", [8, mc.Until(0.5, 100)], ids=["count", "until"])
def test_a_second_call_traces_nothing_and_runs_one_program(count, monkeypatch: pytest.MonkeyPatch):
    traces, runs = [], []

    def predict(key, x):
        traces.append(None)
        return jaxdrop.dropout(key, x, 0.5)

    def run(program, fun, *args, **options):
        runs.append(fun)
        return original(program, fun, *args, **options)

    def call() -> None:
        mc.estimate(predict, KEY, X, num_samples=count, reducers=mc.Categorical())

    call()
    original = _program.Program.run
    monkeypatch.setattr(_program.Program, "run", run)
    monkeypatch.setattr(_program, "_trace_outputs", lambda *_: pytest.fail("a plan was made anew"))
    monkeypatch.setattr(_accumulation, "finished", lambda *_: pytest.fail("a second program ran"))
    monkeypatch.setattr(mc.Categorical, "explain_nan", lambda *_: pytest.fail("estimates were read"))
    before = len(traces)
    call()
    assert len(traces) == before
    assert len(runs) == 1


def test_the_numbers_of_one_chunk_are_known():
    """So a reducer can decide by them in Python."""
    seen = []

    class Seen(mc.Quantiles):
        def summarize(self, samples, index, targets):
            if isinstance(index, jax.core.Tracer):
                return super().summarize(samples, index, targets)
            seen.append(np.asarray(index).tolist())
            return super().summarize(samples, index, targets)

    jax.tree_util.register_dataclass(Seen, data_fields=[], meta_fields=["levels", "capacity"])
    options = {"num_samples": 5, "reducers": Seen((0.5,), 8), "mesh": make_mesh((8,), ("samples",))}
    mc.estimate(nets.bound(), KEY, X, **options)
    assert seen == [[0, 1, 2, 3, 4, -1, -1, -1]]


@pytest.mark.slow
def test_reducers_check_all_values_and_explain_a_nan():
    """An own reducer sees every estimate; ours look at values only where one is NaN."""
    asked, checked = [], []

    class Asked(mc.Moments):
        def check_values(self, values):
            checked.append(None)

        def explain_nan(self, values):
            asked.append(None)

    jax.tree_util.register_dataclass(Asked, data_fields=[], meta_fields=["covariance", "groups"])
    for count, calls in ((2, 0), (1, 1)):  # one sample has no variance
        mc.estimate(nets.bound(), KEY, X, num_samples=count, reducers=Asked())
        assert len(asked) == calls
    assert len(checked) == 2
    state = mc.accumulate(nets.bound(), KEY, X, num_samples=1, reducers=Asked())
    mc.finish(Asked(), state)
    assert (len(asked), len(checked)) == (2, 3)
