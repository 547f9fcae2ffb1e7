"""Every public function of `mc` and `uncertainty` in the modes of JAX that refuse or find something."""

import contextlib
import gc
import inspect
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from jaxdrop import mc, uncertainty
from tests.calls import CALLS

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


@pytest.fixture(autouse=True, scope="module")
def _few_objects_to_search() -> Iterator[None]:
    """The check for leaks collects garbage after each trace, which takes long after thousands of tests."""
    jax.clear_caches()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """No implicit dtypes or ranks, no NaN on the way, no leaked tracers, no key used twice."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
        jax.checking_leaks(),
        jax.debug_key_reuse(True),
    ):
        yield


@pytest.mark.parametrize("name", CALLS)
def test_all_modes_at_once_and_x64(name: str):
    """The results of both are close: an integer or a number of another width changes none."""
    with strict():
        found = CALLS[name]()
        with jax.enable_x64(True):
            wide = CALLS[name]()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wide)


# One for each use of loops and compiled functions; operation by operation the others take long.
LOOPS = ["mc.estimate", "mc.sample", "uncertainty.ece", "uncertainty.fit_temperature"]


@pytest.mark.parametrize("name", LOOPS)
def test_without_jit(name: str):
    found = CALLS[name]()
    with jax.disable_jit():
        plain = CALLS[name]()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, plain)


def test_every_function_is_called():
    named = {name.split()[0] for name in CALLS}
    public = {
        f"{module.__name__.removeprefix('jaxdrop.')}.{name}"
        for module in (mc, uncertainty)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name)) or hasattr(getattr(module, name), "summarize")
    }
    # Others call these four: `estimate` every reducer, and it is made of the two.
    assert public - named == {"mc.Grouped", "mc.Reducer", "mc.accumulate", "mc.finish"}
