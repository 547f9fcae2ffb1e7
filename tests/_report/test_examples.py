"""The examples that are shown: images, texts and rows, by their uncertainty."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop._report import examples

TEN = np.arange(10)


def shown_as(data, show=None, columns=None):
    return examples.shown(data, show, columns, 10)


def test_what_is_shown():
    assert shown_as(np.zeros((10, 8, 8))).how == "image"
    assert shown_as(np.zeros((10, 8, 8, 3))).how == "image"
    assert shown_as(np.zeros((10, 8, 8, 5))).how == ""
    assert shown_as(np.zeros((10, 8, 8)), ["a"] * 10).how == "text"
    assert shown_as(np.zeros((10, 8, 8)), np.array(["a"] * 10, object)).how == "text"
    assert shown_as({"a": np.zeros((10, 3)), "b": np.zeros(10)}).columns == ["x0", "x1", "x2"]
    assert shown_as(np.zeros(10), columns=["size"]).columns == ["size"]
    with pytest.raises(ValueError, match="`show` must have the 10 examples of the data, got shape"):
        shown_as(np.zeros(10), np.zeros(9))
    with pytest.raises(ValueError, match="`columns` must have 3 names, one per column of the data, got 1"):
        shown_as(np.zeros((10, 3)), columns=["a"])
    assert shown_as(np.zeros((10, 0, 3))).how == ""
    with pytest.raises(ValueError, match="`show` must have axes that are not empty, got shape"):
        shown_as(np.zeros(10), np.zeros((10, 0)))
    with pytest.raises(ValueError, match="`show` must hold texts, or numbers of one shape per example"):
        shown_as(np.zeros(10), [[1], [1, 2]] * 5)
    with pytest.raises(TypeError, match="`show` must hold numbers or texts, got dtype complex128"):
        shown_as(np.zeros(10), np.zeros(10, complex))


def test_names_of_classes():
    assert examples.check_names(None, 2) == ["0", "1"]
    assert examples.check_names(("cat", "dog"), 2) == ["cat", "dog"]
    # An override of the direction ends with the name; what would end its isolation is left out.
    assert examples.check_names(["\u202ea\u2069", "b"], 2) == ["\u2068\u202ea\u2069", "b"]
    with pytest.raises(ValueError, match="`names` must have 2 names, one per class, got 3"):
        examples.check_names(["a", "b", "c"], 2)
    for names in ("ab", [1, 2]):
        with pytest.raises(TypeError, match="`names` must be a sequence of strings, one per class"):
            examples.check_names(names, 2)


def test_the_most_and_the_least_certain():
    doubt = np.array([3.0, 1, 2, 9, 8, 7, 6, 5, 4, 0])
    what = shown_as(np.arange(10.0))
    options = {"lines": lambda place: [f"doubt {doubt[place]:g}"], "wrong": doubt == 2}
    found = examples.groups(what, TEN, doubt, -doubt, **options)
    titles = {group.title: [card.title for card in group.cards] for group in found}
    assert titles["Most uncertain"] == [f"Example {i}" for i in (3, 4, 5, 6, 7, 8)]
    assert titles["Most certain"] == [f"Example {i}" for i in (9, 1, 2, 0, 8, 7)]
    assert titles["Most certain mistakes"] == ["Example 2"]
    card = found[0].cards[0]
    assert (card.row, card.lines) == ({"x0": "3"}, ["doubt 9"])
    numbers = examples.groups(what, TEN, doubt, -doubt, wrong=None, lines=lambda place: [])
    assert [card.title for card in numbers[2].cards][:2] == ["Example 9", "Example 1"]


def test_images_of_any_range_and_maps_beside_them():
    data = np.linspace(-5, 5, 10)[:, None, None] * np.ones((1, 4, 4))
    maps = [examples.colored(np.ones((4, 4), int), np.eye(4, dtype=bool)), np.zeros((4, 4))]
    options = {"lines": lambda place: [], "wrong": None, "maps": lambda place: maps}
    found = examples.groups(shown_as(data), TEN, np.arange(10.0), np.arange(10.0), **options)
    image = found[1].cards[0].image
    assert image.shape == (4, 4 * 3 + 2, 3)
    assert (image[:, :4] == 0).all()
    assert image.min() >= 0
    assert image.max() <= 1
    assert found[1].cards[0].alt == "Example 0: input, target, prediction and entropy, from left to right"
    chosen = np.arange(10.0)
    bytes_ = shown_as(data.astype(np.uint8))
    plain = examples.groups(bytes_, TEN, chosen, chosen, wrong=None, lines=lambda _: [])
    assert plain[0].cards[0].image.dtype == np.uint8


def test_half_precision():
    data = jnp.arange(20, dtype=jnp.bfloat16).reshape(10, 2)
    options = {"wrong": None, "lines": lambda _: []}
    found = examples.groups(shown_as(data), TEN, np.arange(10.0), np.arange(10.0), **options)
    assert found[1].cards[0].row == {"x0": "0", "x1": "1"}
    images = shown_as(np.asarray(data)[:, :, None])
    assert (
        examples.groups(images, TEN, np.arange(10.0), np.arange(10.0), **options)[0].cards[0].image.max() == 1
    )


def test_long_rows_are_cut():
    data = np.ones((10, 30))
    found = examples.groups(shown_as(data), TEN, data[:, 0], data[:, 0], wrong=None, lines=lambda _: [])
    card = found[0].cards[0]
    assert len(card.row) == 13
    assert card.row["and more"] == "18 columns"
