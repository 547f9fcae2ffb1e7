"""A small valid call of every public function that is not of `mc` or `uncertainty`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

import jaxdrop
from jaxdrop import adapters, losses, optim, penalties, schedules, training
from jaxdrop._types import PyTree
from tests.calls.arrays import KERNEL, KEY, LOGITS, PARAMS, RATE, Call, X, call
from tests.family import FAMILY

WHOLE = jnp.arange(32).reshape(8, 4)
ENDS = {"senders": jnp.arange(8) % 3, "receivers": jnp.arange(8) % 2}
LAYERS = {"kernel": jnp.stack([KERNEL] * 8), "bias": jnp.ones((8, 3))}
SOFT = jax.nn.softmax(LOGITS[0])
MASK = jnp.arange(24).reshape(4, 6) % 3 != 0

# What `tests.family` calls in one way only, and what it leaves out.
DROPS: dict[str, Call] = {
    "block_mask": call(lambda key: jaxdrop.block_mask(key, (8, 4, 6), 0.3, block_size=3), KEY),
    "concrete_dropout": call(jaxdrop.concrete_dropout, KEY, X, jnp.zeros(6)),
    "concrete_dropout of maps": call(
        lambda key, x, logit, kernel: jaxdrop.concrete_dropout(
            key, x, logit, kernel=kernel, broadcast_dims=(1,)
        ),
        KEY,
        X,
        jnp.zeros(6),
        jnp.ones((3, 6, 5)),
    ),
    "dot_product_attention of groups": call(
        lambda key, x, bias, mask, rate: jaxdrop.dot_product_attention(
            key,
            jnp.stack([x, -x], -1)[..., None],
            x[..., None, None],
            jnp.stack([x, -x], -1)[..., None, :],
            rate,
            bias=bias,
            mask=mask,
            is_causal=True,
            logits_soft_cap=5.0,
            block_size=2,
        ),
        KEY,
        X[:, :, 0],
        jnp.zeros((8, 2, 4, 4)),
        MASK[None, None, :, :4],
        RATE,
    ),
    "dot_product_attention of segments": call(
        lambda key, x, ids, lengths: jaxdrop.dot_product_attention(
            key,
            x,
            x,
            x,
            0.3,
            local_window_size=(2, 1),
            query_segment_ids=ids,
            key_value_segment_ids=ids,
            key_value_seq_lengths=lengths,
            regularizer=jaxdrop.drop_key,
            block_size=2,
        ),
        KEY,
        X[:, :, None],
        WHOLE // 3,
        3 + WHOLE[:, 0] // 4 % 2,
    ),
    "drop_edge": call(jaxdrop.drop_edge, KEY, jnp.ones(8), RATE),
    "drop_edge of a graph": call(
        lambda key, weights, ends: jaxdrop.drop_edge(
            key, weights, 0.3, num_nodes=3, undirected=True, renormalize=True, **ends
        ),
        KEY,
        jnp.ones(8),
        ENDS,
    ),
    "drop_key of a mask": call(lambda key, x, mask: jaxdrop.drop_key(key, x, 0.3, mask=mask), KEY, X, MASK),
    "drop_key_mask": call(lambda key: jaxdrop.drop_key_mask(key, (8, 4, 6), 0.3), KEY),
    "cutmix": call(jaxdrop.cutmix, KEY, X, SOFT, RATE),
    "cutmix of boxes per example": call(
        lambda key, x, y, alpha: jaxdrop.cutmix(key, x, y, alpha, per_example=True, channel_axis=1),
        KEY,
        X[..., None],
        SOFT,
        RATE,
    ),
    "manifold_mixup": call(
        lambda key, x, y, alpha: jaxdrop.manifold_mixup(key, [jnp.tanh, jnp.sin], x, y, alpha),
        KEY,
        X,
        SOFT,
        RATE,
    ),
    "drop_node": call(jaxdrop.drop_node, KEY, X[:, 0], RATE),
    "masksembles": call(jaxdrop.masksembles, X, jnp.arange(24).reshape(4, 6) % 3 == 0),
    "masksembles_masks": call(lambda key: jaxdrop.masksembles_masks(key, 6, 4, 2.0), KEY),
    "mixup": call(jaxdrop.mixup, KEY, X, SOFT, RATE),
    "mixout": call(jaxdrop.mixout, KEY, PARAMS, {"kernel": -KERNEL, "bias": jnp.ones(3)}, RATE),
    "shakeout": call(
        lambda key, x, kernel, rate: jaxdrop.shakeout(key, x, kernel, rate, constant=0.1),
        KEY,
        X,
        KERNEL,
        RATE,
    ),
    "neftune of a mask": call(
        lambda key, x, alpha, mask: jaxdrop.neftune(key, x, alpha, mask=mask), KEY, X, RATE, WHOLE[:, :1] > 4
    ),
    "shake_drop_mean": call(jaxdrop.shake_drop_mean, X, RATE),
    "sparse_kernel": call(jaxdrop.sparse_kernel, KERNEL, 0 * KERNEL),
    "sparse_variational_dropout": call(jaxdrop.sparse_variational_dropout, KEY, X, KERNEL, 0 * KERNEL - 1),
    "standout": call(jaxdrop.standout, KEY, X, -X),
    "standout_mean": call(jaxdrop.standout_mean, X, X),
    "targeted_dropout": call(
        lambda key, kernel, rate: jaxdrop.targeted_dropout(key, kernel, rate, fraction=0.5),
        KEY,
        jnp.concatenate([KERNEL, 2 * KERNEL]),
        RATE,
    ),
    "variational_dropout": call(jaxdrop.variational_dropout, KEY, X, KERNEL, -jnp.ones(())),
    "word_dropout": call(
        lambda key, tokens, rate: jaxdrop.word_dropout(key, tokens, rate, replacement=0, protected=(3,)),
        KEY,
        WHOLE,
        RATE,
    ),
    "zoneout": call(jaxdrop.zoneout, KEY, X, -X, RATE),
    "zoneout_mean": call(jaxdrop.zoneout_mean, X, -X, RATE),
}
DROPS |= {
    member.name: call(member.pure, KEY, X, RATE)
    if member.traced
    else call(lambda key, x, member=member: member.pure(key, x, 0.3), KEY, X)
    for member in FAMILY
    if member.name not in DROPS
}

MASKS = {
    "apply_mask": call(jaxdrop.apply_mask, X, MASK, RATE),
    "keep_mask": call(lambda key, rate: jaxdrop.keep_mask(key, (8, 6), rate), KEY, RATE),
    "spatial_mask": call(lambda key, rate: jaxdrop.spatial_mask(key, (8, 4, 6), rate), KEY, RATE),
}
ADAPTERS = {
    "dropout1d": call(adapters.dropout1d, KEY, X, RATE),
    "dropout2d": call(adapters.dropout2d, KEY, X, RATE),
    "dropout3d": call(adapters.dropout3d, KEY, X[..., None], RATE),
    "keras_dropout": call(
        lambda key, x, rate: adapters.keras_dropout(key, x, rate, noise_shape=(None, 1, 6)), KEY, X, RATE
    ),
}
PENALTIES = {
    "activity": call(lambda x, strength: penalties.activity(x, (strength, 0.5)), X, RATE),
    "group_lasso": call(penalties.group_lasso, PARAMS, RATE),
    "kl_sparsity": call(
        lambda x, strength: penalties.kl_sparsity(x, strength, target=0.1), jax.nn.sigmoid(X), RATE
    ),
    "l1": call(penalties.l1, PARAMS, RATE),
    "l1_l2": call(lambda params, strength: penalties.l1_l2(params, (strength, 0.5)), PARAMS, RATE),
    "l2": call(lambda params, strength: penalties.l2(params, strength, where=[("k*", 2.0)]), PARAMS, RATE),
    "l2_sp": call(penalties.l2_sp, PARAMS, {"kernel": -KERNEL, "bias": jnp.ones(3)}, RATE),
    "orthogonal": call(penalties.orthogonal, PARAMS, RATE),
    "orthogonal of layers": call(
        lambda params, strength: penalties.orthogonal(params, strength, stacked=[("*", 0)]), LAYERS, RATE
    ),
    "weight_mask": call(lambda params: jax.tree.map(jnp.asarray, penalties.weight_mask(params)), PARAMS),
}
LOSSES = {
    "activation_regularization": call(losses.activation_regularization, X, RATE),
    "expectation_linear": call(losses.expectation_linear, X, -X),
    "multi_sample": call(
        lambda key, x: losses.multi_sample(key, lambda key: jaxdrop.dropout(key, x, 0.5).sum(), 3), KEY, X
    ),
    "r_drop": call(losses.r_drop, X, -X),
    "reg_mixup": call(
        lambda key, x, y, alpha, strength: losses.reg_mixup(
            key,
            lambda _, x, y: sum(jnp.sum(a**2, dtype=jnp.float32) for a in (x, y)),
            x,
            y,
            alpha,
            strength=strength,
        ),
        KEY,
        X,
        SOFT,
        RATE,
        RATE,
    ),
    "temporal_activation_regularization": call(losses.temporal_activation_regularization, X, RATE),
}
STEPS = jnp.arange(8)
SCHEDULES = {
    "constant": call(lambda rate, step: schedules.constant(rate)(step), RATE, STEPS),
    "curriculum": call(lambda rate, step: schedules.curriculum(rate, 0.1)(step), RATE, STEPS),
    "depth_rates": Call(lambda: jnp.asarray(schedules.depth_rates(0.3, 4)), (), traced=False),
    "early": call(lambda rate, step: schedules.early(rate, 4)(step), RATE, STEPS),
    "early of a decay": call(lambda rate, step: schedules.early(rate, 4, decay=True)(step), RATE, STEPS),
    "late": call(lambda rate, step: schedules.late(rate, 4)(step), RATE, STEPS),
    "linear": call(lambda rate, step: schedules.linear(0.1, rate, 4)(step), RATE, STEPS),
}


def stepped(make: Callable[..., optax.GradientTransformation], *strengths: jax.Array) -> Call:
    """Two steps of an optimizer from these strengths."""

    def run(params: PyTree, grads: PyTree, *strengths: jax.Array) -> PyTree:
        optimizer = make(*strengths)
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    return call(run, PARAMS, {"kernel": 0.1 * KERNEL, "bias": jnp.ones(3)}, *strengths)


def not_halted(params: PyTree) -> PyTree:
    state = optim.halt_on_nonfinite(optax.sgd(0.1)).init(params)
    optim.raise_if_halted(state)
    return state.step


OPTIM = {
    "coupled_l2": stepped(lambda c: optax.chain(optim.coupled_l2(c), optax.sgd(0.1)), RATE),
    "decoupled_l2": stepped(lambda c: optim.decoupled_l2(c, 0.1), RATE),
    "halt_on_nonfinite": stepped(lambda: optim.halt_on_nonfinite(optax.sgd(0.1))),
    "max_norm": stepped(lambda c: optim.max_norm(c), RATE),
    "non_negative": stepped(optim.non_negative),
    "proximal_elastic_net": stepped(lambda c: optim.proximal_elastic_net((c, 0.1), 0.1), RATE),
    "proximal_group_lasso": stepped(lambda c: optim.proximal_group_lasso(c, 0.1), RATE),
    "proximal_l1": stepped(lambda c: optim.proximal_l1(c, 0.1), RATE),
    "projection_max_norm": call(optim.projection_max_norm, PARAMS, RATE),
    "projection_max_norm of layers": call(
        lambda params, limit: optim.projection_max_norm(params, limit, stacked=[("*", 0)]), LAYERS, RATE
    ),
    "projection_non_negative": call(optim.projection_non_negative, PARAMS),
    "projection_unit_norm": call(optim.projection_unit_norm, PARAMS),
    "raise_if_halted": Call(not_halted, (PARAMS,), traced=False),
    "unit_norm": stepped(optim.unit_norm),
}


def loss_fn(params: PyTree, key: jax.Array, batch: jax.Array, rate: jax.Array | float = 0.3) -> PyTree:
    y = jaxdrop.dropout(key, batch, rate) * params["kernel"].sum(-1).reshape(1, 1, 6) + params["bias"][0]
    return jnp.mean(y**2), {"y": y}


def trained(params: PyTree, key: jax.Array, batch: jax.Array) -> PyTree:
    init, step = training.trainer(loss_fn, optax.sgd(0.1))
    state, (loss, _) = step(init(key, params), batch)
    return state.params, loss


def trained_with_state(params: PyTree, key: jax.Array, batch: jax.Array) -> PyTree:
    def with_mean(params: PyTree, mean: jax.Array, key: jax.Array, batch: jax.Array) -> PyTree:
        loss, aux = loss_fn(params, key, batch)
        return loss, (aux, (mean + batch.mean()) / 2)

    init, step = training.trainer(with_mean, optax.sgd(0.1))
    state, (loss, _) = step(init(key, params, jnp.zeros((), batch.dtype)), batch)
    return state.params, state.model_state, loss


def swept(params: PyTree, key: jax.Array, batch: jax.Array, hyper: PyTree) -> PyTree:
    def recipe(hyper: PyTree) -> tuple[training.LossFn, optax.GradientTransformation]:
        return lambda *args: loss_fn(*args, hyper["rate"]), optax.sgd(0.1)

    init, step = training.sweep(recipe)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    state, (loss, _) = step(init(jax.random.split(key, 2), both, hyper), batch)
    return state.params, loss


def tuned(params: PyTree, key: jax.Array, batch: jax.Array, hyper: PyTree) -> PyTree:
    def recipe(hyper: PyTree) -> tuple[training.LossFn, optax.GradientTransformation]:
        return lambda *args: loss_fn(*args, hyper["rate"]), optax.sgd(0.1)

    def score_fn(state: training.TrainState, key: jax.Array, valid: jax.Array) -> jax.Array:
        return loss_fn(state.params, key, valid, state.hyper["rate"])[0]

    init, step = training.sweep(recipe)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    states = init(jax.random.split(key, 2), both, hyper)
    found = training.tune(step, states, batch, batch, score_fn=score_fn, steps=(1, 1), over=None)
    return found.states.params, jnp.asarray(found.scores)


def chosen(scores: jax.Array) -> PyTree:
    choice = training.choose(training.grid(rate=[0.1, 0.2, 0.3], seed=[0, 1]), scores)
    return jnp.asarray(choice.mean), jnp.asarray(choice.rank)


TRAINING = {
    "choose": Call(chosen, (LOGITS[0, :6, 0],), traced=False),
    "grid": call(lambda rate: training.grid(rate=rate, seed=jnp.arange(3)), LOGITS[0, :2, 0]),
    "sweep": call(swept, PARAMS, KEY, X, {"rate": jnp.array([0.2, 0.5])}),
    "trainer": call(trained, PARAMS, KEY, X),
    "trainer of a model with state": call(trained_with_state, PARAMS, KEY, X),
    "tune": Call(tuned, (PARAMS, KEY, X, {"rate": jnp.array([0.2, 0.5])}), traced=False),
}
FUNCTIONS = {
    f"{module}.{name}": one
    for module, calls in {
        "adapters": ADAPTERS,
        "drops": DROPS,
        "losses": LOSSES,
        "masks": MASKS,
        "optim": OPTIM,
        "penalties": PENALTIES,
        "schedules": SCHEDULES,
        "training": TRAINING,
    }.items()
    for name, one in calls.items()
}
