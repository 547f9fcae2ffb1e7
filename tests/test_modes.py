"""Every public function in every mode of JAX, compiled twice in all: modes that can stand together do."""

import contextlib
import gc
import inspect
import types
from collections.abc import Iterator

import jax
import jax.export
import numpy as np
import pytest
from jax.sharding import AxisType

import jaxdrop
from jaxdrop import drops, masks
from jaxdrop._types import PyTree
from tests.calls import CALLS, Call
from tests.calls.meshes import OF_FLAX, placed

pytestmark = pytest.mark.usefixtures("compiled_in_haste")
MODULES = [module for name in jaxdrop.__all__ if inspect.ismodule(module := getattr(jaxdrop, name))]


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
    """No implicit dtypes, ranks or transfers, no NaN on the way, no leaked tracers, no key used twice."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
        jax.checking_leaks(),
        jax.debug_key_reuse(True),
    ):
        yield


def read_back(one: Call) -> PyTree:
    """The result of a program that was exported for two platforms, serialized and read back."""
    exported = jax.export.export(jax.jit(one.run), platforms=("cpu", "cuda"))(*one.fresh())
    with contextlib.suppress(ImportError):  # flatbuffers, of the extra `test`
        exported = jax.export.deserialize(exported.serialize())
    return exported.call(*one.fresh())


def in_all_modes(one: Call, kind: AxisType) -> PyTree:
    """The result of a program of 64 bits and strict modes, of arrays sharded over a mesh of two axes."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind,) * 2, devices=jax.devices()[:4])
    with strict(), jax.enable_x64(True):
        if not one.traced:
            return one()
        with jax.set_mesh(mesh):
            args = placed(mesh, one.fresh())
            program = jax.jit(one.run).lower(*args).compile()
            with jax.transfer_guard("disallow"):
                return program(*args)


@pytest.mark.parametrize("name", CALLS)
def test_a_serialized_program_and_all_modes_at_once(name: str):
    """The results of both are close: a number of another width, a place on another device changes none."""
    one = CALLS[name]
    found = read_back(one) if one.traced else one()
    wide = in_all_modes(one, AxisType.Auto if name in OF_FLAX else AxisType.Explicit)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wide)


# One for each use of loops and compiled functions; operation by operation the others take long.
LOOPS = ["mc.estimate", "mc.sample", "uncertainty.ece", "uncertainty.fit_temperature"]


@pytest.mark.parametrize("name", LOOPS)
def test_without_jit(name: str):
    found = CALLS[name]()
    with jax.disable_jit():
        plain = CALLS[name]()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, plain)


# Public names that need no call: what others return or take, and what every estimate calls.
NO_CALL = {
    "mc.": {"Estimate", "Grouped", "LastLayer", "Reducer", "State", "accumulate", "finish"},
    "optim.": {"HaltState"},
    "penalties.": {"is_weight"},
    "schedules.": {"Schedule"},
    "training.": {"LossFn", "Recipe", "TrainState", "Trainer"},
    "uncertainty.": {
        *{"AdaptiveSets", "CQR", "Isotonic", "LAC", "Reliability", "RiskCoverage", "Selection"},
        *{"Temperature", "Variance", "VectorScaling"},
    },
}


@pytest.mark.parametrize("module", [*MODULES, drops, masks], ids=lambda module: module.__name__)
def test_every_public_name_has_a_call(module: types.ModuleType):
    prefix = module.__name__.removeprefix("jaxdrop.") + "."
    called = {name.removeprefix(prefix).split(" of ")[0] for name in CALLS if name.startswith(prefix)}
    assert called | NO_CALL.get(prefix, set()) == set(module.__all__)
