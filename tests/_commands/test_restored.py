"""Models with stored variables: every leaf is there, of its shape and dtype."""

import jax
import numpy as np
import orbax.checkpoint
import pytest
import safetensors.flax
from flax import nnx

from jaxdrop._commands import restored
from jaxdrop._commands.app import BadInputError
from tests._commands.predictors import Linen, of_nnx

X = np.ones((1, 4), np.float32)
PARAMS = Linen().init(jax.random.key(3), X, train=False)["params"]
KERNEL, BIAS = PARAMS["Dense_0"]["kernel"], PARAMS["Dense_0"]["bias"]


def kernel_of(path, model=None, **arguments):
    """The kernel of a restored predictor."""
    predict = restored.predictor(model or Linen(), path, X, arguments)
    return next(leaf for leaf in jax.tree.leaves(predict) if np.shape(leaf) == (4, 4))


def stored(tmp_path, **arrays):
    """A file with a slash for each double underscore."""
    path = tmp_path / "variables.safetensors"
    safetensors.flax.save_file({name.replace("__", "/"): array for name, array in arrays.items()}, path)
    return path


def test_linen_from_safetensors(tmp_path):
    for first, sign in (("params", "/"), ("params", "."), (None, "/"), (None, ".")):
        names = {sign.join(filter(None, (first, "Dense_0", name))): name for name in ("kernel", "bias")}
        path = stored(tmp_path, **{name: PARAMS["Dense_0"][leaf] for name, leaf in names.items()})
        np.testing.assert_array_equal(kernel_of(path, train=True), KERNEL)


def test_from_a_folder_of_orbax(tmp_path):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "linen", {"params": PARAMS})
        state = nnx.state(of_nnx(), nnx.Param)
        checkpointer.save(tmp_path / "nnx", nnx.to_pure_dict(state))
    np.testing.assert_array_equal(kernel_of(tmp_path / "linen", train=True), KERNEL)
    np.testing.assert_array_equal(kernel_of(tmp_path / "nnx", of_nnx()), state["dense"]["kernel"][...])


def test_nnx_from_safetensors(tmp_path):
    path = stored(tmp_path, dense__kernel=KERNEL + 1, dense__bias=BIAS)
    np.testing.assert_array_equal(kernel_of(path, of_nnx()), KERNEL + 1)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"Dense_0__kernel": KERNEL}, "those of the model, got some without params/Dense_0/bias"),
        (
            {"Dense_0__kernel": KERNEL, "Dense_0__bias": BIAS, "more": BIAS},
            "those of the model, got some with the unknown more",
        ),
        (
            {"Dense_0__kernel": KERNEL.T[:3], "Dense_0__bias": BIAS},
            r"shape \(4, 4\) and dtype float32 at",
        ),
        ({"Dense_0__kernel": KERNEL.astype("bfloat16"), "Dense_0__bias": BIAS}, r"got \(4, 4\) and bfloat16"),
    ],
)
def test_variables_that_do_not_fit(tmp_path, arrays, words):
    with pytest.raises(BadInputError, match=words):
        kernel_of(stored(tmp_path, **arrays), train=True)


def test_files_that_hold_no_variables(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    for path in (tmp_path / "no", tmp_path / "a.safetensors", tmp_path):
        with pytest.raises(BadInputError, match="`variables` must be"):
            kernel_of(path, train=True)
    with pytest.raises(BadInputError, match="a function that returns a Linen or NNX module, got int"):
        restored.predictor(3, tmp_path, X, {})
