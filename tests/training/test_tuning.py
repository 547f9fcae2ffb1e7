"""The tuner: halving and grids as by hand, failures, models with a state, devices, and what is refused."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxdrop
from jaxdrop.training import choose, grid, sweep, tune
from tests.devices import make_mesh
from tests.normals import standard_normal

pytestmark = pytest.mark.slow

RATES = [0.0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 0.9]
KEYS = jax.random.split(jax.random.key(0), 2)
X = standard_normal(1, (24, 4))
TRAIN, VALID = ({"x": part, "y": jnp.sin(part.sum(-1))} for part in (X[:16], X[16:]))
TRACES = []


def recipe(hyper):
    def loss_fn(params, key, batch):
        TRACES.append(1)
        x = jaxdrop.dropout(key, batch["x"], hyper["rate"])
        return jnp.mean((jnp.tanh(x @ params["a"]).sum(-1) - batch["y"]) ** 2), {}

    return loss_fn, optax.sgd(0.1, momentum=0.9)


def score_fn(state, key, valid):
    return jnp.mean((jnp.tanh(valid["x"] @ state.params["a"]).sum(-1) - valid["y"]) ** 2)


def batch_fn(train, step):
    rows = jax.random.randint(jax.random.fold_in(jax.random.key(2), step), (6,), 0, 16)
    return jax.tree.map(lambda leaf: leaf[rows], train)


INIT, STEP = sweep(recipe)
BATCH = jax.jit(batch_fn)
SCORE = jax.jit(jax.vmap(lambda state: score_fn(state, None, VALID)))


def start(rates=RATES, seeds=(0, 1)):
    """States of seeds, the slower axis, and rates."""
    hyper = grid(seed=list(seeds), rate=rates)
    keys = jax.vmap(jax.random.key)(hyper["seed"])
    return INIT(keys, {"a": jax.vmap(lambda key: jax.random.normal(key, (4, 8)))(keys)}, hyper)


def by_hand(states, lengths, keep, batch=BATCH, **options):
    """The states, the runs and the choice after each rung."""
    runs, found = np.arange(len(states.step)), []
    for length, kept in zip(lengths, keep, strict=True):
        for _ in range(length):
            states, _ = STEP(states, batch(TRAIN, states.step[0]))
        scores = SCORE(states)
        choice = choose(states.hyper, scores, **options)
        found.append((states, runs, scores, choice))
        places = np.flatnonzero(choice.rank < kept)
        runs, states = runs[places], jax.tree.map(lambda leaf, places=places: leaf[places], states)
    return found


def test_halving_equals_that_by_hand():
    states, seen = start(), []
    options = {"score_fn": score_fn, "batch_fn": batch_fn, "steps": (3, 4, 5), "progress": seen.append}
    TRACES.clear()
    found = tune(STEP, states, TRAIN, VALID, simpler="rate", **options)
    assert len(TRACES) == 3  # one for each number of runs
    assert sorted(seen) == list(range(1, 13))
    expected = by_hand(states, (3, 4, 5), (4, 2, 2), simpler="rate")
    for i, (_, runs, scores, _) in enumerate(expected):
        stopped = found.rung[np.arange(16) % 8] == i
        np.testing.assert_array_equal(np.flatnonzero(found.rung[np.arange(16) % 8] >= i), runs)
        np.testing.assert_allclose(found.scores[stopped], np.asarray(scores)[stopped[runs]], rtol=1e-5)
    last, runs, _, choice = expected[-1]
    assert found.choice.setting == choice.setting
    np.testing.assert_array_equal(found.choice.rank[runs], choice.rank)
    np.testing.assert_array_equal(found.steps, np.array([3, 7, 12])[found.rung])
    np.testing.assert_array_equal(np.bincount(found.rung), [4, 2, 2])
    # Settings that were trained longer come first, within a rung by the mean.
    order = np.argsort(found.choice.rank[:8])
    np.testing.assert_array_equal(found.rung[order], np.sort(found.rung)[::-1])
    assert all(np.diff(found.choice.mean[order][found.rung[order] == i]).min() >= 0 for i in range(3))
    chosen = np.flatnonzero(np.asarray(last.hyper["rate"]) == found.choice.setting["rate"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[chosen], rtol=1e-5),
        (found.states.params, found.states.opt_state, found.states.hyper, found.states.step),
        (last.params, last.opt_state, last.hyper, last.step),
    )
    assert (found.states.key == last.key[chosen]).all()
    # Other values are the same program.
    TRACES.clear()
    other = tune(STEP, start([0.1 * rate for rate in RATES]), TRAIN, VALID, simpler="rate", **options)
    assert not TRACES
    assert (other.scores != found.scores).any()


def test_a_grid_equals_a_sweep_and_goes_on_from_it():
    """The steps of the batches and of the result count those of the sweep before."""
    ((middle, *_),) = by_hand(start(), (2,), (8,))
    ((last, _, scores, choice),) = by_hand(middle, (3,), (8,))
    found = tune(STEP, middle, TRAIN, VALID, score_fn=score_fn, batch_fn=batch_fn, steps=3)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    exact = choose(middle.hyper, found.scores)
    jax.tree.map(np.testing.assert_array_equal, found.choice, exact)
    assert found.choice.setting == choice.setting
    assert found.steps.tolist() == [5] * 8
    assert found.rung.tolist() == [0] * 8
    np.testing.assert_array_equal(found.states.hyper["rate"], [found.choice.setting["rate"]] * 2)
    np.testing.assert_array_equal(found.states.hyper["seed"], [0, 1])
    chosen = np.flatnonzero(choice.rank == 0)
    np.testing.assert_allclose(found.states.params["a"], last.params["a"][chosen], rtol=1e-5)


def test_runs_that_fail_do_so_alone():
    """By one loss that is not finite, by parameters at the last step, or by the score."""

    def fragile(hyper):
        loss_fn, optimizer = recipe(hyper)

        def with_failures(params, key, batch):
            loss, aux = loss_fn(params, key, {name: batch[name] for name in ("x", "y")})
            loss = jnp.where((hyper["rate"] == 0.1) & (batch["step"] == 1), jnp.nan, loss)
            # A finite loss, whose gradient is not.
            of_last = (hyper["rate"] == 0.2) & (batch["step"] == 3)
            return loss + jnp.sqrt(jnp.where(of_last, 0 * params["a"].sum(), 1)), aux

        return with_failures, optimizer

    def fragile_score(state, key, valid):
        wrong = jnp.nan_to_num(score_fn(state, key, valid))
        return jnp.where((state.hyper["rate"] == 0.3) & (state.hyper["seed"] == 1), jnp.inf, wrong)

    def with_step(train, step):
        return {**batch_fn(train, step), "step": step}

    states = start()
    options = {"batch_fn": with_step, "score_fn": fragile_score, "steps": 4}
    with np.errstate(invalid="ignore"):
        found = tune(sweep(fragile)[1], states, TRAIN, VALID, **options)
    np.testing.assert_array_equal(np.isfinite(found.choice.mean), [1, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found.scores)), [1, 2, 9, 10, 11])
    ((_, _, scores, _),) = by_hand(states, (4,), (8,))
    kept = np.isfinite(found.scores)
    np.testing.assert_allclose(found.scores[kept], np.asarray(scores)[kept], rtol=1e-4)


def test_an_nnx_model_with_batch_statistics():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.norm, self.dense = nnx.BatchNorm(4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)

        def __call__(self, x):
            return self.dense(self.norm(x))[:, 0]

    parts = jax.vmap(lambda key: jaxdrop.nnx.trainable(Net(nnx.Rngs(key))))(KEYS)
    loss_fn = parts.loss_fn(lambda model, key, batch: (jnp.mean((model(batch["x"]) - batch["y"]) ** 2), {}))
    init, step = sweep(lambda hyper: (loss_fn, optax.sgd(hyper["learning_rate"])))
    states = init(KEYS, parts.params, grid(learning_rate=[0.0, 0.1]), parts.model_state)

    def score(state, key, valid):
        model = parts.merge(state)
        model.eval()
        return jnp.mean((model(valid["x"]) - valid["y"]) ** 2) + jnp.abs(model.norm.mean[...]).max()

    found = tune(step, states, TRAIN, VALID, score_fn=score, steps=2, over=None)
    model = parts.merge(jax.tree.map(lambda leaf: leaf[0], found.states))
    np.testing.assert_allclose(model.norm.mean[...], (1 - 0.99**2) * TRAIN["x"].mean(0), rtol=1e-5)


def test_data_outside_of_the_memory():
    """A callback loads the batch of a step."""
    pool = np.asarray(X)

    def load(step):
        return pool[int(step) : int(step) + 6]

    def batch(train, step, call=jax.pure_callback):
        x = call(load, jax.ShapeDtypeStruct((6, 4), jnp.float32), step)
        return {"x": x, "y": jnp.sin(x.sum(-1))}

    found = tune(STEP, start(), (), VALID, batch_fn=batch, score_fn=score_fn, steps=3)
    at_once = functools.partial(batch, call=lambda load, kind, step: jnp.asarray(load(step)))
    ((_, _, scores, _),) = by_hand(start(), (3,), (8,), at_once)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


def test_runs_on_several_devices():
    """On an explicit mesh; its devices share the last eight runs, but not the two that are chosen."""
    mesh = make_mesh((4,), ("runs",), (AxisType.Explicit,))
    runs = NamedSharding(mesh, PartitionSpec("runs"))
    states = jax.tree.map(lambda leaf: jax.device_put(leaf, runs), start())
    with jax.set_mesh(mesh):
        found = tune(STEP, states, TRAIN, VALID, batch_fn=batch_fn, score_fn=score_fn, steps=(2, 2))
    _, (_, last, scores, choice) = by_hand(start(), (2, 2), (4, 4))
    np.testing.assert_allclose(found.scores[last], scores, rtol=1e-5)
    assert found.choice.setting == choice.setting


def test_few_runs_of_a_mesh_are_trained_on_every_device():
    mesh = make_mesh((4,), ("runs",), (AxisType.Explicit,))
    init, step = sweep(recipe, mesh=mesh)
    one = start()
    states = init(one.key, one.params, one.hyper)
    options = {"batch_fn": batch_fn, "score_fn": score_fn, "factor": 8}
    found = tune(step, states, TRAIN, VALID, steps=(2, 2), **options)
    _, (_, last, scores, choice) = by_hand(one, (2, 2), (1, 1))
    assert len(last) == 2
    np.testing.assert_allclose(found.scores[last], scores, rtol=1e-5)
    assert found.choice.setting == choice.setting


def test_what_is_refused():
    """Before any step is taken."""
    states = start(RATES[:2])

    def refused(kind, words, states=states, step=STEP, **options):
        options = {"score_fn": score_fn, "steps": 1} | options
        with pytest.raises(kind, match=re.escape(words)):
            tune(step, states, TRAIN, VALID, **options)

    refused(TypeError, "`step` must be a function, got Trainer.", step=sweep(recipe))
    refused(TypeError, "`score_fn` must be a function, got NoneType.", score_fn=None)
    refused(TypeError, "`batch_fn` must be a function, got dict.", batch_fn={})
    refused(TypeError, "`progress` must be a function, got int.", progress=1)

    class Unhashable:
        __hash__ = None

        def __call__(self, *_):
            return 0.0

    refused(
        TypeError, "`score_fn` must be hashable, as functions are, got Unhashable.", score_fn=Unhashable()
    )
    refused(TypeError, "`states` must be the `TrainState` of a sweep, got dict.", states=states._asdict())
    one = jax.tree.map(lambda leaf: leaf[0], states)
    refused(ValueError, "`states` must be those of a sweep, with a leading axis of runs, got one run.", one)
    refused(TypeError, "by name, such as from `grid`, got an array.", states._replace(hyper=jnp.ones(4)))
    apart = states._replace(step=jnp.arange(4))
    refused(ValueError, "the same number of steps in all runs, got 0, 1, 2, 3.", apart)
    uneven = jax.tree.map(lambda leaf: leaf[:3], states)
    refused(ValueError, "`states` must hold the same number of runs of each setting, got 1, 2.", uneven)
    words = "`states` must hold each setting once for each value of 'seed', got one twice."
    refused(ValueError, words, start([0.1], [3, 3]))
    refused(ValueError, "`over` must be one of 'rate', 'seed', or None", over="seeds")
    refused(ValueError, "`simpler` must be one of 'rate', 'seed', got 'decay'.", simpler="decay")
    words = "two or more runs of each setting for the one-standard-error rule, got 1."
    refused(ValueError, words, start(RATES, [0]), simpler="rate")
    refused(ValueError, "`steps` must be at least 1, got 0.", steps=(1, 0))
    refused(TypeError, "`steps` must be an integer, got 1.5.", steps=1.5)
    refused(ValueError, "`steps` must hold the number of steps of one rung or more, got none.", steps=())
    refused(ValueError, "`factor` must be finite and above 1, got 1.", factor=1)
    refused(ValueError, "`factor` must be finite and above 1, got inf.", factor=np.inf)
    refused(TypeError, "`factor` must be a real number", factor="2")
    words = "`score_fn` must take `(state, key, valid)`, got one with: too many positional arguments."
    refused(TypeError, words, score_fn=lambda state, valid: 0.0)
    words = "`score_fn` must return a scalar score, got a tuple of an array, dict."
    refused(TypeError, words, score_fn=lambda *_: (jnp.ones(()), {}))
    words = "`score_fn` must return a scalar score, got shape (16,)."
    refused(ValueError, words, score_fn=lambda state, key, valid: TRAIN["y"])
    refused(TypeError, "`score_fn` must return a real score, got bool.", score_fn=lambda *_: jnp.array(True))
    words = "`batch_fn` must take `(train, step)`, got one with: too many positional arguments."
    refused(TypeError, words, batch_fn=lambda step: TRAIN)
    words = "`scores` must be finite for all runs of at least one setting, got none."
    refused(ValueError, words, score_fn=lambda *_: jnp.nan)
