"""Predictors of models of `transformers`, unmodified, against their own training mode."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core.scope import Scope

import jaxdrop.linen as jl
from jaxdrop import mc
from tests.normals import standard_normal

transformers = pytest.importorskip("transformers", minversion="4.57", exc_type=ImportError)
pytest.importorskip("transformers.modeling_flax_utils", reason="transformers 5 has no Flax models")
pytestmark = pytest.mark.usefixtures("compiled_in_haste", "_without_strict_ranks")

KEY = jax.random.key(0)
IDS = jnp.arange(20).reshape(2, 10) % 30 + 1
IMAGES = standard_normal(KEY, (2, 32, 32, 3))
POSITIONS = jnp.broadcast_to(jnp.arange(10), IDS.shape)
TOKENS = {"input_ids": IDS, "attention_mask": jnp.ones_like(IDS)}
PAIRS = TOKENS | {"decoder_input_ids": IDS, "decoder_attention_mask": jnp.ones_like(IDS)}
TEXT = TOKENS | {"position_ids": POSITIONS}
SEGMENTS = TEXT | {"token_type_ids": jnp.zeros_like(IDS)}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BERT = SIZES | {"vocab_size": 40, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3}
PATCHES = {"image_size": 32, "patch_size": 8}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
LAYERS = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "d_model": 16,
}


class Family(NamedTuple):
    """The name of a family, its configuration, its inputs, and options of its call that are None."""

    name: str
    config: dict[str, Any]
    inputs: dict[str, jax.Array]
    options: tuple[str, ...] = ()
    streams: tuple[str, ...] = ("dropout",)


FAMILIES = [
    Family("Bert", BERT, SEGMENTS, ("head_mask",)),
    Family("Roberta", BERT, SEGMENTS, ("head_mask",)),
    Family("Electra", BERT | {"embedding_size": 16}, SEGMENTS, ("head_mask",)),
    Family(
        "DistilBert", {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}, TOKENS
    ),
    Family("GPT2", {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}, TEXT),
    Family("Llama", SIZES | {"vocab_size": 40, "attention_dropout": 0.2}, TEXT),
    Family("ViT", BERT | PATCHES, {"pixel_values": IMAGES}),
    Family(
        "Beit",
        BERT | PATCHES | {"drop_path_rate": 0.3},
        {"pixel_values": IMAGES},
        (),
        ("dropout", "droppath"),
    ),
    Family(
        "CLIP",
        {
            "text_config": SIZES | {"vocab_size": 40, "attention_dropout": 0.3},
            "vision_config": SIZES | PATCHES | {"attention_dropout": 0.3},
        },
        TEXT | {"pixel_values": IMAGES},
    ),
    Family(
        "T5",
        {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
        PAIRS,
    ),
    # `encoder_layerdrop` stays 0: it skips layers by Python's own random numbers while it is traced.
    Family(
        "Bart",
        LAYERS | HEADS | {"vocab_size": 40, "attention_dropout": 0.2, "activation_dropout": 0.1},
        PAIRS | {"position_ids": POSITIONS, "decoder_position_ids": POSITIONS},
    ),
    Family(
        "Wav2Vec2",
        SIZES
        | {
            "vocab_size": 40,
            "conv_dim": (8, 8),
            "conv_stride": (4, 4),
            "conv_kernel": (8, 8),
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 2,
            "do_stable_layer_norm": True,
            "feat_extract_norm": "layer",
        },
        {"input_values": standard_normal(KEY, (2, 400))},
    ),
]
BY_HAND = {"Bert", "Roberta", "Electra", "GPT2", "Llama", "ViT", "Beit", "CLIP", "T5"}


@pytest.fixture
def _without_strict_ranks(monkeypatch: pytest.MonkeyPatch):
    """Allows what the models do: promote ranks, and name the limits of `jnp.clip` as JAX once did."""
    clip: Callable = jnp.clip
    monkeypatch.setattr(jnp, "clip", lambda x, a_min=None, a_max=None, **rest: clip(x, a_min, a_max, **rest))
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family(family: Family, monkeypatch: pytest.MonkeyPatch):
    config = getattr(transformers, f"{family.name}Config")(**family.config)
    model = getattr(transformers, f"Flax{family.name}Model")(config)
    variables, options = {"params": model.params}, dict.fromkeys(family.options)
    predict = jl.stochastic(
        model.module, variables, family.inputs, unpack=True, deterministic=False, **options
    )
    asked, make_rng = set(), Scope.make_rng
    with monkeypatch.context() as patch:
        patch.setattr(
            Scope, "make_rng", lambda self, name: asked.add("/".join(self.path)) or make_rng(self, name)
        )
        rngs = dict.fromkeys(family.streams, KEY)
        apply = partial(model.module.apply, **options, deterministic=False)
        expected = jax.jit(lambda rngs: apply(variables, **family.inputs, rngs=rngs))(rngs)
    assert {site.path for site in predict.sites} == asked
    for mine, theirs in zip(
        *map(jax.tree.leaves, (jax.jit(predict)(KEY, family.inputs), expected)), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)
    samples = mc.sample(predict, KEY, family.inputs, num_samples=3)
    deviation = np.std(np.asarray(jax.tree.leaves(samples)[0], np.float64), 0)
    assert (deviation > 1e-6).mean() > 0.5


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_evaluation_is_refused_where_draws_are_missing(family: Family):
    config = getattr(transformers, f"{family.name}Config")(**family.config)
    model = getattr(transformers, f"Flax{family.name}Model")(config)
    variables, options = {"params": model.params}, dict.fromkeys(family.options)
    if family.name in BY_HAND:
        with pytest.raises(
            ValueError, match=r"with the arguments of training, deterministic=False: .* draws other"
        ):
            jl.stochastic(model.module, variables, family.inputs, unpack=True, **options)
    else:
        jl.stochastic(model.module, variables, family.inputs, unpack=True, **options)


def test_the_model_object_is_refused():
    model = transformers.FlaxBertModel(transformers.BertConfig(**BERT))
    with pytest.raises(TypeError, match="got FlaxBertModel: pass its `module`"):
        jl.stochastic(model, model.params, IDS)
