"""What names tell of a leaf, on trees as other libraries write them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import _names, _selection

# Paths of leaves of Flax, Haiku, Equinox, Keras, torch and transformers that multiply activations.
WEIGHTS = [
    "kernel",
    "",
    "Dense_0/kernel",
    "MultiHeadDotProductAttention_0/query/kernel",
    "Dense_0/kernel/lora_b",
    "mlp/~/linear_0/w",
    "lstm/linear/w_i",
    "layers/0/weight",
    "cell/weight_hh",
    "lin_embed/weight",
    "encoder.layer.0.output.dense.weight",
    "pos_proj/kernel",
    "pos_conv_embed/conv/kernel",
    "cls/predictions/transform/kernel",
    "normal_head/kernel",
    "ssm/B",
    "wte/embedding",
    "embed/embeddings",
    "word_embeddings/embedding",
    "token_type_embeddings/embedding",
    "embeddings/patch_embeddings/projection/kernel",
    "pose_embedding",
    "composition",
    "expos",
    "embed_composition/weight",
    "abnormal/weight",
    "normals/weight",
    "normal_head/weight",
    "position_encoder/weight",
    "patch_embed/weight",
]
OTHERS = [
    "bias",
    "Dense_0/bias",
    "attention/bias_k",
    "gru/bias_n",
    "linear/b",
    "layer_norm/offset",
    "bn/beta",
    "bn/gamma",
    "LayerNorm_0/scale",
    "block/layer_scale",
    "weight_norm/Dense_0/kernel/scale",
    "layers/0/norm/weight",
    "input_layernorm/weight",
    "blocks/ln_1/weight",
    "bn1/weight",
    "norm1/weight",
    "rmsnorm/weight",
    "post_attention_layernorm/weight",
    "q_norm/weight",
    "batch_normalization/weight",
    "BatchNorm2d_0/weight",
    "RMSNorm_0/weight",
    "encoder.layer.0.LayerNorm.weight",
    "PReLU_0/negative_slope",
    "VisionTransformer/cls",
    "embeddings/cls_token",
    "vit/mask_token",
    "register_tokens",
    "embeddings/class_embedding",
    "posembed_input/pos_embedding",
    "pos_embed",
    "transformer/pos_embs",
    "embeddings/position_embeddings",
    "position_embeddings/embedding",
    "position_embedding/embedding",
    "embed_positions/embedding",
    "wpe/embedding",
    "pos_embed/weight",
    "LearnedPositionEmbedding_0/embedding",
    "abspos_emb",
    "position_encoder/embedding",
    "relative_attention_bias/embedding",
    "relative_position_bias_table",
    "pos_bias_u",
    "dense/log_alpha",
    "dense/log_variance",
]


@pytest.mark.parametrize("path", WEIGHTS)
def test_weights(path):
    assert _names.is_weight(path)
    assert _selection.is_weight(path, jnp.ones((2, 3)))
    assert not _selection.is_weight(path, jnp.ones(3))


@pytest.mark.parametrize("path", OTHERS)
def test_others_even_where_layers_are_stacked(path):
    assert not _names.is_weight(path)
    assert not _selection.is_weight(path, jnp.ones((2, 3, 4)))


@pytest.mark.parametrize(
    ("path", "axes"),
    [
        ("", (-1,)),
        ("Dense_0/kernel", (-1,)),
        ("mlp/w", (-1,)),
        ("wte/embedding", (-2,)),
        ("embed/embeddings", (-2,)),
        ("encoder.word_embeddings.weight", (-2,)),
        ("bert/token_type_embeddings/weight", (-2,)),
        ("model.embed_tokens.weight", (-2,)),
        ("Embedding_0/weight", (-2,)),
        ("wte/weight", (-2,)),
    ],
)
def test_units(path, axes):
    assert _names.units(path, None, 2) == axes
    assert _names.units(path, 0, 2) == (0,)
    assert _names.units(path, np.int64(-1), 2) == (-1,)
    assert _names.units(path, (1, 2), 3) == (1, 2)


@pytest.mark.parametrize(
    "path",
    [
        *("layers/0/weight", "gru.weight_hh", "cell/weight_ih", "ensemble/weight", "unembed/weight"),
        *("patch_embed/weight", "remember/weight", "lin_embed/weight"),
    ],
)
def test_units_that_a_name_does_not_tell(path):
    with pytest.raises(ValueError, match=f"`unit_axis` must be given for {path}, .*, got None"):
        _names.units(path, None, 2)


def test_a_kernel_named_as_an_embedding_is_no_table():
    """Equinox's convolution is [out, in, height, width]."""
    with pytest.raises(ValueError, match="`unit_axis` must be given for embed/weight, "):
        _names.units("embed/weight", None, 4)
