"""Changes of the arguments of a valid call, and what a public function may answer to them."""

import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxdrop
from jaxdrop._types import PyTree
from tests.calls import Call, is_key

# Scores that are infinite for some finite arguments, as documented.
MAY_BE_INFINITE = {
    "uncertainty.conformal_quantile",
    "uncertainty.fit_box",
    "uncertainty.fit_cqr",
    "uncertainty.fit_group_quantile",
    "uncertainty.fit_residual",
    "uncertainty.fit_weighted_quantile",
    "uncertainty.gaussian_nll",
    "uncertainty.nll",
    "uncertainty.risk_threshold",
    # NaN of groups of one example, and standard errors of one example, as documented.
    "uncertainty.set_coverage",
    *(f"uncertainty.{name}_with_error" for name in ("aupr", "aurc", "auroc", "ece", "fpr95", "mean")),
    *(f"uncertainty.{name}" for name in ("auroc_difference", "finish")),
    *(f"uncertainty.tally_{name}" for name in ("auroc", "classwise_ece", "ece", "mean", "rms")),
}
# Calls in which Flax, optax or a user's function looks at the arguments first.
OF_OTHERS = (
    *("optim.", "training.", "linen.attention_fn", "nnx.attention_fn", "nnx.trainable"),
    *(f"{api}.{name}" for api in ("linen", "nnx") for name in ("stochastic", "EmbeddingDropout")),
    *(
        f"{api}.{name}"
        for api in ("linen", "nnx")
        for name in ("DropConnect", "DropLayer", "TargetedDropout")
    ),
    *(f"{api}.{name}" for api in ("linen", "nnx") for name in ("RecurrentDropoutCell", "ZoneoutCell")),
)
# Functions that look at some leaves of a tree only.
OF_TREES = {f"penalties.{name}" for name in ("group_lasso", "l1", "l1_l2", "l2", "l2_sp", "weight_mask")}
OF_TREES |= {"drops.mixout", "drops.dropconnect"}
HOME = str(Path(jaxdrop.__file__).parent)
DTYPES = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "uint32", "bool", "complex64")
# Other values of a rate, a strength or a level.
SCALARS: dict[str, PyTree] = {
    "0": 0,
    "1": 1.0,
    "True": True,
    "half": np.float16(0.5),
    "subnormal": 1e-40,
    "tiny": 1e-300,
    "near one": 1 - 1e-9,
    "above one": 1.5,
    "negative": -0.1,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "text": "0.5",
    "None": None,
    "complex": 0.5j,
    "one element": np.array([0.5]),
    "list": [0.5],
    "empty": np.zeros((0,)),
    "three": np.array([0.1, 0.2, 0.3]),
    "int64": np.int64(1),
    "float64": np.float64(0.25),
}
KEYS: dict[str, Callable[[jax.Array], PyTree]] = {
    "legacy": lambda key: jax.random.PRNGKey(3),
    "NumPy": lambda key: np.asarray(jax.random.PRNGKey(3)),
    "rbg": lambda key: jax.random.key(3, impl="rbg"),
    "unsafe_rbg": lambda key: jax.random.key(3, impl="unsafe_rbg"),
    "legacy rbg": lambda key: jax.random.key_data(jax.random.key(3, impl="rbg")),
    "three": lambda key: jax.random.split(key, 3),
    "one of a batch": lambda key: jax.random.split(key, 1),
    "number": lambda key: 3,
    "None": lambda key: None,
    "floats": lambda key: np.zeros(2, np.float32),
    "empty": lambda key: np.zeros((0,), np.uint32),
    "three words": lambda key: np.zeros((3,), np.uint32),
}


def _with(value: float) -> Callable[[jax.Array], PyTree]:
    def change(array: jax.Array) -> PyTree:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return array
        return array.reshape(-1).at[0].set(value).reshape(array.shape)

    return change


