"""Files whole or not at all: `tests/_commands/test_app.py` has the writing."""

import math

from jaxdrop._report import files


def test_numbers_that_are_not_finite_become_null():
    assert files.as_json({"a": [1.5, math.nan, math.inf]}) == b'{\n "a": [\n  1.5,\n  null,\n  null\n ]\n}\n'
