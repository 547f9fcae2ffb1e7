"""Every public function in every mode of JAX, compiled twice in all: modes that can stand together do."""

import contextlib
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
from tests.devices import make_mesh

pytestmark = pytest.mark.usefixtures("compiled_in_haste", "few_objects_to_search")
MODULES = [module for name in jaxdrop.__all__ if inspect.ismodule(module := getattr(jaxdrop, name))]


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """The programs of thousands of tests take memory, and this file adds many."""
    jax.clear_caches()


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


def read_back(one: Call) -> jax.export.Exported:
    """A program that was exported for two platforms, serialized and read back."""
    exported = jax.export.export(jax.jit(one.run), platforms=("cpu", "cuda"))(*one.fresh())
    with contextlib.suppress(ImportError):  # flatbuffers, of the extra `test`
        return jax.export.deserialize(exported.serialize())
    return exported


@contextlib.contextmanager
def all_modes(name: str) -> Iterator[PyTree]:
    """64 bits and strict modes, and the arguments of a call sharded over an explicit mesh of two axes."""
    kinds = (AxisType.Auto if name in OF_FLAX else AxisType.Explicit,) * 2
    mesh = make_mesh((2, 2), ("a", "b"), kinds)
    with strict(), jax.enable_x64(True), jax.set_mesh(mesh):
        yield placed(mesh, CALLS[name].fresh())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CALLS if not name.startswith("nnx.")])
def test_a_serialized_program_and_all_modes_at_once(name: str):
    """The results of both are close: a number of another width, a place on another device changes none."""
    one = CALLS[name]
    if one.traced:
        found = read_back(one).call(*one.fresh())
        with all_modes(name) as args:
            program = jax.jit(one.run).lower(*args).compile()
            with jax.transfer_guard("disallow"):
                wide = program(*args)
    else:
        found = one()
        with strict(), jax.enable_x64(True):
            wide = one()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wide)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CALLS if name.startswith("nnx.")])
def test_modules_that_are_the_same_functions(name: str):
    """The values are held above: here each is traced in all modes, and serialized."""
    shapes = jax.tree.map(lambda kind: kind.shape, read_back(CALLS[name]).out_avals)
    with all_modes(name) as args:
        wide = jax.jit(CALLS[name].run).trace(*args).out_info
    assert list(shapes) == [kind.shape for kind in jax.tree.leaves(wide)]


# One for each use of loops and compiled functions; operation by operation the others take long.
LOOPS = ["mc.estimate", "mc.sample", "uncertainty.ece", "uncertainty.fit_temperature"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_without_jit(name: str):
    found = CALLS[name]()
    with jax.disable_jit():
        plain = CALLS[name]()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, plain)


# Public names that need no call: what others return or take, and what every estimate calls.
NO_CALL = {
    "mc.": {
        "Estimate",
        "Grouped",
        "Laplace",
        "LastLayer",
        "MomentsCheck",
        "OutputMoments",
        "Reducer",
        "SWAG",
        "SiteShares",
        "State",
        "accumulate",
        "finish",
    },
    "optim.": {"HaltState"},
    "penalties.": {"is_weight"},
    "schedules.": {"Schedule"},
    "training.": {
        *{"BatchFn", "Choice", "LossFn", "Recipe", "ScoreFn", "StatefulLossFn", "TrainState", "Trainer"},
        "Tuned",
    },
    "uncertainty.": {
        *{"AdaptiveSets", "BinnedScore", "CQR", "DDU", "FNRSets", "GroupQuantile", "Isotonic", "LAC"},
        *{"Mahalanobis", "QuantileReliability", "Recalibration", "RelativeMahalanobis", "Reliability"},
        *{"Report", "ReportRow", "Residual", "RiskCoverage", "Score", "Selection", "SetCoverage"},
        *{"StddevScale", "Tally", "Temperature", "Variance", "VectorScaling", "WeightedQuantile"},
    },
}


@pytest.mark.parametrize("module", [*MODULES, drops, masks], ids=lambda module: module.__name__)
def test_every_public_name_has_a_call(module: types.ModuleType):
    prefix = module.__name__.removeprefix("jaxdrop.") + "."
    called = {name.removeprefix(prefix).split(" of ")[0] for name in CALLS if name.startswith(prefix)}
    assert called | NO_CALL.get(prefix, set()) == set(module.__all__)
