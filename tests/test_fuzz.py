"""Random calls of the whole public API: a right value, or an error of ours that names the argument.

The default run is short and always the same. A long one: `JAXDROP_FUZZ=600 pytest tests/test_fuzz.py`
tries new calls for so many seconds per test.
"""
