"""Training: an init/step pair, compiled once, and the same pair under `vmap` as a sweep.

The key of a step is `fold_in(key, step)`, so the state holds no changing generator: a run resumed
from a saved state continues exactly as it would have.

The state of a model, such as batch statistics, is `TrainState.model_state`: give it to `init`, and the
loss takes it and returns the new one. `jaxdrop.nnx.trainable` makes the loss, the parameters and the
state from an NNX model.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from jaxdrop import _checks, _keys
from jaxdrop._extra_args import accept_extra_args
from jaxdrop._order import check_order
from jaxdrop._types import Key, PyTree
from jaxdrop.training import _devices, _loss_fn

__all__ = ["LossFn", "Recipe", "StatefulLossFn", "TrainState", "Trainer", "sweep", "trainer"]

# A loss of parameters, with a key: `loss_fn(params, key, batch) -> (loss, aux)`.
LossFn = Callable[[PyTree, Key, PyTree], tuple[jax.Array, PyTree]]
# A loss that changes a model state: `loss_fn(params, model_state, key, batch) -> (loss, (aux, model_state))`.
StatefulLossFn = Callable[[PyTree, PyTree, Key, PyTree], tuple[jax.Array, tuple[PyTree, PyTree]]]
# The loss and the optimizer of one run of a sweep: `recipe(hyper) -> (loss_fn, optimizer)`.
Recipe = Callable[[PyTree], tuple[LossFn | StatefulLossFn, optax.GradientTransformation]]
_Tree = TypeVar("_Tree")


class TrainState(NamedTuple):
    """The complete state of a run between two steps; a pytree.

    Attributes:
      step: Number of steps taken, an int32 scalar.
      key: The run's key, which never changes.
      params: Parameters.
      opt_state: Optimizer state.
      hyper: Hyper-parameters of the run; `()` outside a sweep.
      model_state: What the model updates besides its parameters, such as batch statistics; None for
        a loss without it.
    """

    step: jax.Array
    key: Key
    params: PyTree
    opt_state: optax.OptState
    hyper: PyTree = ()
    model_state: PyTree = None


class Trainer(NamedTuple):
    """A pair of functions, like optax's transformations; compiled.

    Attributes:
      init: `init(key, params, model_state=None) -> state`; in a sweep,
        `init(keys, params, hyper, model_state=None) -> state`.
      step: `step(state, batch) -> (state, (loss, aux))`, the form that `jax.lax.scan` takes.
    """

    init: Callable[..., TrainState]
    step: Callable[[TrainState, PyTree], tuple[TrainState, tuple[jax.Array, PyTree]]]


def trainer(
    loss_fn: LossFn | StatefulLossFn, optimizer: optax.GradientTransformation, *, donate: bool = False
) -> Trainer:
    """Makes the init/step pair of one run.

    A run on several devices follows the shardings of what it is given: `init` shards the optimizer state
    as the parameters and replicates the rest. Losses are those of one device to rounding, and with
    Threefry keys the masks are the same.

    Args:
      loss_fn: `loss_fn(params, key, batch) -> (loss, aux)`: a scalar and any tree of arrays. If `init`
        is given a model state, `loss_fn(params, model_state, key, batch) -> (loss, (aux,
        model_state))`, where the new state has the structure, shapes and dtypes of the old one. The
        key is new at every step; split it for several draws.
      optimizer: An optax transformation; weight decay belongs here. Optimizers that evaluate the
        loss again, such as line searches and `optax.contrib.sam`, do so with the same noise and the
        same model state. If one skips a step, the model state still changes.
      donate: Whether a step reuses the memory of the state that it is given, which is deleted. `init`
        then copies the parameters.

    Returns:
      `init(key, params, model_state=None)` and a jitted `step(state, batch)`. A step returns the loss
      before its update.

    Raises:
      TypeError: From `init`, if the key is not a PRNG key; from `step`, if the loss does not take
        the arguments or return the values above.
      ValueError: From `init`, if there are several keys, or a transformation of `jaxdrop.optim` stands in
        the wrong place of a chain; from `step`, if the loss is not a scalar, or
        the new model state is not like the old one.

    Examples:
      >>> import jaxdrop
      >>> def loss_fn(params, key, batch):
      ...     x = jaxdrop.dropout(key, batch["x"], 0.1)
      ...     loss = jnp.mean((x @ params["kernel"] - batch["y"]) ** 2)
      ...     return loss + jaxdrop.penalties.l2(params, 1e-4), {"mse": loss}
      >>> init, step = trainer(loss_fn, optax.adam(1e-2))
      >>> state = init(jax.random.key(0), {"kernel": jnp.zeros((3, 1))})
      >>> state, (loss, aux) = step(state, {"x": jnp.ones((8, 3)), "y": jnp.ones((8, 1))})
      >>> int(state.step), float(loss)
      (1, 1.0)

      With a state, the running mean of the inputs:

      >>> def loss_fn(params, mean, key, x):
      ...     mean = optax.incremental_update(x.mean(0), mean, 0.1)
      ...     return jnp.mean((jaxdrop.dropout(key, x - mean, 0.1) @ params) ** 2), ({}, mean)
      >>> init, step = trainer(loss_fn, optax.sgd(0.1))
      >>> state = init(jax.random.key(0), jnp.ones(3), jnp.zeros(3))
      >>> state, _ = step(state, jnp.ones((8, 3)))
      >>> state.model_state
      Array([0.1, 0.1, 0.1], dtype=float32)
    """
    init, step = _init_and_step(lambda _: (loss_fn, optimizer))
    begin = _copied(init) if donate else init
    start = jax.jit(begin)

    def init_one(key: Key, params: PyTree, model_state: PyTree = None) -> TrainState:
        parts = (_checks.check_key(key), params, (), model_state)
        home = None if _devices.is_traced(parts) else _devices.given(parts)
        return start(*parts) if home is None else _devices.begin(begin, parts, home)

    return Trainer(init_one, jax.jit(step, donate_argnums=0 if donate else ()))


def sweep(
    recipe: Recipe,
    *,
    donate: bool = False,
    mesh: Mesh | None = None,
    spec: PartitionSpec | None = None,
) -> Trainer:
    """Makes the init/step pair of a grid of runs, trained by one compiled program.

    Args:
      recipe: `recipe(hyper) -> (loss_fn, optimizer)`, the arguments of `trainer`. It is called
        under `jit`: the leaves of `hyper` are the run's scalars, such as a dropout rate, a decay or
        a penalty strength, and may be used wherever a traced scalar may.
      donate: Whether a step reuses the memory of the states that it is given, which are deleted.
        `init` then copies the parameters.
      mesh: The devices that runs are sharded over; they train without communication, and the results are
        those of one device. Replicated batches may be sharded over its other axes. None: one device, or
        the shardings of what `init` is given.
      spec: The mesh axes of runs, such as `PartitionSpec(("data", "fsdp"))`. None: the axis "runs".
        Other mesh axes are left to the compiler.

    Returns:
      `init(keys, params, hyper, model_state=None)` and a jitted `step(states, batch)`. Keys, parameters,
      model states and the leaves of `hyper` have a leading axis of runs, and so have the states and
      the results of a step; all runs share the batch. With Threefry keys, run i equals
      `trainer(*recipe(hyper[i]))` on key i, parameters i and model state i; draws from other keys
      depend on `vmap`.

    Raises:
      TypeError: If `mesh` or `spec` has a wrong type; from `init` and `step`, as from `trainer`.
      ValueError: If `spec` does not fit the mesh; from `init`, if the leading axes differ, the number of
        runs is not a multiple of the size of their mesh axes, or a transformation of `jaxdrop.optim`
        stands in the wrong place of a chain; from `step`, as from `trainer`.

    Examples:
      >>> import jaxdrop
      >>> def recipe(hyper):
      ...     def loss_fn(params, key, x):
      ...         y = jaxdrop.dropout(key, x, hyper["rate"]) @ params["kernel"]
      ...         return jnp.mean((y - 1) ** 2), {}
      ...     decay = optax.add_decayed_weights(hyper["decay"], mask=jaxdrop.penalties.weight_mask)
      ...     return loss_fn, optax.chain(decay, optax.sgd(0.1))
      >>> from jaxdrop.training import grid
      >>> hyper = grid(rate=[0.0, 0.2, 0.5], decay=[0.0, 1e-2])
      >>> keys = jax.random.split(jax.random.key(0), 6)
      >>> init, step = sweep(recipe)
      >>> states = init(keys, {"kernel": jnp.zeros((6, 3, 1))}, hyper)
      >>> states, (losses, _) = step(states, jnp.ones((8, 3)))
      >>> losses.shape
      (6,)
    """
    runs = _devices.of_runs(mesh, spec)
    init, step = _init_and_step(recipe)
    begin = jax.vmap(_copied(init) if donate else init)
    start = jax.jit(begin)

    def init_all(keys: Key, params: PyTree, hyper: PyTree, model_state: PyTree = None) -> TrainState:
        parts = (_keys.check_keys(keys), params, hyper, model_state)
        sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(parts)}
        if len(sizes) != 1 or () in sizes:
            found = sorted(str(size[0]) if size else "none" for size in sizes)
            names = "`keys`, `params` and `hyper`" if model_state is None else "all arguments"
            raise ValueError(f"{names} must share one leading axis of runs, got axes of {', '.join(found)}.")
        _devices.check_runs(len(keys), runs)
        home = None if _devices.is_traced(parts) else runs or _devices.given(parts, runs=True)
        return start(*parts) if home is None else _devices.begin(begin, parts, home)

    steps = jax.vmap(step, in_axes=(0, None))
    if runs is not None:
        steps = _devices.divided(steps, runs)
    return Trainer(init_all, jax.jit(steps, donate_argnums=0 if donate else ()))


def _apart(key: Key) -> Key:
    """The key, behind a barrier, so that XLA for a GPU derives the keys of all sites in one kernel."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jax.lax.optimization_barrier(key)
    words = jax.lax.optimization_barrier(jax.random.key_data(key))
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def _init_and_step(recipe: Recipe) -> Trainer:
    def init(key: Key, params: PyTree, hyper: PyTree, model_state: PyTree) -> TrainState:
        _, optimizer = recipe(hyper)
        zero = jnp.zeros((), jnp.int32)
        opt_state = optimizer.init(params)
        check_order(opt_state)
        return TrainState(zero, key, params, opt_state, hyper, model_state)

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, tuple[jax.Array, PyTree]]:
        loss_fn, optimizer = recipe(state.hyper)
        key = _apart(jax.random.fold_in(state.key, state.step))
        evaluate = _loss_fn.checked(loss_fn, state.model_state, batch)
        value_and_grad = jax.value_and_grad(evaluate, has_aux=True)
        (loss, (aux, model_state)), grads = value_and_grad(state.params, key)

        def value_fn(
            params: PyTree, obj_fn: Callable | None = None, grad_fn: Callable | None = None
        ) -> jax.Array:
            # The clone gives the same noise on purpose. A line search passes `obj_fn` and `grad_fn` on.
            return evaluate(params, jax.random.clone(key))[0]

        def grad_fn(params: PyTree, _: object) -> PyTree:
            return jax.grad(value_fn)(params)

        # Arguments of line searches, Sophia and SAM; other transformations never see them.
        extra = {"value": loss, "grad": grads, "value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}
        update = accept_extra_args(optimizer)
        updates, opt_state = update(grads, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        new = TrainState(state.step + 1, state.key, params, opt_state, state.hyper, model_state)
        return new, (loss, aux)

    return Trainer(init, step)


def _copied(init: Callable[..., _Tree]) -> Callable[..., _Tree]:
    """An `init` whose result shares no memory with its arguments: a step will delete it."""
    return lambda *parts: jax.tree.map(jnp.copy, init(*parts))
