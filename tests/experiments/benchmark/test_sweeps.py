"""The contenders of the sweep train the same cells to the same parameters."""

import jax
import numpy as np
import pytest

from experiments.benchmark import sweeps


@pytest.mark.slow
def test_all_contenders_train_the_same_cells(compiled_in_haste):
    found = sweeps.programs(3, 2, (6, 5, 3))
    results = {name: program.call() for (name, _), program in found.items()}
    reference = results.pop(sweeps.ONE)
    assert set(results) == {sweeps.EACH, sweeps.STEP, sweeps.LOOP}
    for cells in results.values():
        assert len(cells) == 8
        together = jax.tree.map(lambda *leaves: np.stack(leaves), *cells)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), together, reference)
    # The cells differ, by seed, rate and decay.
    kernels = np.asarray(reference["layer_0"]["kernel"]).reshape(8, -1)
    assert len(np.unique(kernels, axis=0)) == 8
    assert all(program.compile_seconds > 0 for program in found.values())
