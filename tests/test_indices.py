"""Indices of elements; `test_bits.py` has those that pass 32 bits."""

import numpy as np

from jaxdrop import _indices


def test_the_coordinates_are_those_of_the_elements():
    shape = (2, 3, 5)
    for found, expected in zip(_indices.coordinates(shape), np.indices(shape), strict=True):
        np.testing.assert_array_equal(found, expected)
    row, place = (np.broadcast_to(part, shape) for part in _indices.row_and_place(shape))
    np.testing.assert_array_equal(row * 5 + place, np.arange(30).reshape(shape))
