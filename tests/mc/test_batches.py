"""Batches of arrays and of iterables, padded, and read one ahead."""

import threading
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.mc import _batches

X = np.arange(20.0).reshape(10, 2)
LABELS = np.arange(10)


def source(data, targets=None, batch_size=None, exact=False) -> _batches.Source:
    return _batches.source(data, targets, batch_size, exact=exact)


def loaded(found: _batches.Source) -> list[_batches.Examples]:
    batches = list(found.batches)
    examples = [batch.load() for batch in batches]
    assert [batch.rows for batch in batches] == [_batches.count(one) for one in examples]
    return examples


def test_batches_of_arrays():
    found = source({"image": X}, LABELS, 4)
    assert (found.size, found.total) == (4, 10)
    x, targets = zip(*loaded(found), strict=True)
    np.testing.assert_array_equal(np.concatenate([one["image"] for one in x]), X)
    np.testing.assert_array_equal(np.concatenate(targets), LABELS)
    assert [len(one) for one in targets] == [4, 4, 2]


def test_examples_of_a_part():
    assert [source(X, None, 4).rows_of(i, 2) for i in range(2)] == [6, 4]
    assert [source(X, None, 4).rows_of(i, 5) for i in range(5)] == [4, 4, 2, 0, 0]
    assert source(iter([X])).rows_of(0, 1) is None


def test_a_batch_larger_than_the_data():
    assert source(X, None, 64).size == 10
    assert source(X, None, 64, exact=True).size == 64


def test_batches_of_an_iterable():
    Pair = namedtuple("Pair", ["left", "right"])
    for give, x, targets in (
        (lambda part: X[part], lambda part: X[part], None),
        (lambda part: (X[part], LABELS[part]), lambda part: X[part], LABELS),
        (lambda part: [jnp.asarray(X[part], jnp.float32), LABELS[part]], lambda part: X[part], LABELS),
        (lambda part: {"a": X[part]}, lambda part: {"a": X[part]}, None),
        (lambda part: Pair(X[part], X[part]), lambda part: Pair(X[part], X[part]), None),
    ):
        parts = [slice(0, 4), slice(4, 8), slice(8, 10)]
        found = source(give(part) for part in parts)
        assert (found.size, found.total) == (4, None)
        for part, one in zip(parts, loaded(found), strict=True):
            jax.tree.map(np.testing.assert_array_equal, one.x, x(part))
            assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(one))
            np.testing.assert_array_equal(one.targets, None if targets is None else targets[part])


def test_an_iterable_may_fill_one_array_again_and_again():
    def reused():
        room = np.empty((4, 2))
        for i in range(3):
            room[:] = i
            yield room

    found = [batch.load().x for batch in source(reused()).batches]
    assert [x[0, 0] for x in found] == [0, 1, 2]


def test_padding_repeats_the_last_example():
    found = _batches.padded(_batches.Examples(X[:3], LABELS[:3]), 5)
    np.testing.assert_array_equal(found.targets, [0, 1, 2, 2, 2])
    np.testing.assert_array_equal(found.x[3:], X[[2, 2]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ([[1.0, 2.0], [3.0, 4.0]], None, 1),
            TypeError,
            r"`data` must be arrays .* got a list: pass `numpy.st",
        ),
        (
            ({"x": [[1.0, 2.0]]}, None, 1),
            TypeError,
            r"axis of examples, got float at \['x'\]\[0\]\[0\]: convert",
        ),
        ((X, [0, 1], 1), TypeError, r"`targets` must hold arrays .* got int at \[0\]: convert lists of rows"),
        ((np.array(["a", "b"]), None, 1), TypeError, r"must hold numbers, got dtype <U1"),
        ((X, LABELS[:3], 4), ValueError, r"must share one number of examples, at least 1, got 3, 10"),
        ((X, None, None), TypeError, r"`batch_size` must be an integer, got None"),
        ((iter([]),), ValueError, r"`data` must yield at least one batch, got none"),
        ((iter([X]), LABELS), ValueError, r"`targets` must be None if `data` is an iterable"),
        (
            (iter([X]), None, 4),
            ValueError,
            r"`batch_size` must be None if `data` is an iterable of batches, got 4",
        ),
        (
            (iter([(X, LABELS, X)]),),
            ValueError,
            r"yield pairs \(x, targets\), or x alone .* got a tuple of 3",
        ),
        ((iter([[1.0, 2.0]]),), TypeError, r"`data` must hold arrays with an axis of examples, got float"),
        ((iter([(X, LABELS[:3])]),), ValueError, r"must share one number of examples, at least 1, got 3, 10"),
        ((iter([X[:2], X[:3]]),), ValueError, r"no larger than the first, of 2, got 3 in batch 1"),
        (
            (iter([X, X.astype(int)]),),
            ValueError,
            r"got int64\[2\] at \.x in batch 1 after float64\[2\] at \.x",
        ),
        ((iter([X, (X, LABELS)]),), ValueError, r"yield batches of one structure, shape and dtype, got"),
        ((iter([X, X[:, :1]]),), ValueError, r"got float64\[1\] at \.x in batch 1 after float64\[2\]"),
    ],
)
def test_data_that_are_refused(arguments: tuple, error: type, message: str):
    with pytest.raises(error, match=message):
        loaded(source(*arguments))


def test_one_item_is_made_ahead():
    made = [threading.Event() for _ in range(4)]

    def items():
        for i, event in enumerate(made):
            assert threading.current_thread() is not threading.main_thread()
            event.set()
            yield i

    for i in _batches.ahead(items()):
        assert all(event.wait(10) for event in made[: i + 2])
        assert not any(event.is_set() for event in made[i + 2 :])
    assert i == 3


def test_an_error_of_the_thread_is_raised_where_its_item_is_due():
    def items():
        yield 1
        raise OSError("the disk is gone")

    found = _batches.ahead(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)


def test_the_thread_has_the_settings_of_the_caller():
    device = jax.devices("cpu")[1]
    with jax.enable_x64(True), jax.default_device(device):
        (found,) = _batches.ahead(jax.device_put(row) for row in X[:1])
    assert found.dtype == jnp.float64
    assert found.devices() == {device}


def test_each_item_comes_after_the_next_is_made():
    made = []

    def items(stop: int | None = None, error: BaseException = OSError("no more")):  # noqa: B008
        for i in range(3):
            if i == stop:
                raise error
            made.append(i)
            yield i

    assert [(item, len(made)) for item in _batches.one_late(items())] == [(0, 2), (1, 3), (2, 3)]
    assert list(_batches.one_late(iter(()))) == []
    late = _batches.one_late(items(stop=2))
    assert [next(late), next(late)] == [0, 1]
    with pytest.raises(OSError, match="no more"):
        next(late)
    late = _batches.one_late(items(stop=1, error=KeyboardInterrupt("no more")))
    assert next(late) == 0
    with pytest.raises(KeyboardInterrupt):
        next(late)
