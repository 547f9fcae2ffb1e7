"""Execution: the life of programs, and processes that share a mesh."""

import dataclasses
import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from jaxdrop import mc
from jaxdrop.mc import _program
from tests.devices import make_mesh, run_two_processes
from tests.mc import nets

pytestmark = pytest.mark.usefixtures("few_objects_to_search")
KEY = jax.random.key(0)


def test_a_mesh_divides_every_chunk():
    mesh = make_mesh((8,), ("samples",))
    assert _program.plan(nets.bound(), KEY, nets.inputs(), 20, chunk_size=5, mesh=mesh).execution.chunk == 8


PROCESS = """
import pathlib, sys
import jax, numpy as np
number, address, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(address, num_processes=2, process_id=number)
from jax.sharding import NamedSharding, PartitionSpec
from jaxdrop import mc
from tests.mc import nets
mesh = jax.make_mesh((2, 2), ("samples", "batch"))
rows = np.asarray(nets.inputs())
sharded = NamedSharding(mesh, PartitionSpec("batch"))
x = jax.make_array_from_callback(rows.shape, sharded, lambda place: rows[place])
reducers = {"moments": mc.Moments(), "classes": mc.Categorical()}
found = mc.estimate(nets.bound(), jax.random.key(0), x, num_samples=40, reducers=reducers, mesh=mesh)
whole = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))(found[:2])
np.savez(out + str(number), *map(np.asarray, jax.tree.leaves(whole)))


# Data sets with a local or a common folder; if one process has lost a file, both compute the batch again.
options = {"batch_size": 6, "num_samples": 40, "reducers": reducers["moments"], "mesh": mesh}
run = lambda folder: mc.estimate_dataset(nets.bound(), jax.random.key(0), rows, **options, folder=folder)
run(out + f"own-{number}")
if number:
    (pathlib.Path(out) / "own-1" / "batch-000001.npz").unlink()
for folder in (f"own-{number}", "both"):
    found = run(out + folder)
    np.savez(out + f"dataset-{folder}-{number}", *jax.tree.leaves(found[:2]))
"""


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    run_two_processes(PROCESS, tmp_path)
    reducers = {"moments": mc.Moments(), "classes": mc.Categorical()}
    alone = mc.estimate(nets.bound(), KEY, nets.inputs(), num_samples=40, reducers=reducers)
    rows, moments = np.asarray(nets.inputs()), reducers["moments"]
    dataset = mc.estimate_dataset(nets.bound(), KEY, rows, batch_size=6, num_samples=40, reducers=moments)
    assert len(list((tmp_path / "both").glob("batch-*"))) == 2
    for number in range(2):
        for name, expected in (("", alone), (f"dataset-own-{number}-", dataset), ("dataset-both-", dataset)):
            with np.load(tmp_path / f"{name}{number}.npz") as file:
                leaves = [file[f"arr_{i}"] for i in range(len(file.files))]
            for leaf, value in zip(leaves, jax.tree.leaves(expected[:2]), strict=True):
                np.testing.assert_allclose(leaf, value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_programs_are_kept_by_the_function(shared: bool):
    traces = []

    def predict(key, x):
        traces.append(None)
        return jaxdrop.dropout(key, x, 0.5)

    for seed in range(3):
        mc.sample(predict, jax.random.key(seed), nets.inputs(), num_samples=4, shared=shared)
    assert len(traces) == 2  # one look, one program


class Model:
    def __init__(self, weights):
        self.weights = weights

    def __call__(self, key, x):
        return jaxdrop.dropout(key, x, 0.5) @ self.weights

    def predict(self, key, x):
        return self(key, x)


@dataclasses.dataclass
class Unhashable(Model):
    weights: jax.Array


def closed_over(weights):
    return lambda key, x: jaxdrop.dropout(key, x, 0.5) @ weights


def net(weights, key, x):
    return jaxdrop.dropout(key, x, 0.5) @ weights


PREDICTORS = {
    "function": closed_over,
    "jitted": lambda weights: jax.jit(closed_over(weights)),
    "partial": lambda weights: functools.partial(net, weights),
    "Partial": lambda weights: jax.tree_util.Partial(net, weights),
    "Partial of a function": lambda weights: jax.tree_util.Partial(closed_over(weights)),
    "object": Model,
    "unhashable object": Unhashable,
    "method": lambda weights: Model(weights).predict,
    "method of an unhashable object": lambda weights: Unhashable(weights).predict,
}


def estimate_dataset(predict, key, x, **options) -> mc.Estimate:
    return mc.estimate_dataset(predict, key, np.asarray(x), batch_size=4, **options)


def assert_freed(make, run) -> None:
    weights = jnp.ones((nets.INPUTS, 2))
    alive, predict = weakref.ref(weights), make(weights)
    run(predict)
    del weights, predict
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_predictor_and_its_weights_are_not_kept_alive(name: str):
    before = len(_program._programs)
    assert_freed(PREDICTORS[name], lambda predict: mc.sample(predict, KEY, nets.inputs(), num_samples=3))
    assert len(_program._programs) == before + (name == "Partial")


@pytest.mark.parametrize("call", [mc.accumulate, mc.estimate, estimate_dataset])
def test_nor_by_the_other_calls(call):
    options = {"num_samples": 3, "reducers": mc.Moments()}
    assert_freed(closed_over, lambda predict: call(predict, KEY, nets.inputs(), **options))


def test_nor_under_a_trace():
    def run(predict):
        jax.jit(lambda x: mc.sample(predict, KEY, x, num_samples=3))(nets.inputs())

    assert_freed(closed_over, run)


@pytest.mark.parametrize("call", [mc.accumulate, mc.estimate, estimate_dataset])
def test_other_calls_compile_a_function_once(call):
    traces = []

    def predict(key, x):
        traces.append(None)
        return jaxdrop.dropout(key, x, 0.5)

    counts = []
    for seed in range(2):
        call(predict, jax.random.key(seed), nets.inputs(), num_samples=3, reducers=mc.Moments())
        counts.append(len(traces))
    # A data set looks at the types of its results first, which is one more trace.
    assert counts[0] == counts[1] <= 3


def test_a_method_is_compiled_once_for_each_object():
    traces = []

    class Counted(Model):
        def predict(self, key, x):
            traces.append(None)
            return self(key, x)

    first, second = Counted(jnp.ones((nets.INPUTS, 2))), Counted(2 * jnp.ones((nets.INPUTS, 2)))
    results = [mc.sample(one.predict, KEY, nets.inputs(), num_samples=2) for one in (first, first, second)]
    np.testing.assert_allclose(results[2], 2 * results[1], rtol=1e-6)
    assert len(traces) == 4


def test_the_arrays_of_a_method_of_a_pytree_are_arguments():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Tree(Model):
        weights: jax.Array

    before = len(_program._programs)
    model = Tree(jnp.ones((nets.INPUTS, 2)))
    first = mc.sample(model.predict, KEY, nets.inputs(), num_samples=2)
    model.weights = 2 * model.weights
    np.testing.assert_allclose(mc.sample(model.predict, KEY, nets.inputs(), num_samples=2), 2 * first)
    assert len(_program._programs) == before + 1


def test_programs_that_are_held_are_few(monkeypatch):
    monkeypatch.setattr(_program, "_MOST_PROGRAMS", 2)
    for level in (1, 2, 3, 4):
        predict = jax.tree_util.Partial(lambda level, key, x: level * jaxdrop.dropout(key, x, 0.5), level)
        _program.plan(predict, KEY, nets.inputs(), 2)
    keep = [jax.tree_util.Partial(net, level) for level in (1, 2, 3)]
    for predict in keep:
        _program.split(predict)
    assert len(_program._programs) == 2
    used = _program.split(keep[1])[0]
    _program.split(keep[0])
    assert _program.split(keep[1])[0] is used  # the least recently used one goes


def test_types_are_those_of_the_precision_of_the_call():
    def predict(key, x):
        return jaxdrop.dropout(key, x, 0.5).sum(-1) + jnp.zeros(len(x), float)

    for wide, expected in ((False, jnp.float32), (True, jnp.float64), (False, jnp.float32)):
        with jax.enable_x64(wide):
            assert _program.plan(predict, KEY, nets.inputs(), 2).outputs.dtype == expected
