"""Checks that several files share."""

import numpy as np
import pytest

from jaxdrop.uncertainty import _examples


def test_groups_that_a_mask_leaves_out_are_0():
    groups, where = np.array([2, 255, 1], np.int64), np.array([True, False, True])
    found = _examples.check_groups(groups, 3, where)
    np.testing.assert_array_equal(found, [2, 0, 1])
    assert found.dtype == np.int32
    with pytest.raises(ValueError, match=r"`groups` must lie in \[0, 2\], got 255\."):
        _examples.check_groups(groups, 3)
    with pytest.raises(ValueError, match=r"`groups` must lie in \[0, 2\], got 4\.29497e\+09\."):
        _examples.check_groups(np.array([2**32]), 3)  # which a cast to 32 bits would make 0


def test_binary_labels_that_a_mask_leaves_out_are_0():
    where = np.array([[True, False]])
    probs, labels, _ = _examples.check_binary(np.array([[0.25, np.nan]]), np.array([[1, 255]]), where)
    np.testing.assert_array_equal(probs, [[0.25, 0.5]])
    np.testing.assert_array_equal(labels, [[1, 0]])
    with pytest.raises(ValueError, match=r"`probs` must lie in \[0, 1\], got 1\.5\."):
        _examples.check_probs(np.array([1.5]))
