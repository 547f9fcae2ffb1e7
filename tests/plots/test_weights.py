"""Shares of weights near zero."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import plots, sparse_kernel
from tests.plots.axes import axes

PARAMS = {
    "a": {"kernel": jnp.array([[0.0, 0.01], [1.0, -0.03125]], jnp.bfloat16), "bias": jnp.zeros(2)},
    "b": {"kernel": np.array([[0.0, 0.0, 3.0, 4.0]])},
}


def shares(ax) -> dict[str, float]:
    """The length of each bar by its label."""
    names = [text.get_text() for text in ax.get_yticklabels()]
    return dict(zip(names, [bar.get_width() for bar in ax.patches], strict=True))


def test_shares_by_leaf_and_of_all():
    ax = axes()
    assert plots.weight_sparsity(PARAMS, ax=ax) is ax
    assert shares(ax) == {"a/kernel": 0.25, "b/kernel": 0.5, "all": 3 / 8}
    assert [text.get_text() for text in ax.texts] == ["1 of 4", "2 of 4", "3 of 8"]
    assert ax.yaxis_inverted()
    near = plots.weight_sparsity(PARAMS, threshold=0.03125, where=[("a/*", 1)], ax=axes())
    assert shares(near) == {"a/kernel": 0.75, "a/bias": 1, "all": 5 / 6}
    assert near.get_xlabel() == "share of the weights that are at most 0.03125 in size"


def test_variational_kernels_count_as_they_are_pruned():
    kernel, log_variance = np.array([[1.0, 0.1, 0.2]]), np.array([[-10.0, 0.0, 0.0]])
    ax = plots.weight_sparsity({"d": {"kernel": kernel, "log_variance": log_variance}}, ax=axes())
    pruned = (np.asarray(sparse_kernel(kernel, log_variance)) == 0).mean()
    assert shares(ax) == {"d/kernel": pytest.approx(pruned), "all": pytest.approx(pruned)}
    assert pruned == pytest.approx(2 / 3)


def test_a_leaf_without_weights_has_none_near_zero():
    with np.errstate(invalid="raise"):
        ax = plots.weight_sparsity({"a": {"kernel": np.zeros((0, 2))}, "b": {"kernel": np.eye(2)}}, ax=axes())
    assert [bar.get_width() for bar in ax.patches] == [0, 0.5, 0.5]


def test_what_is_refused():
    with pytest.raises(ValueError, match="`threshold` must be finite and at least 0, got -1"):
        plots.weight_sparsity(PARAMS, threshold=-1)
    with pytest.raises(ValueError, match="`params` must not hold a NaN, got one at kernel"):
        plots.weight_sparsity({"kernel": np.full((2, 2), np.nan)})
    with pytest.raises(ValueError, match="`where` must select at least one leaf"):
        plots.weight_sparsity({"bias": np.zeros(2)})
    with pytest.raises(TypeError, match=r"`params` must be a floating-point array, got int.* at kernel"):
        plots.weight_sparsity({"kernel": np.ones((2, 2), int)})