ARRAYS: dict[str, Callable[[jax.Array], PyTree]] = {
    **{dtype: (lambda array, dtype=dtype: array.astype(dtype)) for dtype in DTYPES},
    "NumPy": np.asarray,
    "float64": lambda array: np.asarray(array, np.float64),
    "strided": lambda array: np.repeat(np.asarray(array), 2, axis=-1)[..., ::2],
    "reversed": lambda array: np.asarray(array)[::-1],
    "Fortran": lambda array: np.asfortranarray(array),
    "list": lambda array: np.asarray(array).tolist(),
    "no examples": lambda array: array[:0],
    "no features": lambda array: array[..., :0],
    "one example": lambda array: array[:1],
    "one feature": lambda array: array[..., :1],
    "rank 0": lambda array: array.reshape(-1)[0],
    "more axes": lambda array: array[None],
    "fewer axes": lambda array: array[0],
    "NaN": _with(float("nan")),
    "infinite": _with(float("inf")),
    "minus infinity": _with(float("-inf")),
    "large": _with(3e38),
    "subnormal": _with(1e-40),
    "zeros": jnp.zeros_like,
    "scalar": lambda array: 0.5,
    "None": lambda array: None,
    "text": lambda array: "data",
    "object": lambda array: object(),
}


def choices(leaf: jax.Array) -> dict[str, Callable[[jax.Array], PyTree]]:
    """Changes of an argument, by name."""
    if is_key(leaf):
        return KEYS
    if leaf.ndim == 0:
        return {name: lambda _, value=value: value for name, value in SCALARS.items()}
    return ARRAYS


def changed(
    name: str, one: Call, choose: Callable[[Sequence], PyTree], count: int = 1
) -> tuple[PyTree, list[str]]:
    """The arguments of a call with up to `count` of them changed, and what was changed."""
    leaves, tree = jax.tree.flatten(one.fresh())
    # Flax looks at the keys of its modules.
    given = [i for i, leaf in enumerate(leaves) if not (name.startswith(("linen.", "nnx.")) and is_key(leaf))]
    changes = {}
    for _ in range(count if given else 0):
        index = choose(given)
        options = choices(jax.tree.leaves(one.args)[index])
        changes[index] = choose(list(options))
        leaves[index] = options[changes[index]](jax.tree.leaves(one.fresh())[index])
    return jax.tree.unflatten(tree, leaves), [f"{index}: {change}" for index, change in changes.items()]


def fault(name: str, one: Call, args: PyTree) -> str | None:
    """What is wrong with the answer to these arguments; None if nothing is."""
    try:
        found = one.run(*args)
    except Exception as error:
        return _fault_of_error(error)
    return _fault_of_value(name, args, found)


def _fault_of_error(error: Exception) -> str | None:
    """Errors of ours name the argument first; a library's error that comes through is a fault."""
    *_, last = traceback.extract_tb(error.__traceback__)
    ours = last.filename.startswith(HOME)
    named = re.match(r"`[^`]+` must ", str(error))
    # `mc` refuses a prediction of NaN, whose values it sees late, with a FloatingPointError.
    if type(error) in (TypeError, ValueError, FloatingPointError) and ours and named:
        return None
    text = re.sub(r"\s+", " ", str(error))[:150]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {text}"


def _fault_of_value(name: str, args: PyTree, found: PyTree) -> str | None:
    given = [np.asarray(leaf) for leaf in jax.tree.leaves(args) if not is_key(leaf)]
    given = [leaf for leaf in given if leaf.dtype != object]
    if name not in OF_TREES and any(leaf.dtype.kind in "cU" for leaf in given):
        return "a value from complex numbers or text"
    finite = name not in MAY_BE_INFINITE and all(map(_is_moderate, given))
    results = [leaf for leaf in jax.tree.leaves(found) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    if finite and not all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in results):
        return "a value that is not finite, from finite arguments"
    return None


def _is_moderate(values: np.ndarray) -> bool:
    """Finite, and so far from the ends of float32 that sums and squares are as well."""
    sizes = np.abs(values.astype(np.float64))
    return bool(np.all((sizes == 0) | (sizes > 1e-30) & (sizes < 1e30)))
