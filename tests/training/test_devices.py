"""Runs on many devices: shardings, collectives, agreement with one device, checkpoints, processes."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxdrop
from jaxdrop.training import grid, sweep, trainer
from tests.devices import make_mesh, run_two_processes
from tests.experiments import test_loop
from tests.normals import standard_normal

KEY = jax.random.key(0)
X = standard_normal(1, (16, 12))
MODEL_STATE = {"mean": jnp.zeros(12)}
FSDP = {"inner": P(None, "data"), "outer": P("data")}
COLLECTIVE = r"= .*\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
pytestmark = pytest.mark.usefixtures("on_cpu")


def init_params(key):
    a, b = jax.random.split(key)
    return {"inner": jax.random.normal(a, (12, 32)) / 3, "outer": jax.random.normal(b, (32, 4)) / 6}


def net_loss(params, model_state, key, x, rate=0.3):
    mean = optax.incremental_update(x.mean(0), model_state["mean"], 0.1)
    h = jaxdrop.dropout(key, jnp.tanh((x - mean[None]) @ params["inner"]), rate)
    return jnp.mean((h @ params["outer"] - 1) ** 2), ({"kept": h != 0}, {"mean": mean})


def whole_loss(params, *rest):
    """The loss of parameters that are gathered where they are used."""
    return net_loss(jax.sharding.reshard(params, P()), *rest)


def recipe(hyper):
    def loss_fn(params, model_state, key, x):
        return net_loss(params, model_state, key, x, hyper["rate"])

    return loss_fn, optax.adam(hyper["lr"])


HYPER = grid(rate=[0.1, 0.2, 0.3, 0.5], lr=[1e-2, 3e-3])
KEYS = jax.random.split(KEY, 8)
RUNS = (KEYS, jax.vmap(init_params)(KEYS), HYPER, {"mean": jnp.zeros((8, 12))})


def stepped(step, state, x=X, steps=3):
    for _ in range(steps):
        state, out = step(state, x)
    return state, out


def compiled(step, *args):
    """The program of a step, which refuses a state of other shardings, and its lines that communicate."""
    program = step.lower(*args).compile()
    return program, [line for line in program.as_text().splitlines() if re.search(COLLECTIVE, line)]


def local_bytes(tree):
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def check_same(found, expected):
    """States and losses to rounding, masks to the bit."""
    (state, (loss, aux)), (own, (own_loss, own_aux)) = jax.device_get((found, expected))
    np.testing.assert_array_equal(aux["kept"], own_aux["kept"])
    np.testing.assert_allclose(loss, own_loss, rtol=1e-5)
    assert np.array_equal(state.step, own.step)
    for name in ("params", "opt_state", "model_state"):
        chex.assert_trees_all_close(getattr(state, name), getattr(own, name), rtol=1e-4, atol=1e-6)


@functools.cache
def one_run():
    init, step = trainer(net_loss, optax.adam(1e-2))
    return stepped(step, init(KEY, init_params(KEY), MODEL_STATE))


@functools.cache
def all_runs():
    init, step = sweep(recipe)
    return stepped(step, init(*RUNS))


def put(tree, mesh: Mesh, specs=None):
    specs = jax.tree.map(lambda _: P(), tree) if specs is None else specs
    return jax.tree.map(lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), tree, specs)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "specs"), [(AxisType.Auto, None), (AxisType.Explicit, FSDP)])
def test_one_run_follows_the_shardings_of_its_parameters_and_batch(kind, specs):
    """Batches are sharded; the parameters are replicated, or sharded with their optimizer state."""
    mesh, expected = make_mesh((8,), ("data",), (kind,)), one_run()
    x = jax.device_put(X, NamedSharding(mesh, P("data")))
    init, step = trainer(whole_loss if specs else net_loss, optax.adam(1e-2), donate=True)
    with jax.set_mesh(mesh):
        state = init(KEY, put(init_params(KEY), mesh, specs), MODEL_STATE)
        own = jax.tree.map(lambda leaf: leaf.sharding, state.params)
        assert jax.tree.map(lambda leaf: leaf.sharding, state.opt_state[0].mu) == own
        assert (
            len({leaf.sharding.device_set == set(mesh.devices.flat) for leaf in jax.tree.leaves(state)}) == 1
        )
        step, sums = compiled(step, state, x)
        share = local_bytes((state.params, state.opt_state)) / local_bytes(expected[0][2:4])
        state, out = stepped(step, state, x)
        check_same((state, out), expected)
        for name, leaf in state.params.items():
            assert leaf.sharding.is_equivalent_to(own[name], leaf.ndim)
    if specs is None:
        # The gradient and the loss in one sum, and the mean of the batch that the model state needs.
        assert len(sums) == 2
        assert all("all-reduce" in line for line in sums)
    else:
        assert share < 1 / 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "by"),
    [(AxisType.Auto, "mesh"), (AxisType.Explicit, "spec"), (AxisType.Explicit, "keys")],
)
def test_runs_of_a_sweep_on_many_devices_do_not_communicate(kind, by):
    """By a mesh, by one and its axes, or by the shardings of some arguments."""
    mesh = make_mesh((4, 2), ("runs", "more"), (kind, kind))
    spec = P(("runs", "more")) if by == "spec" else P("runs")
    options = {"mesh": {"mesh": mesh}, "spec": {"mesh": mesh, "spec": spec}}.get(by, {})
    init, step = sweep(recipe, donate=True, **options)
    keys = jax.device_put(KEYS, NamedSharding(mesh, spec)) if by == "keys" else KEYS
    state = init(keys, *RUNS[1:])
    for leaf in jax.tree.leaves(state):
        assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, spec), leaf.ndim)
    assert local_bytes(state.params) == local_bytes(RUNS[1]) // (8 if by == "spec" else 4)
    step, lines = compiled(step, state, X)
    assert not lines
    check_same(stepped(step, state), all_runs())


@pytest.mark.slow
def test_a_sweep_shares_its_batch_over_the_other_axes_of_its_mesh():
    mesh = make_mesh((2, 4), ("runs", "batch"), (AxisType.Auto,) * 2)
    init, step = sweep(recipe, mesh=mesh)
    x, state = jax.device_put(X, NamedSharding(mesh, P("batch"))), init(*RUNS)
    step, lines = compiled(step, state, x)
    assert all("all-reduce" in line for line in lines)
    check_same(stepped(step, state, x), all_runs())


def test_a_loop_ends_on_each_device_by_its_own_runs():
    """Left to the compiler, each round asks all devices whether a run continues."""

    def counting(most):
        def loss_fn(params, key, x):
            return params.sum(), jax.lax.while_loop(lambda n: n < most, lambda n: n + 1, 0)

        return loss_fn, optax.sgd(0.1)

    mesh = make_mesh((2,), ("runs",), (AxisType.Auto,))
    parts = jax.device_put((KEYS[:2], jnp.ones((2, 3)), jnp.array([3, 7])), NamedSharding(mesh, P("runs")))
    lines = {}
    for name, own in (("given", None), ("mesh", mesh)):
        init, step = sweep(counting, mesh=own)
        step, lines[name] = compiled(step, init(*parts), None)
        assert step(init(*parts), None)[1][1].tolist() == [3, 7]
        assert jax.jit(init)(*parts).step.shape == (2,)  # under `jit` the compiler shards
    assert lines["given"]
    assert not lines["mesh"]


def test_the_state_of_any_optimizer_lies_beside_its_parameters():
    mesh = make_mesh((8,), ("data",), (AxisType.Auto,))
    params = {"in": {"kernel": jnp.ones((4, 8))}, "kernel": jnp.ones((8, 4)), "bias": jnp.ones(3)}
    specs = {"in": {"kernel": P(None, "data")}, "kernel": P("data"), "bias": P()}
    labels = {"in": "a", "kernel": "b", "bias": "b"}
    moving = optax.multi_transform({"a": optax.adam(0.1), "b": optax.sgd(0.1, 0.9)}, labels)
    optimizer = optax.apply_if_finite(optax.chain(moving, optax.ema(0.9)), 3)
    state = trainer(lambda *_: (0.0, {}), optimizer).init(KEY, put(params, mesh, specs))
    seen = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state):
        name = re.sub(r"[^a-z]+", "/", jax.tree_util.keystr(path[-2:]))
        expected = {(4, 8): P(None, "data"), (8, 4): P("data")}.get(leaf.shape, P())
        assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, expected), leaf.ndim), name
        seen.add(leaf.shape)
    assert {(4, 8), (8, 4)} <= seen


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"spec": P("runs")}, ValueError, r"`spec` must be given with a `mesh`, got .*runs.* alone\."),
        ({"mesh": "gpu"}, TypeError, r"`mesh` must be a `jax\.sharding\.Mesh`, got a str\."),
        ({"mesh": ("data",)}, ValueError, r"`mesh` must have an axis named 'runs', or `spec` .*, got data\."),
        ({"mesh": ("runs",), "spec": "runs"}, TypeError, r"`spec` must be a `jax\.sharding\.PartitionSpec`"),
        (
            {"mesh": ("runs",), "spec": P("runs", None)},
            ValueError,
            "`spec` must have at most one entry, of runs",
        ),
        ({"mesh": ("runs",), "spec": P("data")}, ValueError, r"`spec` must name axes of `mesh` \(runs\)"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(options, error, message):
    if isinstance(options.get("mesh"), tuple):
        options = options | {"mesh": make_mesh((2,), options["mesh"])}
    with pytest.raises(error, match=message):
        sweep(recipe, **options)


def test_runs_that_cannot_be_divided_are_refused():
    init, _ = sweep(recipe, mesh=make_mesh((3,), ("runs",)))
    with pytest.raises(ValueError, match=r"`keys` must have a multiple of 3 runs, .* \(runs\), got 8\."):
        init(*RUNS)


def saved(state):
    """All but the key, which `init` makes again."""
    return {name: leaf for name, leaf in state._asdict().items() if name not in ("key", "hyper")}


def restored(folder, state):
    """The checkpoint, on the devices of a new state."""
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, saved(state))
    with ocp.StandardCheckpointer() as checkpointer:
        return state._replace(**checkpointer.restore(folder, like))


def save(folder, state):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, saved(state))


def sharded(devices, names=("data",)):
    """A mesh, and a new state and batch of one run on it."""
    mesh = jax.make_mesh((len(devices),), names, (AxisType.Auto,), devices=devices)
    pair = trainer(net_loss, optax.adam(1e-2))
    x = jax.device_put(np.asarray(X), NamedSharding(mesh, P("data")))
    return pair.step, pair.init(KEY, put(init_params(KEY), mesh, FSDP), MODEL_STATE), x


PROCESS = """
import sys
import jax, numpy as np
number, address, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, num_processes=2, process_id=number)
from jax.experimental.multihost_utils import process_allgather
from pathlib import Path
from tests.experiments import test_loop
from tests.training import test_devices as own
def keep(name, found):
    leaves = jax.tree.leaves((own.saved(found[0]), found[1]))
    far = lambda leaf: not getattr(leaf, "is_fully_addressable", True)
    leaves = [process_allgather(leaf, tiled=True) if far(leaf) else leaf for leaf in leaves]
    np.savez(out + f"{name}-{number}", *leaves)
