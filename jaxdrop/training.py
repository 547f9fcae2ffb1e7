"""Training: an init/step pair under `jit`, and the same pair under `vmap` as a sweep.

The key of a step is `fold_in(key, step)`, so a state holds no generator that moves: a run resumed
from a saved state goes on exactly as it would have.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdrop._types import ArrayLike, Key

__all__ = ["LossFn", "Recipe", "TrainState", "Trainer", "grid", "sweep", "trainer"]


def __dir__() -> list[str]:
    """The public names."""
    return __all__


LossFn = Callable[[Any, Key, Any], tuple[jax.Array, Any]]
Recipe = Callable[[Any], tuple[LossFn, optax.GradientTransformation]]


class TrainState(NamedTuple):
    """All that a run is, between two steps; a pytree.

    Attributes:
      step: How many steps have been taken, an int32 scalar.
      key: The run's key, which never changes.
      params: The parameters.
      opt_state: The state of the optimizer.
      hyper: The hyper-parameters of the run; `()` outside a sweep.
    """

    step: jax.Array
    key: Key
    params: Any
    opt_state: optax.OptState
    hyper: Any = ()


class Trainer(NamedTuple):
    """A pair of jitted functions, in the manner of optax.

    Attributes:
      init: `init(key, params) -> state`; in a sweep, `init(keys, params, hyper) -> state`.
      step: `step(state, batch) -> (state, (loss, aux))`, as `jax.lax.scan` wants it.
    """

    init: Callable[..., TrainState]
    step: Callable[[TrainState, Any], tuple[TrainState, tuple[jax.Array, Any]]]


def trainer(loss_fn: LossFn, optimizer: optax.GradientTransformation) -> Trainer:
    """Makes the init/step pair of one run.

    Args:
      loss_fn: `loss_fn(params, key, batch) -> (loss, aux)`: a scalar and any tree of arrays. The
        key is new at every step; give each draw its own part of it.
      optimizer: Any optax transformation; weight decay belongs here. One that evaluates the loss
        again, such as a line search or `optax.contrib.sam`, does so with the step's own noise.

    Returns:
      `init(key, params)` and `step(state, batch)`, jitted. The loss that a step returns is the one
      before its update.

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
    """
    init, step = _init_and_step(lambda _: (loss_fn, optimizer))
    return Trainer(jax.jit(init), jax.jit(step))


def sweep(recipe: Recipe) -> Trainer:
    """Makes the init/step pair of a whole grid of runs, trained by one compiled program.

    Args:
      recipe: `recipe(hyper) -> (loss_fn, optimizer)`, as for `trainer`. It is called under a
        trace: the leaves of `hyper` are the run's own scalars, such as a dropout rate, a decay or
        a penalty strength, and may go wherever a traced scalar may.

    Returns:
      `init(keys, params, hyper)` and `step(states, batch)`, jitted. Keys, parameters and the leaves
      of `hyper` have a leading axis of runs, and so has everything in the states and in what a
      step returns; the batch is shared by all runs. Run i is what `trainer(*recipe(hyper[i]))`
      makes of key i and parameters i, for keys of Threefry; what JAX draws from others depends on `vmap`.

    Raises:
      ValueError: From `init`, if the leading axes differ.

    Examples:
      >>> import jaxdrop
      >>> def recipe(hyper):
      ...     def loss_fn(params, key, x):
      ...         y = jaxdrop.dropout(key, x, hyper["rate"]) @ params["kernel"]
      ...         return jnp.mean((y - 1) ** 2), {}
      ...     decay = optax.add_decayed_weights(hyper["decay"], mask=jaxdrop.penalties.weight_mask)
      ...     return loss_fn, optax.chain(decay, optax.sgd(0.1))
      >>> hyper = grid(rate=[0.0, 0.2, 0.5], decay=[0.0, 1e-2])
      >>> keys = jax.random.split(jax.random.key(0), 6)
      >>> init, step = sweep(recipe)
      >>> states = init(keys, {"kernel": jnp.zeros((6, 3, 1))}, hyper)
      >>> states, (losses, _) = step(states, jnp.ones((8, 3)))
      >>> losses.shape
      (6,)
    """
    init, step = _init_and_step(recipe)

    def init_all(keys: Key, params: Any, hyper: Any) -> TrainState:
        sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves((keys, params, hyper))}
        if len(sizes) != 1 or () in sizes:
            found = sorted(str(size[0]) if size else "none" for size in sizes)
            raise ValueError(
                "`keys`, `params` and `hyper` must share one leading axis of runs, "
                f"got axes of {', '.join(found)}."
            )
        return jax.vmap(init)(keys, params, hyper)

    return Trainer(jax.jit(init_all), jax.jit(jax.vmap(step, in_axes=(0, None))))


def grid(**axes: Sequence | ArrayLike) -> Mapping[str, jax.Array]:
    """Every combination of some values, as arrays of one leading axis; the last name runs fastest.

    Args:
      **axes: For each name, the values it takes: a non-empty sequence of scalars.

    Returns:
      For each name, an array with one value for each combination.

    Raises:
      ValueError: If an axis is empty or not one-dimensional.

    Examples:
      >>> grid(seed=[0, 1], rate=[0.0, 0.5])["rate"]
      Array([0. , 0.5, 0. , 0.5], dtype=float32)
    """
    columns = {name: jnp.asarray(values) for name, values in axes.items()}
    for name, column in columns.items():
        if column.ndim != 1 or column.size == 0:
            raise ValueError(f"`{name}` must be a non-empty list of scalars, got shape {column.shape}.")
    meshes = jnp.meshgrid(*columns.values(), indexing="ij")
    return {name: mesh.ravel() for name, mesh in zip(columns, meshes, strict=True)}


def accept_extra_args(optimizer: optax.GradientTransformation) -> optax.TransformUpdateExtraArgsFn:
    """The optimizer's `update`, which may be given more than it asks for."""
    update = optax.with_extra_args_support(optimizer).update
    asked = inspect.signature(update).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked):
        return update
    names = {parameter.name for parameter in asked}

    def call(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return update(updates, state, params, **{name: extra[name] for name in names & extra.keys()})

    return call


def _init_and_step(recipe: Recipe) -> Trainer:
    def init(key: Key, params: Any, hyper: Any = ()) -> TrainState:
        _, optimizer = recipe(hyper)
        return TrainState(jnp.zeros((), jnp.int32), key, params, optimizer.init(params), hyper)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, tuple[jax.Array, Any]]:
        loss_fn, optimizer = recipe(state.hyper)
        key = jax.random.fold_in(state.key, state.step)
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, aux), grads = value_and_grad(state.params, key, batch)

        def value_fn(params: Any, obj_fn: Any = None, grad_fn: Any = None) -> jax.Array:
            # With the same noise, and that on purpose. A line search passes on what it does not know.
            return loss_fn(params, jax.random.clone(key), batch)[0]

        def grad_fn(params: Any, _: Any) -> Any:
            return jax.grad(value_fn)(params)

        # What line searches, Sophia and SAM ask for; other transformations never see it.
        extra = {"value": loss, "grad": grads, "value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}
        update = accept_extra_args(optimizer)
        updates, opt_state = update(grads, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, state.key, params, opt_state, state.hyper), (loss, aux)

    return Trainer(init, step)
