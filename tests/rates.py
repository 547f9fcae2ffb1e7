"""Faults of `rates`, which both APIs refuse in the same words."""

import pytest

FAULTS = pytest.mark.parametrize(
    ("rates", "error", "message"),
    [
        ([("*", 0.1)], TypeError, "`rates` must be a dict from patterns of paths to rates, .* got list."),
        ({}, ValueError, "`rates` must have at least one pattern, got none."),
        ({1: 0.1}, TypeError, "`rates` must have patterns of paths as keys, got 1."),
        ({"*": 1.5}, ValueError, r"`rates\['\*'\]` must lie in \[0, 1\], got 1.5."),
        ({"*": "high"}, TypeError, r"`rates\['\*'\]` must be a real number"),
        ({"*": [0.1, 0.2]}, ValueError, r"`rates\['\*'\]` must be a scalar, got shape \(2,\)."),
        ({"hed": 0.1}, ValueError, "must have patterns that match the path of a site, got 'hed'; .* head"),
        ({"*d": 0.1, "head": 0.2, "mi?": 0.2}, ValueError, "'\\*d' matches only sites already taken .*: "),
        (
            {"h*": 0.1, "*d": 0.2},
            ValueError,
            "one longest pattern for each site, got 'h\\*' and '\\*d' for 'head'",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