step, state, x = own.sharded(jax.devices())
state, _ = own.stepped(step, state, x, steps=2)
own.save(Path(out) / "many", state)
keep("one", own.stepped(step, state, x, steps=1))
keep("again", own.stepped(step, own.restored(Path(out) / "alone", state), x, steps=1))
init, step = own.sweep(own.recipe, mesh=jax.make_mesh((4,), ("runs",)))
state = init(*own.RUNS)
step, lines = own.compiled(step, state, own.X)
assert not lines
keep("runs", own.stepped(step, state))
options = {"setup": test_loop.with_a_model_state, "devices": 4}
test_loop.interrupted(Path(out) / "loop", test_loop.pytest.MonkeyPatch(), **options)
keep("loop", test_loop.run(Path(out) / "loop", **options))
"""


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    """Also from a checkpoint of one device, which resumes theirs."""
    step, state, x = sharded(jax.devices("cpu")[:1])
    save(tmp_path / "alone", stepped(step, state, x, steps=2)[0])
    run_two_processes(PROCESS, tmp_path)
    one, runs = one_run(), all_runs()
    loop = test_loop.run(tmp_path / "loop-alone", setup=test_loop.with_a_model_state)
    check_same(stepped(step, restored(tmp_path / "many", state), x, steps=1), one)
    for name, expected in (("one", one), ("again", one), ("runs", runs), ("loop", loop)):
        for number in range(2):
            with np.load(tmp_path / f"{name}-{number}.npz") as file:
                leaves = [file[f"arr_{i}"] for i in range(len(file.files))]
            tree = jax.tree.structure((saved(expected[0]), expected[1]))
            state, out = jax.tree.unflatten(tree, leaves)
            check = test_loop.check_close if name == "loop" else check_same
            check((expected[0]._replace(**state), out), expected)
