"""The contests of the family: every pure member contends, and draws what it says."""

import inspect

import jaxdrop
from experiments.benchmark import family

# Matrix products with parameters of their own have no plain dropout to be held against.
ELSEWHERE = {"variational_dropout", "sparse_variational_dropout", "drop_head", "locked_dropout"}
# Timed in the suite of attention.
ELSEWHERE |= {"dot_product_attention"}
# Not timed yet: two are `dropout` in another shape, the others have no peer here.
ELSEWHERE |= {"drop_message", "drop_node", "neftune", "shake_drop", "mixup", "cutmix", "manifold_mixup"}


def test_every_member_contends():
    titles, names = zip(
        *((title, set(members)) for title, _, _, members in family._groups(True)), strict=True
    )
    assert len(set(titles)) == len(titles)
    words = {name.split(",")[0].split(" ")[0] for group in names for name in group}
    members = {
        name for name, value in vars(jaxdrop.drops).items() if inspect.isfunction(value) and name[0] != "_"
    }
    parts = {
        "block_mask",
        "drop_key_mask",
        "zoneout_mean",
        "standout_mean",
        "sparse_kernel",
        "masksembles_masks",
        "shake_drop_mean",
    }
    assert members - words - parts - ELSEWHERE == {"dropout", "gaussian_noise", "embedding_dropout"}
