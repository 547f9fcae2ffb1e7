"""The network: the same in both APIs and with both drop paths, and as convolutions of XLA."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.resnet import networks
from tests.normals import standard_normal

SHAPE = networks.Shape((4, 6), 1)
RATE = 0.6
PARAMS, STATE = networks.init(SHAPE, 0, 8)
X = standard_normal(1, (8, 8, 8, 1))


def linen(drop_path: str, key: jax.Array, other: jax.Array | None = None) -> tuple[np.ndarray, Any]:
    """Logits in training mode and new batch statistics; of the other key too, if given, which must differ."""
    net = networks.LinenResNet(SHAPE, RATE, networks.LINEN_DROP_PATHS[drop_path])
    apply = jax.jit(lambda key: net.apply({"params": PARAMS, **STATE}, X, key, mutable=["batch_stats"]))
    logits, new = apply(key)
    assert other is None or not np.allclose(apply(other)[0], logits, atol=1e-3)
    return np.asarray(logits), new["batch_stats"]


def in_nnx(drop_path: str, key: jax.Array) -> tuple[np.ndarray, Any]:
    model = networks.nnx_model(SHAPE, RATE, PARAMS, STATE, drop_path)
    logits = nnx.jit(lambda model, key: model(X, nnx.Rngs(dropout=key)))(model, key)
    return np.asarray(logits), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_both_apis_and_both_drop_paths_draw_the_same_masks():
    key = jax.random.key(2)
    logits, stats = linen("Flax", key, jax.random.key(3))
    for other, others_stats in (linen("jaxdrop", key), in_nnx("Flax", key), in_nnx("jaxdrop", key)):
        np.testing.assert_allclose(other, logits, atol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), dict(others_stats), dict(stats)
        )


def normalized(x: jax.Array, params: Any, stats: Any) -> jax.Array:
    return jax.nn.relu((x - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"])


def convolved(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution by XLA, of 3 x 3 or 1 x 1."""
    side = 3 if kernel.shape[0] == 9 * x.shape[-1] else 1
    kernel, pad = kernel.reshape(side, side, x.shape[-1], -1), (side // 2, side // 2)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.usefixtures("compiled_in_haste")
def test_evaluation_is_that_of_xla_convolutions():
    params, stats = (
        jax.tree.map(lambda leaf: leaf + 0.3 * np.sin(np.arange(leaf.size)).reshape(leaf.shape), tree)
        for tree in jax.device_get((PARAMS, STATE["batch_stats"]))
    )

    @jax.jit
    def reference(x: jax.Array) -> jax.Array:
        x = x.reshape(8, 4, 2, 4, 2, 1).mean((2, 4))
        x = convolved(x, params["stem"]["kernel"], 2)
        for i, stride in enumerate((1, 2)):
            own, mine = params[f"block_{i}"], stats[f"block_{i}"]
            y = normalized(x, own["norm_0"], mine["norm_0"])
            x = convolved(y, own["shortcut"]["kernel"], stride) if "shortcut" in own else x
            y = normalized(convolved(y, own["conv_0"]["kernel"], stride), own["norm_1"], mine["norm_1"])
            x = x + convolved(y, own["conv_1"]["kernel"])
        x = normalized(x, params["norm"], stats["norm"]).mean((1, 2))
        return x @ params["out"]["kernel"] + params["out"]["bias"]

    found = jax.jit(networks.LinenResNet(SHAPE, RATE).apply)({"params": params, "batch_stats": stats}, X)
    np.testing.assert_allclose(found, reference(X), rtol=1e-4, atol=1e-4)


def test_the_rate_grows_with_depth():
    blocks = networks.Shape((4, 8), 2).blocks()
    assert blocks == [(4, 4, 1, 0.25), (4, 4, 1, 0.5), (4, 8, 2, 0.75), (8, 8, 1, 1.0)]


def test_only_kernels_decay():
    optimizer = networks.optimizer(0.1, 0.5, 10)
    zeros = jax.tree.map(np.zeros_like, PARAMS)
    update = jax.jit(lambda params: optimizer.update(zeros, optimizer.init(params), params)[0])
    updates = update(PARAMS)
    moved = {path[-1].key for path, leaf in jax.tree_util.tree_leaves_with_path(updates) if leaf.any()}
    assert moved == {"kernel"}
