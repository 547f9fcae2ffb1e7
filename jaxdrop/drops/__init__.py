"""The family of regularizers: pure functions of a key, an array and a rate, one per file."""

from jaxdrop.drops.alpha_dropout import alpha_dropout
from jaxdrop.drops.attention_dropout import attention_dropout
from jaxdrop.drops.concrete_dropout import concrete_dropout
from jaxdrop.drops.cutmix import cutmix
from jaxdrop.drops.cutout import cutout
from jaxdrop.drops.dot_product_attention import dot_product_attention
from jaxdrop.drops.drop_block import block_mask, drop_block
from jaxdrop.drops.drop_edge import drop_edge
from jaxdrop.drops.drop_head import drop_head
from jaxdrop.drops.drop_key import drop_key, drop_key_mask
from jaxdrop.drops.drop_layer import drop_layer
from jaxdrop.drops.drop_message import drop_message
from jaxdrop.drops.drop_node import drop_node
from jaxdrop.drops.drop_path import drop_path
from jaxdrop.drops.dropconnect import dropconnect
from jaxdrop.drops.dropout import dropout
from jaxdrop.drops.embedding_dropout import embedding_dropout
from jaxdrop.drops.feature_alpha_dropout import feature_alpha_dropout
from jaxdrop.drops.gaussian_dropout import gaussian_dropout
from jaxdrop.drops.gaussian_noise import gaussian_noise
from jaxdrop.drops.locked_dropout import locked_dropout
from jaxdrop.drops.manifold_mixup import manifold_mixup
from jaxdrop.drops.masksembles import masksembles, masksembles_masks
from jaxdrop.drops.mixout import mixout
from jaxdrop.drops.mixup import mixup
from jaxdrop.drops.neftune import neftune
from jaxdrop.drops.patch_dropout import patch_dropout
from jaxdrop.drops.shake_drop import shake_drop, shake_drop_mean
from jaxdrop.drops.shakeout import shakeout
from jaxdrop.drops.sparse_variational_dropout import sparse_kernel, sparse_variational_dropout
from jaxdrop.drops.spatial_dropout import spatial_dropout
from jaxdrop.drops.standout import standout, standout_mean
from jaxdrop.drops.subset_depth import subset_depth
from jaxdrop.drops.targeted_dropout import targeted_dropout
from jaxdrop.drops.variational_dropout import variational_dropout
from jaxdrop.drops.word_dropout import word_dropout
from jaxdrop.drops.zoneout import zoneout, zoneout_mean

__all__ = [
    "alpha_dropout",
    "attention_dropout",
    "block_mask",
    "concrete_dropout",
    "cutmix",
    "cutout",
    "dot_product_attention",
    "drop_block",
    "drop_edge",
    "drop_head",
    "drop_key",
    "drop_key_mask",
    "drop_layer",
    "drop_message",
    "drop_node",
    "drop_path",
    "dropconnect",
    "dropout",
    "embedding_dropout",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "gaussian_noise",
    "locked_dropout",
    "manifold_mixup",
    "masksembles",
    "masksembles_masks",
    "mixout",
    "mixup",
    "neftune",
    "patch_dropout",
    "shake_drop",
    "shake_drop_mean",
    "shakeout",
    "sparse_kernel",
    "sparse_variational_dropout",
    "spatial_dropout",
    "standout",
    "standout_mean",
    "subset_depth",
    "targeted_dropout",
    "variational_dropout",
    "word_dropout",
    "zoneout",
    "zoneout_mean",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
