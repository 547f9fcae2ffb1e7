"""The style: colors in turn, numbers with their errors, and what is said without matplotlib."""

import runpy
import sys

import pytest

import jaxdrop
from jaxdrop.plots import _axes


def test_without_matplotlib_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"`jaxdrop.plots` needs matplotlib; run `pip install "):
        runpy.run_path(_axes.__file__)
    assert "plots" not in jaxdrop.__all__
