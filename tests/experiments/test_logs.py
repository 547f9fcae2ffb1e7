"""Live curves, read back from their event files."""

import sys

import numpy as np
import pytest

from experiments import cli, logs, loop
from tests.experiments import events


def write(folder, steps) -> None:
    with logs.writer(folder) as log:
        for step in steps:
            log(step, {"valid/L1 + L2": np.array([1.0, 2.0, 6.0]) * step, "train/one": np.array(0.5)})


@pytest.mark.parametrize(("place", "name"), [("tmp_path", "[b]x"), ("bucket", "b")])
def test_a_curve_is_the_mean_and_the_deviation_of_its_runs(place, name, request):
    folder = request.getfixturevalue(place) / name / "c"
    write(folder, (2, 4))
    write(folder, (2, 4, 6))  # a run that was resumed, or given again
    found = events.points(folder)
    assert set(found) == {"valid/L1_L2", "valid_deviation/L1_L2", "train/one"}
    assert found["valid/L1_L2"] == [(2, 6.0), (4, 12.0), (6, 18.0)]
    np.testing.assert_allclose(found["valid_deviation/L1_L2"][0], (2, 2 * np.sqrt(7)), rtol=1e-6)
    assert found["train/one"] == [(2, 0.5), (4, 0.5), (6, 0.5)]


def test_without_a_folder_nothing_is_written():
    write(None, (1,))
    assert loop.ALONE.log_folder("a/checkpoints") is None


def test_a_missing_library_is_told_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(cli.BadInputError, match=r"must have tensorboardX installed.*jaxdrop\[logs\]"):
        loop.make_setup(None, tmp_path, tmp_path / "logs")
    assert loop.make_setup(2, tmp_path, None) == loop.Setup(2, tmp_path, None)
    assert not list(tmp_path.iterdir())
