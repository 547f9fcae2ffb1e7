"""Settings of all tests: eight devices of the CPU beside the default device, and products in full.

The default device is the CPU, unless `JAX_PLATFORMS` says otherwise: `cuda,cpu` puts a GPU first. On a CPU,
programs are compiled without most of LLVM's optimizations, as most tests compile much and run it once.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
if os.environ.setdefault("JAX_PLATFORMS", "cpu") == "cpu":
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
else:
    # By default the order of a GPU's sums is left to chance, and some results are compared to the bit.
    os.environ["XLA_FLAGS"] += " --xla_gpu_deterministic_ops=true"
# By default a GPU rounds the factors of a product to 10 bits (tf32): tolerances hold for float32.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")

import jax
import pytest

# Folders and files whose tests say something about the default device: random bits, arithmetic, shardings.
ON_DEVICE = {"drops", "mc", "optim", "training"}
ON_DEVICE |= {f"test_{name}.py" for name in ("bits", "carries", "fixed_draws", "laws", "losses", "masks")}
ON_DEVICE |= {f"test_{name}.py" for name in ("attention", "penalties", "recurrent")}


@pytest.hookimpl(tryfirst=True)  # before `-m device` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(tests) and ON_DEVICE & set(item.path.relative_to(tests).parts):
            item.add_marker(pytest.mark.device)


@pytest.fixture(autouse=True, scope="module")
def ranks(request: pytest.FixtureRequest):
    """JAX's strict mode, for users who have it on; the experiments are written as most users write."""
    strict = "experiments" not in request.node.path.parts
    with jax.numpy_rank_promotion("raise" if strict else "allow"):
        yield


@pytest.fixture(scope="module")
def browser():
    """A real browser; see `tests/browser.py`."""
    from tests.browser import launched

    with launched() as started:
        yield started


@pytest.fixture
def few_objects_to_search():
    """For tests that collect garbage, as JAX's check for leaks does: what is older is not searched.

    After thousands of tests each collection takes a second.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def on_cpu():
    """For tests that read a program compiled for the CPU, or its memory."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.fixture
def compiled_in_haste():
    """For tests that compile much and run it once, on any device."""
    yield from optimizations(False)


@pytest.fixture
def optimized():
    """For tests of the programs that users run, on any device."""
    yield from optimizations(True)


def optimizations(kept: bool) -> Iterator[None]:
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", not kept)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
