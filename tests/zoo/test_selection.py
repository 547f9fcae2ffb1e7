"""Which leaves of other libraries' models are weights, also where layers are stacked."""

import jax
import jax.numpy as jnp
import pytest

from jaxdrop import _selection, optim, penalties

KEY = jax.random.key(0)


def chosen(params) -> set[str]:
    """The paths of the weights."""
    mask = jax.tree.leaves(penalties.weight_mask(params))
    return {path for path, use in zip(_selection.paths(params), mask, strict=True) if use}


@pytest.fixture
def _loose_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


pytestmark = pytest.mark.usefixtures("_loose_ranks")


def test_haiku():
    hk = pytest.importorskip("haiku")

    def net(x):
        x = hk.Linear(4)(hk.LayerNorm(-1, True, True)(x))
        return hk.GRU(4)(x, jnp.zeros((2, 4)))[0] + hk.Embed(5, 4)(jnp.arange(2))

    model = hk.transform(net)
    stacked = jax.vmap(model.init, (0, None))(jax.random.split(KEY, 3), jnp.ones((2, 4)))
    for params in (stacked, model.init(KEY, jnp.ones((2, 4)))):
        assert chosen(params) == {"linear/w", "gru/w_i", "gru/w_h", "embed/embeddings"}


def test_a_layer_stack_of_haiku():
    hk = pytest.importorskip("haiku")

    def net(x):
        return hk.experimental.layer_stack(3)(lambda x: hk.Linear(4)(x))(x)

    params = hk.transform(net).init(KEY, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"`stacked` must name .*/w, whose shape \(3, 4, 4\)"):
        optim.projection_unit_norm(params, unit_axis=(-1,), where=lambda path, leaf: path.endswith("w"))
    (found,) = optim.projection_unit_norm(params, stacked=[("*", 0)]).values()
    assert jnp.allclose(jnp.linalg.norm(found["w"], axis=1), 1)


def test_equinox():
    eqx = pytest.importorskip("equinox")

    def make(key):
        layers = [eqx.nn.Linear(4, 4, key=key), eqx.nn.LayerNorm(4), eqx.nn.Conv2d(2, 3, 3, key=key)]
        return {"net": eqx.nn.Sequential(layers), "cell": eqx.nn.GRUCell(2, 3, key=key)}

    expected = {"net/layers/0/weight", "net/layers/2/weight", "cell/weight_ih", "cell/weight_hh"}
    for model in (make(KEY), eqx.filter_vmap(make)(jax.random.split(KEY, 3))):
        params = eqx.filter(model, eqx.is_inexact_array)
        assert chosen(params) == expected
        with pytest.raises(ValueError, match="`unit_axis` must be given for cell/weight_"):
            optim.projection_unit_norm(params)
    found = optim.projection_unit_norm(params, unit_axis=(0, 1))["net"].layers[0].weight
    assert jnp.allclose(jnp.linalg.norm(found, axis=2), 1)


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("Bert", {"word_embeddings", "token_type_embeddings"}),
        ("GPT2", {"wte"}),
        ("ViT", set()),
        ("T5", {"shared"}),
    ],
)
def test_transformers(name, tables, monkeypatch):
    transformers = pytest.importorskip("transformers", minversion="4.57", exc_type=ImportError)
    pytest.importorskip("transformers.modeling_flax_utils", reason="transformers 5 has no Flax models")
    sizes = {
        "Bert": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9},
        "GPT2": {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 9},
        "ViT": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8}
        | {"patch_size": 4},
        "T5": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 9},
    }
    config = getattr(transformers, f"{name}Config")(**sizes[name])
    clip = jnp.clip
    monkeypatch.setattr(jnp, "clip", lambda x, a_min=None, a_max=None, **rest: clip(x, a_min, a_max, **rest))
    params = getattr(transformers, f"Flax{name}Model")(config, _do_init=False).init_weights(
        KEY, (1, 8, 8, 3) if name == "ViT" else (1, 4)
    )
    found = chosen(params)
    assert {path.split("/")[-2] for path in found if path.endswith("/embedding")} == tables
    kernels = {path for path in _selection.paths(params) if path.endswith("/kernel")}
    assert found == kernels | {path for path in found if path.endswith("/embedding")}
